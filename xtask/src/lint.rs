//! `cargo xtask lint`: everything that is checked without running the product.

use crate::{generate, shell, tidy};

/// Runs every check; the first that fails ends it.
pub(crate) fn run() -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    let host = ["clippy", "--quiet", "--workspace", "--exclude", "ingress-ebpf", "--all-targets", "--locked"];
    shell::run(shell::cargo().args(host).args(["--", "-D", "warnings"]))?;
    shell::run(shell::cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    tidy::run()?;
    generate::run(true)?;
    println!("lint: clean");
    Ok(())
}
