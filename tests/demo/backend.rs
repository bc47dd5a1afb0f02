//! The applications of the demo: they say who they are, what path they saw and from whom; one echoes WebSocket messages.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves until killed. `name` is what answers begin with; the name `echo` speaks WebSocket instead.
pub(crate) async fn serve(name: String, listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    // The parent reads this line: it may have asked for port 0.
    #[expect(clippy::print_stdout, reason = "the line is this program's interface")]
    {
        println!("{}", listener.local_addr()?);
    }
    loop {
        let (stream, _) = listener.accept().await?;
        let name = name.clone();
        tokio::spawn(async move {
            let ended = if name == "echo" { echo(stream).await } else { answer(name, stream).await };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

async fn answer(name: String, stream: tokio::net::TcpStream) -> anyhow::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let header =
            |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        let text = format!(
            "{name} saw {} {} for {} from {}\n",
            request.method(),
            request.uri(),
            header("host"),
            header("x-real-ip")
        );
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text)))))
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

async fn echo(stream: tokio::net::TcpStream) -> anyhow::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
