//! `cargo xtask lint`: everything that is checked without running the product.

use crate::setup::{Part, setup};
use crate::{build_ebpf, generate, shell, tidy};

/// Runs every check; the first that fails ends it.
pub(crate) fn run() -> anyhow::Result<()> {
    setup(&[Part::Lint, Part::Kernel])?;
    build_ebpf::run(&build_ebpf::BuildArgs { deny_warnings: true, ..Default::default() })?;
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    let host = ["clippy", "--quiet", "--workspace", "--exclude", "ingress-ebpf", "--all-targets", "--locked"];
    shell::run(shell::cargo().args(host).args(["--", "-D", "warnings"]))?;
    shell::run(shell::cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    tidy::run()?;
    generate::run(true)?;
    println!("lint: clean");
    Ok(())
}
