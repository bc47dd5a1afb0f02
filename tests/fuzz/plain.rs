//! Fuzz targets without a fuzzer, for `cargo xtask fuzz --plain`: `portcullis-fuzz TARGET SECONDS SEED`.
#![expect(clippy::print_stdout, reason = "a tool says what it did")]

use std::time::Duration;

use anyhow::{Context as _, bail};
use ingress_tests::fuzz::{TARGETS, plain};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed] = arguments.as_slice() else { bail!("write TARGET SECONDS SEED") };
    let target = TARGETS.iter().find(|(known, _)| known == name);
    let target = target.with_context(|| format!("there is no target {name}"))?;
    let (seconds, seed) = (seconds.parse().context("SECONDS")?, seed.parse().context("SEED")?);
    let count = plain::run(*target, Duration::from_secs(seconds), seed)?;
    println!("{name}: {count} inputs in {seconds} s, none failed (seed {seed})");
    Ok(())
}
