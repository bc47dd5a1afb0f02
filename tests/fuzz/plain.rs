//! Fuzz targets without a fuzzer, for `cargo xtask fuzz --plain`: `portcullis-fuzz TARGET SECONDS SEED`, and packets
//! through the XDP program for `cargo xtask fuzz packets`: `portcullis-fuzz packets COUNT SEED`.
#![expect(clippy::print_stdout, reason = "a tool says what it did")]

use std::time::Duration;

use anyhow::{Context as _, bail};
use ingress_tests::fuzz::packets::Fuzz;
use ingress_tests::fuzz::{TARGETS, plain};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed] = arguments.as_slice() else { bail!("write TARGET SECONDS SEED") };
    if name == "packets" {
        return packets(seconds.parse().context("COUNT")?, seed.parse().context("SEED")?);
    }
    let target = TARGETS.iter().find(|(known, _)| known == name);
    let target = target.with_context(|| format!("there is no target {name}"))?;
    let (seconds, seed) = (seconds.parse().context("SECONDS")?, seed.parse().context("SEED")?);
    let count = plain::run(*target, Duration::from_secs(seconds), seed)?;
    println!("{name}: {count} inputs in {seconds} s, none failed (seed {seed})");
    Ok(())
}

/// A part of the packets for each CPU.
fn packets(count: u64, seed: u64) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()?.get() as u64;
    let tallies: Vec<_> = std::thread::scope(|scope| {
        let part = |thread| scope.spawn(move || Fuzz::new(seed + thread).run(count.div_ceil(threads)));
        let running: Vec<_> = (0..threads).map(part).collect();
        running.into_iter().map(|thread| thread.join()).collect()
    });
    for (thread, tally) in (seed..).zip(tallies) {
        let tally = tally
            .ok()
            .with_context(|| format!("seed {thread}"))?
            .with_context(|| format!("seed {thread}"))?;
        println!("packets: {tally:?}, none failed (seed {thread})");
    }
    Ok(())
}
