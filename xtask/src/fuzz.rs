//! `cargo xtask fuzz [TARGET] [--seconds N]`: coverage-guided fuzzing by cargo-fuzz, with a nightly compiler.

use std::process::Command;

use anyhow::bail;
use clap::Args;

use crate::setup::{self, Part};
use crate::shell;

/// All targets.
const TARGETS: &[&str] = &["annotation_values"];

#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// Only this target; default: each in turn.
    target: Option<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the targets; what fails leaves its input in `tests/fuzz/artifacts`.
pub(crate) fn run(args: &FuzzArgs) -> anyhow::Result<()> {
    let chosen: Vec<&str> = match &args.target {
        Some(target) if !TARGETS.contains(&target.as_str()) => {
            bail!("there is no target {target}; there are {}", TARGETS.join(", "))
        }
        Some(target) => vec![target],
        None => TARGETS.to_vec(),
    };
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
