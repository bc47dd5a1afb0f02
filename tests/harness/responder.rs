//! Backends that answer by a function of what they saw, and one that stands in for oauth2-proxy.
#![expect(clippy::expect_used, reason = "a broken rig fails its test by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::origin::Seen;

/// Status, field lines, body.
pub type Reply = (u16, Vec<(&'static str, String)>, String);

/// A backend.
#[derive(Debug)]
pub struct Responder {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Responder {
    /// Starts one.
    pub async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let task = tokio::spawn(async move {
            // Connections end with the backend.
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let service = service_fn(move |request| {
                    let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                    async move {
                        let seen = look(request).await;
                        let reply = reply(answer(&seen));
                        log.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
                        Ok::<_, Infallible>(reply)
                    }
                });
                tasks.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, seen, task }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the backend was asked")
    }
}

async fn look(request: Request<Incoming>) -> Seen {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Seen { line: format!("{} {}", parts.method, parts.uri), headers, body }
}

fn reply((status, lines, body): Reply) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in lines {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(body))).expect("a valid reply")
}

/// oauth2-proxy as far as an ingress meets it. `/oauth2/auth` knows a user by the cookie `_oauth2_proxy` (its value is the
/// name) or by `Authorization: Bearer NAME`: 202 with who it is, else 401; the user `fresh` gets a session renewed, in two
/// cookies; `expired` gets 401 and loses its session, in two cookies; `banned` gets 403, `broken` 502. `/oauth2/start` goes to
/// the provider, `/oauth2/callback` comes from there with a session for `alice`, in two cookies, and goes back.
pub async fn oauth2_proxy() -> Responder {
    Responder::start(|seen| {
        let path = seen.line.split_once(' ').map_or("", |(_, target)| target);
        if path.starts_with("/oauth2/start") {
            let cookie = ("set-cookie", "_oauth2_proxy_csrf=1; Path=/; HttpOnly".to_owned());
            let location = ("location", "https://provider.example/authorize".to_owned());
            return (302, vec![location, cookie], String::new());
        }
        if let Some((_, back)) = path.split_once("/oauth2/callback?state=") {
            let cookies = ["_oauth2_proxy_csrf=; Path=/; Max-Age=0", "_oauth2_proxy=alice; Path=/; HttpOnly; Secure"];
            let mut lines = vec![("location", back.replace("%2F", "/").replace("%3F", "?").replace("%3D", "="))];
            lines.extend(cookies.map(|cookie| ("set-cookie", cookie.to_owned())));
            return (302, lines, String::new());
        }
        if !path.starts_with("/oauth2/auth") {
            return (404, Vec::new(), "not found\n".to_owned());
        }
        let cookies = seen.header("cookie").unwrap_or_default();
        let cookie = cookies.split("; ").find_map(|pair| pair.strip_prefix("_oauth2_proxy=").map(str::to_owned));
        let bearer = seen.header("authorization").and_then(|text| text.strip_prefix("Bearer ").map(str::to_owned));
        match cookie.or(bearer).as_deref() {
            None => (401, vec![("www-authenticate", "Bearer realm=\"test\"".to_owned())], "Unauthorized\n".to_owned()),
            Some("expired") => {
                let cleared = |part| ("set-cookie", format!("_oauth2_proxy_{part}=; Path=/; Max-Age=0"));
                (401, vec![cleared(0), cleared(1)], String::new())
            }
            Some("banned") => (403, Vec::new(), "Forbidden\n".to_owned()),
            Some("broken") => (502, Vec::new(), String::new()),
            Some(user) => {
                let mut lines = vec![
                    ("x-auth-request-user", user.to_owned()),
                    ("x-auth-request-email", format!("{user}@example.com")),
                    // Large tokens are usual.
                    ("x-auth-request-access-token", "t".repeat(7000)),
                ];
                if user == "fresh" {
                    for part in 0..2 {
                        let value = format!("_oauth2_proxy_{part}=renewed{part}; Path=/; Expires=Sat, 01 Jan 2028 00:00:00 GMT");
                        lines.push(("set-cookie", value));
                    }
                }
                (202, lines, String::new())
            }
        }
    })
    .await
}
