//! Dialling an endpoint under a deadline, and the task that drives the connection.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::pool::Sender;
use crate::proxy::error::ProxyError;

/// Bytes of a response head; nginx's `proxy_buffer_size` is 4k, and too small for many login cookies.
const RESPONSE_HEAD: usize = 64 * 1024;

/// A new connection. Its task ends with it.
pub async fn connect(endpoint: SocketAddr, deadline: Duration) -> Result<Sender, ProxyError> {
    let dialled = tokio::time::timeout(deadline, TcpStream::connect(endpoint)).await;
    let stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ProxyError::Connect(error)),
        Err(_elapsed) => return Err(ProxyError::ConnectTimeout),
    };
    // Only latency would suffer.
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(RESPONSE_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ProxyError::Upstream)?;
    tokio::task::spawn_local(async move {
        // Whoever waits for an answer gets the error; an idle connection simply ends.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}
