//! When the process shall end: SIGTERM or Ctrl-C; a second one ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A token that is cancelled by the first signal. The second signal ends the process with status 130.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        let first = next(&mut signals).await;
        info!(signal = first, "shutting down");
        token.cancel();
        let second = next(&mut signals).await;
        info!(signal = second, "ending at once");
        std::process::exit(130);
    });
    Ok(shutdown)
}

async fn next((terminate, interrupt): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
