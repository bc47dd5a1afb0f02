//! Reads which packets the kernel dropped, for `portcullis drops`, as long as this agent is the newest on the node.

use std::path::Path;
use std::time::Duration;

use tracing::{debug, warn};

use crate::bpf::events::{EventReader, EventsError};
use crate::bpf::maps::MapsError;
use crate::error_chain::chain;
use crate::telemetry::drops::DropLog;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// Between two attempts to become the reader.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Reads without end.
pub async fn run(bpffs: &Path, log: &DropLog) {
    let mut failure = String::new();
    loop {
        if let Err(error) = follow(bpffs, log).await
            && !matches!(error, EventsError::Maps(MapsError::Missing { .. }))
        {
            let error = chain(&error);
            if error != failure {
                warn!(error, "dropped packets cannot be read, `portcullis drops` shows none");
                failure = error;
            }
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Reads until a newer agent is there.
async fn follow(bpffs: &Path, log: &DropLog) -> Result<(), EventsError> {
    let Some(mut reader) = EventReader::open(bpffs)? else { return Ok(()) };
    while !reader.is_superseded() {
        let drops = reader.read().await?;
        if !drops.is_empty() {
            debug!(drops = drops.len(), "the kernel told of dropped packets");
        }
        log.add(drops);
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}
