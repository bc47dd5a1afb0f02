//! Health, metrics and read-only dumps, on the control runtime.
//!
//! `/healthz`, `/readyz` and `/metrics` on the admin port; on the unix socket also `/model`, `/explain`,
//! `/listeners`, `/freshness`, `/degraded`, `/pools`, `/lists`, `/drops` and `/version`, which only those may read who can open the socket file. The port is shared (SO_REUSEPORT), so that a new process can take over
//! before the old one is gone.

pub mod explain;
mod listen;
pub mod lists;
pub mod pools;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::AdminArgs;
use crate::model::{Model, render};
use crate::telemetry::drops::DropLog;
use crate::telemetry::metrics::Registry;

/// Whether the process should get traffic: conditions by name, each with a reason while it does not hold.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<&'static str, Option<String>>>);

impl Readiness {
    /// The condition holds.
    pub fn holds(&self, condition: &'static str) {
        self.put(condition, None);
    }

    /// The condition does not hold, and why.
    pub fn fails(&self, condition: &'static str, why: impl Into<String>) {
        self.put(condition, Some(why.into()));
    }

    fn put(&self, condition: &'static str, state: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(condition, state);
    }

    /// `Ok` when all conditions hold, else the reasons, one per line.
    pub fn check(&self) -> Result<(), String> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons = String::new();
        for (condition, state) in conditions.iter() {
            if let Some(why) = state {
                // Writing into a String cannot fail.
                let _ = writeln!(reasons, "{condition}: {why}");
            }
        }
        if conditions.is_empty() {
            reasons.push_str("starting\n");
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

/// What the admin endpoints show. One per process, shared by its roles.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Metrics.
    pub registry: Arc<Registry>,
    /// Whether traffic should come.
    pub readiness: Arc<Readiness>,
    /// The model that is served, for the dump.
    pub model: Shown,
    /// Where the proxy listens, by listener name.
    pub listening: Listening,
    /// Whether the model is current.
    pub freshness: Arc<watch::Sender<Option<Stale>>>,
    /// What the data plane of this process serves less well than was asked for.
    pub degraded: Arc<watch::Sender<Vec<String>>>,
    /// The pools that the agent of this process serves.
    pub pools: Arc<watch::Sender<Vec<pools::PoolView>>>,
    /// What deny lists caught.
    pub lists: lists::Lists,
    /// `/metrics` is not served.
    pub hides_metrics: bool,
    /// Packets that were dropped lately, as the agent of this process reads them.
    pub drops: DropLog,
    /// What the agent of this process made of the objects.
    pub translated: Arc<watch::Sender<Option<explain::Translated>>>,
    /// Answers questions about requests; `None` where no model is served.
    pub explain: Option<explain::Explain>,
}

/// A configuration that may not be current, for the API server cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Second at which it was last known to be current.
    pub since: i64,
    /// It is what an earlier process kept.
    pub is_kept: bool,
}

impl Stale {
    /// For how long.
    pub fn seconds(self) -> i64 {
        jiff::Timestamp::now().as_second().saturating_sub(self.since).max(0)
    }
}

/// The addresses on which the proxy of this process listens; ports that were 0 are resolved.
#[derive(Clone, Debug)]
pub struct Listening(Arc<watch::Sender<Addresses>>);

/// Listener names and addresses.
pub type Addresses = Vec<(String, SocketAddr)>;

impl Default for Listening {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Listening {
    /// From now on these.
    pub fn set(&self, addresses: Addresses) {
        self.0.send_replace(addresses);
    }

    /// For those who wait for the sockets.
    pub fn subscribe(&self) -> watch::Receiver<Addresses> {
        self.0.subscribe()
    }
}

/// The model that a role serves now.
#[derive(Clone, Debug)]
pub struct Shown(Arc<watch::Sender<Numbered>>);

type Numbered = Option<(u64, Arc<Model>)>;

impl Default for Shown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Shown {
    /// The one that is shown.
    pub fn current(&self) -> Option<Arc<Model>> {
        self.0.borrow().as_ref().map(|(_, model)| Arc::clone(model))
    }

    /// Shows this one from now on.
    pub fn set(&self, version: u64, model: Arc<Model>) {
        self.0.send_replace(Some((version, model)));
    }
}

/// Where to listen.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Addresses for the port; empty: all of the host.
    pub addresses: Vec<IpAddr>,
    /// The port; 0: any free one.
    pub port: u16,
    /// Unix socket.
    pub socket: Option<PathBuf>,
}

impl Endpoints {
    /// From the flags.
    pub fn from_args(args: &AdminArgs, addresses: &[IpAddr]) -> Self {
        let addresses = args.healthz_host.map_or_else(|| addresses.to_vec(), |host| vec![host]);
        Self { addresses, port: args.healthz_port, socket: args.admin_socket.clone() }
    }
}

/// Bound and ready to serve.
#[derive(Debug)]
pub struct Server {
    tcp: Vec<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
}

