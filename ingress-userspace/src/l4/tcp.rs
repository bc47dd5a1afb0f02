//! A TCP connection that goes to a backend as it is.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::proxy_header;
use super::tunnel::{Moved, tunnel};
use crate::model::stream::Streams;
use crate::proxy::worker::{Phase, Worker};
use crate::upstream::backend::BackendCell;

/// Who connected, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub connected_to: SocketAddr,
}

/// Whether the endpoint is told who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduce {
    /// By a PROXY header.
    ByHeader,
    /// Not at all.
    No,
}

/// Carries a connection to its end.
pub async fn carry(
    worker: &Rc<Worker>,
    backend: &BackendCell,
    client: TcpStream,
    ends: Ends,
    introduce: Introduce,
) {
    let streams = worker.snapshot.with(|snapshot| snapshot.globals.streams);
    let mut phase = worker.phase.clone();
    let moved = Moved::default();
    let whole = async {
        let (mut endpoint, address) = connect(worker, backend, &streams).await?;
        if introduce == Introduce::ByHeader {
            let header = proxy_header::version_1(ends.client, ends.connected_to);
            endpoint.write_all(header.as_bytes()).await?;
        }
        tunnel(&client, &endpoint, streams.idle, &moved).await?;
        Ok::<_, io::Error>(address)
    };
    let ended = tokio::select! {
        ended = whole => ended,
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => return,
    };
    let (up, down) = (moved.up.get(), moved.down.get());
    match ended {
        Ok(endpoint) => {
            debug!(client = %ends.client, backend = backend.name, %endpoint, up, down, "connection ended");
        }
        Err(error) => {
            debug!(client = %ends.client, backend = backend.name, %error, up, down, "connection failed");
        }
    }
}

/// Connects to one endpoint after the other until one accepts.
async fn connect(
    worker: &Worker,
    backend: &BackendCell,
    streams: &Streams,
) -> io::Result<(TcpStream, SocketAddr)> {
    let started = Instant::now();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no endpoint");
    for (tried, endpoint) in (0_u32..).zip(backend.endpoints_in_turn()) {
        let is_late = !streams.tries_within.is_zero() && started.elapsed() >= streams.tries_within;
        if tried > 0 && (!streams.tries_next || is_late || (streams.tries > 0 && tried >= streams.tries)) {
            break;
        }
        match timeout(streams.connect, TcpStream::connect(endpoint)).await {
            Ok(Ok(stream)) => {
                worker.counters.upstream_new.add(1);
                // Only latency would suffer.
                let _ = stream.set_nodelay(true);
                return Ok((stream, endpoint));
            }
            Ok(Err(error)) => failure = error,
            Err(_elapsed) => failure = io::ErrorKind::TimedOut.into(),
        }
        worker.counters.upstream_failed.add(1);
    }
    Err(failure)
}
