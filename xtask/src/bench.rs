//! `cargo xtask bench kernel`: what the kernel half costs. The measuring itself is `tests/bench/kernel.rs`.

use anyhow::bail;
use clap::Subcommand;

use crate::setup::Part;
use crate::{build_ebpf, setup, shell};

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The XDP program as a multiple of an empty one; fails when foreign traffic costs more than 3.5 times as much.
    Kernel,
}

/// Builds what is measured, and measures.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Kernel => kernel(),
    }
}

fn kernel() -> anyhow::Result<()> {
    if !shell::is_root() {
        bail!("loading kernel programs needs root: run `cargo xtask bench kernel` as root");
    }
    setup::setup(&[Part::Kernel])?;
    build_ebpf::run(&build_ebpf::BuildArgs::default())?;
    // The kernel runs and times the programs; how the code around them is optimised does not matter.
    let dev = ["bench", "--quiet", "--profile", "dev", "--package", "ingress-tests", "--bench", "kernel"];
    shell::run(shell::cargo().args(dev))
}