/// Why an admin endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The port.
    #[error(
        "cannot listen on {address} for health and metrics; choose another --healthz-port, or an address of this machine (--bind-address)"
    )]
    Port {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The unix socket.
    #[error(
        "cannot listen on the unix socket {path}; its folder must exist and be writable (--admin-socket)"
    )]
    Socket {
        /// Of the file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Binds the endpoints and says where they are.
pub fn bind(endpoints: &Endpoints) -> Result<Server, AdminError> {
    let tcp = listen::listen(endpoints)?;
    let unix = match &endpoints.socket {
        None => None,
        Some(path) => {
            let error = |source| AdminError::Socket { path: path.clone(), source };
            // A file of an earlier process that was killed; a living one loses its name, not its connections.
            match std::fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
                _ => {}
            }
            let listener = UnixListener::bind(path).map_err(error)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(error)?;
            info!(path = %path.display(), "admin socket listening");
            Some((listener, path.clone()))
        }
    };
    Ok(Server { tcp, unix })
}

impl Server {
    /// The port that was bound.
    pub fn port(&self) -> Option<u16> {
        self.tcp.first().and_then(|listener| listener.local_addr().ok()).map(|address| address.port())
    }

    /// Serves until `shutdown`; run it as a task of its own. It should outlive the drain.
    pub async fn run(self, state: State, shutdown: CancellationToken) {
        let mut tasks = tokio::task::JoinSet::new();
        for listener in self.tcp {
            let state = state.clone();
            tasks.spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => serve(stream, state.clone(), Access::Port),
                        Err(error) => pause(&error).await,
                    }
                }
            });
        }
        let path = self.unix.as_ref().map(|(_, path)| path.clone());
        if let Some((listener, _)) = self.unix {
            tasks.spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => serve(stream, state.clone(), Access::Socket),
                        Err(error) => pause(&error).await,
                    }
                }
            });
        }
        shutdown.cancelled().await;
        tasks.shutdown().await;
        if let Some(path) = path {
            // Another process may have put its own there.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn pause(error: &io::Error) {
    warn!(%error, "admin endpoint cannot accept, pausing");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// How the caller came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Port,
    Socket,
}

fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, state: State, access: Access) {
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(answer(&state, access, &request).await) }
        });
        // A caller that goes away early is no event.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
}

async fn answer(state: &State, access: Access, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, text) = if request.method() == Method::GET || request.method() == Method::HEAD {
        page(state, access, request.uri().path(), request.uri().query().unwrap_or_default()).await
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned())
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = match request.uri().path() {
        "/metrics" => "text/plain; version=0.0.4; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn page(state: &State, access: Access, path: &str, query: &str) -> (StatusCode, String) {
    match (path, access) {
        ("/healthz", _) => (StatusCode::OK, "ok\n".to_owned()),
        ("/readyz", _) => match state.readiness.check() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons),
        },
        ("/metrics", _) if state.hides_metrics => (StatusCode::NOT_FOUND, "metrics are off\n".to_owned()),
        ("/metrics", _) => (StatusCode::OK, state.registry.render().await),
        ("/model", Access::Socket) => {
            let shown = state.model.0.borrow().clone();
            match shown {
                Some((version, model)) => {
                    (StatusCode::OK, format!("# version {version}\n{}", render::render(&model)))
                }
                None => (StatusCode::SERVICE_UNAVAILABLE, "no model yet\n".to_owned()),
            }
        }
        ("/explain", Access::Socket) => explain::answer(state, query).await,
        ("/listeners", Access::Socket) => {
            let mut text = String::new();
            for (listener, address) in state.listening.0.borrow().iter() {
                // Writing into a String cannot fail.
                let _ = writeln!(text, "{listener} {address}");
            }
            (StatusCode::OK, text)
        }
        ("/freshness", Access::Socket) => {
            let stale = *state.freshness.borrow();
            let seconds = stale.map_or(0, Stale::seconds);
            let is_kept = stale.is_some_and(|stale| stale.is_kept);
            let text = serde_json::json!({
                "is_current": stale.is_none(), "stale_seconds": seconds, "is_last_model": is_kept,
            });
            (StatusCode::OK, format!("{text}\n"))
        }
        ("/degraded", Access::Socket) => {
            (StatusCode::OK, format!("{}\n", serde_json::json!(*state.degraded.borrow())))
        }
        ("/pools", Access::Socket) => pools::answer(state),
        ("/lists", Access::Socket) => lists::answer(state).await,
        ("/drops", Access::Socket) => {
            let after = query.strip_prefix("after=").and_then(|number| number.parse().ok()).unwrap_or(0);
            match serde_json::to_string(&state.drops.after(after)) {
                Ok(text) => (StatusCode::OK, format!("{text}\n")),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            }
        }
        ("/version", Access::Socket) => (StatusCode::OK, format!("{}\n", env!("CARGO_PKG_VERSION"))),
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    }
}
