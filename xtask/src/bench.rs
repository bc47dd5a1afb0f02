//! `cargo xtask bench`: what the kernel half costs, and what a large configuration costs. The measuring itself is
//! `tests/bench`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Subcommand;

use crate::setup::Part;
use crate::{build_ebpf, generate, setup, shell};

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The XDP program as a multiple of an empty one, changes of lists, memory of the maps; fails when a gate is missed.
    Kernel {
        /// Also write the rows here, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// 5,000 Ingresses, 10,000 routes, 2,000 certificates: start, change, endpoint churn, memory, lint.
    Config {
        /// Also write the rows here, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// Builds what is measured, and measures.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Kernel { json } => kernel(json.as_deref()),
        Bench::Config { json } => config(json.as_deref()),
    }
}

fn config(json: Option<&Path>) -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["build", "--quiet", "--release", "--package", "ingress-userspace"]))?;
    let mut bench = shell::cargo();
    bench.args(["bench", "--quiet", "--package", "ingress-tests", "--bench", "config", "--"]);
    if let Some(path) = json {
        bench.arg("--json").arg(std::path::absolute(path)?);
    }
    shell::run(bench.env("PORTCULLIS", generate::binary("release")))
}

fn kernel(json: Option<&Path>) -> anyhow::Result<()> {
    if !shell::is_root() {
        bail!("loading kernel programs needs root: run `cargo xtask bench kernel` as root");
    }
    setup::setup(&[Part::Kernel])?;
    build_ebpf::run(&build_ebpf::BuildArgs::default())?;
    // The kernel runs and times the programs; how the code around them is optimised does not matter to their rows.
    let dev =
        ["bench", "--quiet", "--profile", "dev", "--package", "ingress-tests", "--bench", "kernel", "--"];
    let mut bench = shell::cargo();
    bench.args(dev);
    if let Some(path) = json {
        bench.arg("--json").arg(std::path::absolute(path)?);
    }
    shell::run(&mut bench)
}
