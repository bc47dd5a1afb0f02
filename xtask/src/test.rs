//! `cargo xtask test [TIER...]`: the tiers, each with what it needs.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::setup::{Part, setup};
use crate::{build_ebpf, shell};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Only these tiers; default: all but kernels, which takes minutes.
    tiers: Vec<Tier>,
    /// Only tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
}

/// Test tiers, least powerful first.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Inside the crates.
    Unit,
    /// Objects → model, golden files.
    Translate,
    /// The proxy in process, over loopback.
    Proxy,
    /// The same requests to a real nginx and to Portcullis.
    Parity,
    /// Single packets through the kernel programs (root).
    Packet,
    /// Network namespaces (root).
    Datapath,
    /// The chart, rendered by helm.
    Chart,
    /// A real kube-apiserver with two nodes (root).
    Cluster,
    /// Other kernels in virtual machines, by their tests of the tiers packet and datapath (root).
    Kernels,
}

impl Tier {
    /// What runs when none is named.
    const DEFAULT: [Self; 8] = [
        Self::Unit,
        Self::Translate,
        Self::Proxy,
        Self::Parity,
        Self::Packet,
        Self::Datapath,
        Self::Chart,
        Self::Cluster,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Translate => "translate",
            Self::Proxy => "proxy",
            Self::Parity => "parity",
            Self::Packet => "packet",
            Self::Datapath => "datapath",
            Self::Chart => "chart",
            Self::Cluster => "cluster",
            Self::Kernels => "kernels",
        }
    }

    /// Whether its tests start `portcullis` as processes.
    fn runs_binary(self) -> bool {
        matches!(self, Self::Datapath | Self::Cluster | Self::Kernels)
    }

    fn needs_root(self) -> bool {
        matches!(self, Self::Packet | Self::Datapath | Self::Cluster | Self::Kernels)
    }

    /// What must be installed for it.
    fn parts(self) -> &'static [Part] {
        match self {
            Self::Unit | Self::Translate => &[],
            Self::Proxy => &[Part::Proxy],
            Self::Parity => &[Part::Parity],
            Self::Packet => &[Part::Kernel],
            Self::Datapath => &[Part::Kernel, Part::Network],
            Self::Chart => &[Part::Chart],
            Self::Cluster => &[Part::Kernel, Part::Network, Part::Cluster],
            Self::Kernels => &[Part::Kernel, Part::Network, Part::Machine],
        }
    }

    fn command(self) -> Command {
        let mut cargo = shell::cargo();
        cargo.args(["test", "--quiet", "--no-fail-fast"]);
        match self {
            Self::Unit => cargo.args(["--package", "ingress-common", "--package", "ingress-userspace"]),
            tier => cargo.args(["--package", "ingress-tests", "--test", tier.name()]),
        };
        if self == Self::Unit {
            cargo.args(["--package", "xtask", "--package", "ingress-tests", "--lib", "--bins"]);
        }
        cargo
    }
}

/// Of a tier that failed, so many of its last lines are repeated at the end: whoever reads a long log from its end
/// sees why.
const RECAP_LINES: usize = 40;

/// The binary with the next layout of kernel maps, beside the one that is built next: tests upgrade to it and back.
fn build_next_layout() -> anyhow::Result<()> {
    let features = ["--features", "next-layout", "--bin", "portcullis"];
    shell::run(shell::cargo().args(["build", "--quiet", "--package", "ingress-userspace"]).args(features))?;
    let folder = build_ebpf::target_dir().join("debug");
    let copy = folder.join("portcullis-next-layout");
    std::fs::copy(folder.join("portcullis"), &copy)
        .with_context(|| format!("cannot write {}", copy.display()))
        .map(drop)
}

/// Runs the tiers in order; a tier named in `INGRESS_TEST_SKIP` (comma-separated) is skipped, loudly.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<()> {
    let skipped = std::env::var("INGRESS_TEST_SKIP").unwrap_or_default();
    let chosen = if args.tiers.is_empty() { Tier::DEFAULT.to_vec() } else { args.tiers.clone() };
    let is_skipped = |tier: Tier| skipped.split(',').any(|skip| skip.trim() == tier.name());
    let mut parts: Vec<Part> = Vec::new();
    for part in chosen.iter().filter(|tier| !is_skipped(**tier)).flat_map(|tier| tier.parts()) {
        if !parts.contains(part) {
            parts.push(*part);
        }
    }
    setup(&parts)?;
    if parts.contains(&Part::Kernel) {
        build_ebpf::run(&build_ebpf::BuildArgs::default())?;
    }
    if chosen.contains(&Tier::Datapath) && !is_skipped(Tier::Datapath) {
        build_next_layout()?;
    }
    if chosen.iter().any(|tier| tier.runs_binary() && !is_skipped(*tier)) {
        shell::run(shell::cargo().args(["build", "--quiet", "--package", "ingress-userspace"]))?;
    }
    let mut failed: Vec<(&str, Vec<String>)> = Vec::new();
    for tier in chosen {
        let name = tier.name();
        if is_skipped(tier) {
            println!("== {name}: SKIPPED because INGRESS_TEST_SKIP names it");
            continue;
        }
        println!("== {name}");
        if tier.needs_root() && !shell::is_root() {
            let reason = "needs root for network namespaces and BPF; run as root or set INGRESS_TEST_SKIP";
            println!("{name}: {reason}={name}");
            failed.push((name, vec![format!("{reason}={name}")]));
            continue;
        }
        let started = Instant::now();
        let mut command = tier.command();
        if let Some(filter) = &args.filter {
            command.arg(filter);
        }
        if let Some(last) = shell::run_and_keep(&mut command, RECAP_LINES)? {
            failed.push((name, last));
        }
        println!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    if failed.is_empty() {
        return Ok(());
    }
    for (name, last) in &failed {
        println!("\n== {name}: how it failed\n{}", last.join("\n"));
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    bail!("failed: {}", names.join(", "));
}
