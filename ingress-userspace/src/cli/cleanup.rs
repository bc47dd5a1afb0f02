//! `portcullis cleanup`: removes links, pins, maps and local routes of ours, prints each, and touches nothing else.

use std::io;

use crate::args::tools::CleanupArgs;
use crate::bpf::cleanup::{CleanupError, remove_pins, remove_routes};
use crate::bpf::report::{self, ReportError};

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupCommandError {
    /// Something is still there.
    #[error(transparent)]
    Cleanup(#[from] CleanupError),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Runs the command. What could be removed is removed and printed also when something else could not.
pub async fn run(args: &CleanupArgs, out: &mut (dyn io::Write + Send)) -> Result<(), CleanupCommandError> {
    // Pins of another shape cannot be read, and are removed all the same.
    let report: Result<_, ReportError> = report::read(&args.bpffs).await;
    let is_running = report
        .is_ok_and(|report| report.and_then(|report| report.agent).is_some_and(|agent| agent.is_running));
    let mut removed = Vec::new();
    let pins = remove_pins(&args.bpffs, &mut removed).await;
    let routes = remove_routes(&mut removed).await;
    for thing in &removed {
        writeln!(out, "removed {thing}")?;
    }
    pins?;
    routes?;
    if removed.is_empty() {
        writeln!(out, "nothing to remove under {}", args.bpffs.join("portcullis").display())?;
    } else if is_running {
        writeln!(
            out,
            "an agent gave a sign of life within the last 10 s; if it still runs, restart it to attach it again"
        )?;
    }
    Ok(())
}
