//! The log lines of a kernel half that was built with `cargo xtask build-ebpf --debug-log`, into the process log.
//!
//! For debugging only (feature `debug-log`): one line per dropped packet costs more than the rest of the program. In
//! production the counters say what is dropped.

use std::time::Duration;

use aya::programs::loaded_programs;
use aya_log::EbpfLogger;
use tracing::info;

use super::load::XDP;

/// Between two looks into the ring buffer.
const EVERY: Duration = Duration::from_millis(100);

/// Forwards until the process ends. The newest program of our name is ours: it was attached just now.
pub async fn forward() {
    let newest = loaded_programs()
        .flatten()
        .filter(|info| info.name_as_str() == Some(XDP))
        .map(|info| info.id())
        .max();
    let Some(program_id) = newest else { return };
    let mut logger = match EbpfLogger::init_from_id(program_id) {
        Ok(logger) => logger,
        Err(error) => {
            info!(%error, "the kernel half writes no log; `cargo xtask build-ebpf --debug-log` builds one that does");
            return;
        }
    };
    info!(program_id, "reading the log of the kernel half");
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        logger.flush();
    }
}
