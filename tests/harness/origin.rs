//! Backends that do as they are told. [`Origin`] speaks HTTP well and answers by path; [`raw`] runs a script on bytes.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a broken rig fails its test by panicking")]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What a backend saw of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line.
    pub line: String,
    /// Field lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl Seen {
    /// The values of a field, joined as one list.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> =
            self.headers.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// A backend that answers by path:
/// `/status/N`, `/delay/MS`, `/stream/PARTS/MS`, `/bytes/N`, `/early`, `/upgrade`; everything else gets its own name.
/// Arguments `h=NAME:VALUE` of the query become headers of the answer.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// For how long the body of a request that was answered early stays where it is.
const EARLY: Duration = Duration::from_secs(10);

type Reply = Response<BoxBody<Bytes, Infallible>>;

impl Origin {
    /// Starts one that answers with `name`.
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            // Connections end with the origin.
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let log = Arc::clone(&log);
                let service = service_fn(move |request| {
                    let log = Arc::clone(&log);
                    async move { Ok::<_, Infallible>(answer(name, &log, request).await) }
                });
                tasks.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self { address, seen, connections, task }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the backend was asked")
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(name: &'static str, log: &Mutex<Vec<Seen>>, request: Request<Incoming>) -> Reply {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let mut reply = answer_path(name, log, request).await;
    for header in query.split('&').filter_map(|argument| argument.strip_prefix("h=")) {
        let (name, value) = header.split_once(':').expect("a header NAME:VALUE");
        let value = value.replace("%22", "\"").replace("%20", " ");
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        reply.headers_mut().append(name, HeaderValue::from_str(&value).expect("a header value"));
    }
    reply
}

async fn answer_path(name: &'static str, log: &Mutex<Vec<Seen>>, mut request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.split('/').skip(1).collect();
    let upgrade = (words.first() == Some(&"upgrade")).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let body = match words.first() {
        Some(&"early") => {
            // Neither read nor given up: a closed connection could overtake the answer.
            tokio::spawn(async move {
                tokio::time::sleep(EARLY).await;
                drop(body);
            });
            Bytes::new()
        }
        _ => body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    };
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let line = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
    log.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { line, headers, body });
    let number = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(1);
    match words.first().copied() {
        Some("status") => {
            let status = StatusCode::from_u16(u16::try_from(number(1)).unwrap_or(500)).expect("a status");
            reply(status, Bytes::from(name))
        }
        Some("delay") => {
            tokio::time::sleep(Duration::from_millis(number(1))).await;
            reply(StatusCode::OK, Bytes::from(name))
        }
        Some("bytes") => {
            reply(StatusCode::OK, Bytes::from(vec![b'x'; usize::try_from(number(1)).unwrap_or(0)]))
        }
        Some("stream") => stream(number(1), Duration::from_millis(number(2))),
        Some("early") => reply(StatusCode::OK, Bytes::from_static(b"early")),
        Some("upgrade") => {
            if let Some(upgrade) = upgrade {
                tokio::spawn(async move {
                    if let Ok(stream) = upgrade.await {
                        echo(TokioIo::new(stream)).await;
                    }
                });
            }
            let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            response
        }
        _ => reply(StatusCode::OK, Bytes::from(name)),
    }
}

fn reply(status: StatusCode, body: Bytes) -> Reply {
    let mut response = Response::new(http_body_util::Full::new(body).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("origin"));
    response
}

fn stream(parts: u64, gap: Duration) -> Reply {
    let (sender, mut receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for part in 0..parts {
            if sender.send(Ok(Frame::data(Bytes::from(format!("part {part}\n"))))).await.is_err() {
                return;
            }
            tokio::time::sleep(gap).await;
        }
    });
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

async fn echo(mut stream: TokioIo<hyper::upgrade::Upgraded>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// A backend made of one script per connection.
#[derive(Debug)]
pub struct Raw {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a scripted backend.
pub async fn raw<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Raw
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let task = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn(script(stream));
        }
    });
    Raw { address, task }
}

/// Reads a request head, answers with these bytes and sends no more.
pub async fn canned(answer: &'static str) -> Raw {
    raw(move |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        // A body that nobody has read would make a reset of the end, and that could overtake the answer.
        while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
    })
    .await
}

/// Reads until the end of a request head.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = String::new();
    let mut byte = [0; 1];
    while !head.ends_with("\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1..) => {
                let _ = write!(head, "{}", char::from(byte[0]));
            }
            _ => break,
        }
    }
    head
}

/// Sockets that hold the addresses where nothing listens, for as long as the tests run.
static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// An address where nothing listens, and nobody else ever will: connecting is refused.
pub async fn refused() -> SocketAddr {
    let Reserved { address, socket } = hold(false);
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    address
}

/// An address for a process of ours, which binds it with `SO_REUSEPORT`. Other sockets do not get it in the meantime.
#[derive(Debug)]
pub struct Reserved {
    /// Which.
    pub address: SocketAddr,
    /// Bound, and never listening.
    socket: Socket,
}

/// Reserves any free one.
pub fn reserved() -> Reserved {
    hold(true)
}

fn hold(is_shared: bool) -> Reserved {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(is_shared).expect("an option of sockets");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    Reserved { address: address.expect("a bound socket has an address"), socket }
}
