//! The backend of both proxies.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A backend that writes down what it saw and answers as `X-Answer` says: `status=302|Location: /x|Set-Cookie: a=b`.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        Self::named("", Arc::default()).await
    }

    /// Another one, which says its name and writes into the same list.
    pub(crate) async fn named(name: &'static str, seen: Arc<Mutex<Vec<String>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                let service = service_fn(move |request| {
                    let log = Arc::clone(&log);
                    async move { Ok::<_, Infallible>(echo(name, &log, request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }

    /// Until so many requests came.
    pub(crate) async fn wait_for(&self, count: usize) {
        while self.seen.lock().expect("no panic").len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn echo(
    name: &str,
    log: &Mutex<Vec<String>>,
    request: Request<Incoming>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut text = format!("{name}{} {} {:?}\n", parts.method, parts.uri, parts.version);
    let mut lines: Vec<String> = parts
        .headers
        .iter()
        .filter(|(name, _)| *name != "connection")
        .map(|(name, value)| match name.as_str() {
            "x-request-id" => "x-request-id: ID\n".to_owned(),
            name => format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())),
        })
        .collect();
    lines.sort();
    text.push_str(&lines.concat());
    let _ =
        write!(text, "body {} bytes {:?}", body.len(), String::from_utf8_lossy(&body[..body.len().min(64)]));
    log.lock().expect("no panic").push(text);
    let mut response = Response::new(());
    let mut content = Bytes::from(format!("echo {}", parts.uri.path()));
    let mut is_chunked = false;
    // The part of an auth service has a script of its own.
    let script = if parts.uri.path().starts_with("/auth") { "x-auth-answer" } else { "x-answer" };
    let script = parts.headers.get(script).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for step in script.split('|').filter(|step| !step.is_empty()) {
        if let Some(millis) = step.strip_prefix("delay=") {
            tokio::time::sleep(Duration::from_millis(millis.parse().expect("a number"))).await;
        } else if let Some(bytes) = step.strip_prefix("bytes=") {
            content = vec![b'x'; bytes.parse().expect("a number")].into();
        } else if step == "chunked" {
            is_chunked = true;
        } else if let Some(status) = step.strip_prefix("status=") {
            *response.status_mut() = status.parse().expect("a status");
        } else if let Some((name, value)) = step.split_once(": ") {
            let name: http::HeaderName = name.parse().expect("a name");
            response.headers_mut().append(name, value.parse().expect("a value"));
        }
    }
    response.map(|()| match is_chunked {
        false => Full::new(content).boxed(),
        true => StreamBody::new(stream::iter([Ok(Frame::data(content))])).boxed(),
    })
}
