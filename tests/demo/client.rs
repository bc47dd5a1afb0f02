//! What curl cannot do for the demo: a WebSocket exchange, and a stream of new connections that counts failures.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

/// Sends one text message to `ws://host/ws` at `address` and returns what comes back.
pub(crate) async fn websocket(address: SocketAddr, host: &str, text: &str) -> anyhow::Result<String> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{host}/ws"), stream).await?;
    socket.send(Message::text(text)).await?;
    let answer = socket.next().await.context("the connection was closed")??;
    socket.close(None).await?;
    Ok(answer.into_text()?.to_string())
}

/// One request on a connection of its own; an error unless the status is 200.
pub(crate) fn request_once(address: SocketAddr, host: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        bail!("answered {:?}", answer.lines().next().unwrap_or_default());
    }
    Ok(())
}

/// Requests one after the other until standard input ends; returns how many held and the first failure.
pub(crate) fn steady_load(address: SocketAddr, host: &str) -> (u64, Option<String>) {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(end);
    });
    let mut held = 0;
    while !matches!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
        match request_once(address, host) {
            Ok(()) => held += 1,
            Err(error) => return (held, Some(format!("{error:#}"))),
        }
    }
    (held, None)
}

/// Opens `count` connections from `source` at once and returns how many were established within two seconds.
pub(crate) async fn connection_burst(source: IpAddr, address: SocketAddr, count: u32) -> anyhow::Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..count {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()?
        } else {
            tokio::net::TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(source, 0))?;
        attempts.spawn(async move {
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::time::timeout(left, socket.connect(address)).await.is_ok_and(|connected| connected.is_ok())
        });
    }
    let established = attempts.join_all().await;
    Ok(established.into_iter().filter(|established| *established).count().try_into()?)
}
