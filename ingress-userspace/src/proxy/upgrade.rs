//! Switched protocols (WebSocket): bytes both ways, until one side ends or both are silent for the read timeout.
//!
//! Bytes flow only after the endpoint's 101. What the client sent too early waits in the engine until then.

use std::rc::Rc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::context::ConnectionInfo;
use super::worker::{Phase, Worker};
use crate::snapshot::in_flight::Held;
use crate::telemetry::access_log::Record;

/// Large enough for most messages, small enough for many idle tunnels.
const BUFFER: usize = 8 * 1024;

/// Runs a tunnel to its end, as a task of its own; its log line is written then, and what it holds is given back.
pub fn spawn(
    worker: &Rc<Worker>,
    client: OnUpgrade,
    endpoint: OnUpgrade,
    idle: Duration,
    record: Box<Record>,
    held: (Rc<ConnectionInfo>, Vec<Held>),
) {
    let worker = Rc::clone(worker);
    worker.counters.open.add(1);
    tokio::task::spawn_local(async move {
        let mut record = record;
        let mut phase = worker.phase.clone();
        tokio::select! {
            bytes = tunnel(client, endpoint, idle) => record.sent(bytes),
            _ = phase.wait_for(|phase| *phase == Phase::Closing) => {}
        }
        worker.counters.open.sub(1);
        drop((record, held));
    });
}

/// Returns the bytes that went to the client.
async fn tunnel(client: OnUpgrade, endpoint: OnUpgrade, idle: Duration) -> u64 {
    let (Ok(client), Ok(endpoint)) = tokio::join!(client, endpoint) else { return 0 };
    let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
    let (endpoint_read, endpoint_write) = tokio::io::split(TokioIo::new(endpoint));
    let last = std::cell::Cell::new(Instant::now());
    let sent = std::cell::Cell::new(0);
    let both = async {
        tokio::join!(
            copy(client_read, endpoint_write, |_| last.set(Instant::now())),
            copy(endpoint_read, client_write, |bytes| {
                last.set(Instant::now());
                sent.set(sent.get() + bytes as u64);
            }),
        )
    };
    let silence = async {
        loop {
            let deadline = last.get() + idle;
            if Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep_until(deadline).await;
        }
    };
    tokio::select! {
        _ = both => {}
        () = silence => {}
    }
    sent.get()
}

type Stream = TokioIo<hyper::upgrade::Upgraded>;

/// Copies one direction and passes its end on.
async fn copy(mut from: ReadHalf<Stream>, mut to: WriteHalf<Stream>, moved: impl Fn(usize)) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(bytes) = from.read(&mut buffer).await {
        let Some(part) = buffer.get(..bytes).filter(|part| !part.is_empty()) else { break };
        if to.write_all(part).await.is_err() || to.flush().await.is_err() {
            break;
        }
        moved(bytes);
    }
    // The peer may be gone already.
    let _ = to.shutdown().await;
}
