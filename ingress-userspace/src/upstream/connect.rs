//! Dialling an endpoint, TLS where the transport has it, and the task that drives the connection.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::transport::Transport;
use crate::proxy::body::Body;
use crate::proxy::connection::LocalExecutor;
use crate::proxy::error::ProxyError;

/// Bytes of a response head; nginx's `proxy_buffer_size` is 4k, and too small for many login cookies.
const RESPONSE_HEAD: usize = 64 * 1024;
/// Windows of HTTP/2 responses: per stream, and for all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// An HTTP/2 connection with open streams is asked for a sign of life this often, and given up after that long.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);

/// A new connection for HTTP/1. Its task ends with it.
pub async fn http1(
    endpoint: SocketAddr,
    transport: &Transport,
) -> Result<http1::SendRequest<Body>, ProxyError> {
    let stream = dial(endpoint).await?;
    match &transport.tls {
        None => speak_http1(stream).await,
        Some(tls) => {
            speak_http1(tls.handshake(stream, endpoint).await.map_err(ProxyError::UpstreamTls)?).await
        }
    }
}

/// A new connection for HTTP/2. Its task ends with it.
pub async fn http2(
    endpoint: SocketAddr,
    transport: &Transport,
) -> Result<http2::SendRequest<Body>, ProxyError> {
    let stream = dial(endpoint).await?;
    match &transport.tls {
        None => speak_http2(stream).await,
        Some(tls) => {
            speak_http2(tls.handshake(stream, endpoint).await.map_err(ProxyError::UpstreamTls)?).await
        }
    }
}

async fn dial(endpoint: SocketAddr) -> Result<TcpStream, ProxyError> {
    let stream = TcpStream::connect(endpoint).await.map_err(ProxyError::Connect)?;
    // Only latency would suffer.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn speak_http1<T>(stream: T) -> Result<http1::SendRequest<Body>, ProxyError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(RESPONSE_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ProxyError::Upstream)?;
    // Whoever waits for an answer gets the error; an idle connection simply ends.
    drive(connection.with_upgrades());
    Ok(sender)
}

async fn speak_http2<T>(stream: T) -> Result<http2::SendRequest<Body>, ProxyError>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(RESPONSE_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ProxyError::Upstream)?;
    drive(connection);
    Ok(sender)
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
}
