//! Waiting for what processes do, and what their logs say when it does not happen.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds instead, on machines that are slow.
const VARIABLE: &str = "INGRESS_TEST_PATIENCE";
/// Lines of each log that are shown.
const LINES: usize = 25;

/// Waits until something is true; the logs in this folder explain why it is not.
pub(crate) fn wait_for(
    what: &str,
    folder: &Path,
    mut is_true: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let patience = match std::env::var(VARIABLE) {
        Ok(text) => Duration::from_secs(text.parse().with_context(|| format!("{VARIABLE}={text}"))?),
        Err(_) => PATIENCE,
    };
    let deadline = Instant::now() + patience;
    while !is_true()? {
        if Instant::now() > deadline {
            bail!("waited {patience:?} for {what}\n{}", ends_of_logs(folder));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The ends of all logs in a folder. Requests that were served explain nothing.
pub(crate) fn ends_of_logs(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return String::new() };
    let logs = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
    logs.map(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("\" 200 ")).collect();
        let end = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n");
        format!("== {}\n{end}\n", entry.path().display())
    })
    .collect()
}

/// Shows them while a test fails.
#[expect(clippy::print_stderr, reason = "a failed test shows the logs of its processes")]
pub(crate) fn show_logs_of_a_failure(folder: &Path) {
    if std::thread::panicking() {
        eprintln!("{}", ends_of_logs(folder));
    }
}
