//! A TCP connection that goes to a backend as it is.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::proxy_header;
use super::session::{Session, UNREACHABLE};
use super::tunnel::tunnel;
use crate::model::stream::Streams;
use crate::proxy::worker::Phase;
use crate::upstream::backend::BackendCell;

/// Whether the endpoint is told who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduce {
    /// By a PROXY header.
    ByHeader,
    /// Not at all.
    No,
}

/// Carries a connection to its end.
pub async fn carry(session: &Session, backend: &BackendCell, client: TcpStream, introduce: Introduce) {
    let worker = session.worker();
    let streams = worker.snapshot.with(|snapshot| snapshot.globals.streams);
    let mut phase = worker.phase.clone();
    let ends = session.ends();
    let whole = async {
        let (mut endpoint, address) = connect(session, backend, &streams).await?;
        if introduce == Introduce::ByHeader {
            let header = proxy_header::version_1(ends.client, ends.connected_to);
            endpoint.write_all(header.as_bytes()).await?;
            session.introduced(header.len());
        }
        tunnel(&client, &endpoint, streams.idle, &session.moved).await?;
        Ok::<_, io::Error>(address)
    };
    let ended = tokio::select! {
        ended = whole => ended,
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => return,
    };
    let (up, down) = (session.moved.up.get(), session.moved.down.get());
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
    session: &Session,
    backend: &BackendCell,
    streams: &Streams,
) -> io::Result<(TcpStream, SocketAddr)> {
    let counters = &session.worker().counters;
    let started = Instant::now();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no endpoint");
    for (tried, endpoint) in (0_u32..).zip(backend.endpoints_in_turn()) {
        let is_late = !streams.tries_within.is_zero() && started.elapsed() >= streams.tries_within;
        if tried > 0 && (!streams.tries_next || is_late || (streams.tries > 0 && tried >= streams.tries)) {
            break;
        }
        session.tries(endpoint);
        match timeout(streams.connect, TcpStream::connect(endpoint)).await {
            Ok(Ok(stream)) => {
                counters.upstream_new.add(1);
                session.connected();
                // Only latency would suffer.
                let _ = stream.set_nodelay(true);
                return Ok((stream, endpoint));
            }
            Ok(Err(error)) => failure = error,
            Err(_elapsed) => failure = io::ErrorKind::TimedOut.into(),
        }
        counters.upstream_failed.add(1);
        session.unreachable();
    }
    session.failed(UNREACHABLE);
    Err(failure)
}
