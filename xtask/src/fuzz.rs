//! `cargo xtask fuzz [TARGET] [--seconds N]`: coverage-guided fuzzing by cargo-fuzz, with a nightly compiler; with `--plain`
//! the same targets over mutations of their corpora, with neither.

use std::process::Command;

use anyhow::bail;
use clap::Args;

use crate::setup::{self, Part};
use crate::{build_ebpf, shell};

/// All targets.
const TARGETS: &[&str] = &["annotation_values", "client_hello", "manifests", "paths", "proxy_header"];

/// The target that is no parser of ours: the XDP program.
const PACKETS: &str = "packets";

#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// Only this target; default: each in turn but `packets`, which are packets through the XDP program and need root.
    target: Option<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Without a fuzzer: needs neither cargo-fuzz nor a nightly compiler, and finds less.
    #[arg(long)]
    plain: bool,
    /// With `--plain`, where the random numbers begin; the same one gives the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many packets, for the target `packets`.
    #[arg(long, default_value_t = 10_000_000)]
    count: u64,
}

/// Runs the targets; what fails leaves its input in `tests/fuzz/artifacts`.
pub(crate) fn run(args: &FuzzArgs) -> anyhow::Result<()> {
    if args.target.as_deref() == Some(PACKETS) {
        return packets(args);
    }
    let chosen: Vec<&str> = match &args.target {
        Some(target) if !TARGETS.contains(&target.as_str()) => {
            bail!("there is no target {target}; there are {} and {PACKETS}", TARGETS.join(", "))
        }
        Some(target) => vec![target],
        None => TARGETS.to_vec(),
    };
    if args.plain {
        return chosen.into_iter().try_for_each(|target| plain(target, args));
    }
    if !has_nightly() {
        bail!("needs a nightly compiler: rustup toolchain install nightly; or run with --plain");
    }
    setup::setup(&[Part::Fuzz])?;
    for target in chosen {
        let mut cargo = Command::new("cargo");
        cargo.args([
            "+nightly",
            "fuzz",
            "run",
            "--sanitizer",
            "none",
            "--fuzz-dir",
            "tests/fuzz",
            target,
            "--",
        ]);
        cargo.arg(format!("-max_total_time={}", args.seconds)).args(["-timeout=10", "-print_final_stats=1"]);
        // Its artifacts are its own: another compiler makes them.
        cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTUP_TOOLCHAIN").current_dir(shell::root());
        shell::run(&mut cargo)?;
    }
    Ok(())
}

fn has_nightly() -> bool {
    let asked = Command::new("cargo").args(["+nightly", "--version"]).env_remove("RUSTUP_TOOLCHAIN").output();
    asked.is_ok_and(|asked| asked.status.success())
}

fn packets(args: &FuzzArgs) -> anyhow::Result<()> {
    if !shell::is_root() {
        bail!("loading kernel programs needs root: run `cargo xtask fuzz packets` as root");
    }
    setup::setup(&[Part::Kernel])?;
    build_ebpf::run(&build_ebpf::BuildArgs::default())?;
    tool(&[PACKETS, &args.count.to_string(), &args.seed.to_string()])
}

fn plain(target: &str, args: &FuzzArgs) -> anyhow::Result<()> {
    tool(&[target, &args.seconds.to_string(), &args.seed.to_string()])
}

fn tool(arguments: &[&str]) -> anyhow::Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["run", "--quiet", "--package", "ingress-tests", "--bin", "portcullis-fuzz", "--"]);
    shell::run(cargo.args(arguments))
}
