//! What belongs to one connection, and to one request.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::head::RequestHead;
use super::stream::Reading;
use super::worker::Worker;
use crate::filter::compression::Accepted;
use crate::snapshot::buckets::Level;
use crate::snapshot::in_flight::Held;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::access_log::Record;
use crate::tls::identity::TlsInfo;

/// How the client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In cleartext.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who asks, as the connection shows it or as a trusted proxy before us says. Every decision about a client reads this.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address, IPv4 when it is IPv4-mapped.
    pub client: IpAddr,
    /// The same as a header value.
    pub client_value: HeaderValue,
    /// How the client speaks.
    pub scheme: Scheme,
    /// The port that the client connected to, as a header value.
    pub port_value: HeaderValue,
    /// The host that the client asked for, when a trusted proxy names one.
    pub host: Option<HeaderValue>,
    /// The address of the connection itself.
    pub connection: IpAddr,
}

/// Counts connections.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// One client connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Who is at its other end.
    pub peer: Rc<Peer>,
    /// The peer's address is what a PROXY protocol header says.
    pub is_spoken_for: bool,
    /// Name of the listener.
    pub listener: Rc<str>,
    /// What the TLS handshake said; `None` in cleartext.
    pub tls: Option<TlsInfo>,
    /// What its socket knows and is told.
    pub reading: Arc<Reading>,
    /// Counts connections of the process, from 1.
    pub serial: u64,
    /// Port of the other end.
    pub remote_port: u16,
    /// Our address.
    pub local: IpAddr,
    /// Requests so far.
    pub requests: Cell<u64>,
    /// Requests in flight.
    pub active: Cell<u32>,
    /// When the last one began or ended.
    pub last: Cell<Instant>,
    /// Its place among the connections of its client, where those are counted.
    pub place: Option<Held>,
}

impl ConnectionInfo {
    /// A connection that was just accepted.
    pub fn new(peer: SocketAddr, local: SocketAddr, listener: Rc<str>, scheme: Scheme) -> Self {
        let (client, remote_port) = (peer.ip().to_canonical(), peer.port());
        let value = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        let peer = Peer {
            client,
            client_value: value(client.to_string()),
            scheme,
            port_value: HeaderValue::from(local.port()),
            host: None,
            connection: client,
        };
        Self {
            peer: Rc::new(peer),
            is_spoken_for: false,
            listener,
            reading: Arc::default(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            remote_port,
            local: local.ip().to_canonical(),
            tls: None,
            requests: Cell::new(0),
            active: Cell::new(0),
            last: Cell::new(Instant::now()),
            place: None,
        }
    }

    /// A load balancer says who is behind the connection, and where they connected to.
    pub fn speaks_for(&mut self, client: SocketAddr, connected_to: SocketAddr, scheme: Scheme) {
        let client = client.ip().to_canonical();
        let text = HeaderValue::try_from(client.to_string());
        self.is_spoken_for = true;
        self.peer = Rc::new(Peer {
            client,
            client_value: text.unwrap_or(HeaderValue::from_static("")),
            scheme,
            port_value: HeaderValue::from(connected_to.port()),
            ..(*self.peer).clone()
        });
    }

    /// The client may still be sending what nobody reads.
    pub fn linger(&self) {
        self.reading.lingers.store(true, Ordering::Relaxed);
    }
}

/// Counts a request of its connection for as long as it lives.
#[derive(Debug)]
pub struct ActiveRequest(Rc<ConnectionInfo>);

impl ActiveRequest {
    /// Begins.
    pub fn begin(connection: &Rc<ConnectionInfo>) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        connection.active.set(connection.active.get() + 1);
        connection.reading.head_ended();
        Self(Rc::clone(connection))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        if self.0.active.get() == 0 {
            self.0.reading.request_ended();
        }
        self.0.last.set(Instant::now());
    }
}

/// One request.
#[derive(Debug)]
pub struct RequestCtx {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// Its connection.
    pub connection: Rc<ConnectionInfo>,
    /// Who asks: the connection's peer, unless a trusted proxy names another.
    pub peer: Rc<Peer>,
    /// The configuration that it began with and ends with.
    pub snapshot: Arc<Snapshot>,
    /// The route that took it.
    pub route: Option<Arc<Route>>,
    /// The request as it came, where its response quotes it.
    pub head: Option<Rc<RequestHead>>,
    /// The origin that the response allows to read it.
    pub cors_origin: Option<HeaderValue>,
    /// The response is a backend's.
    pub is_from_backend: bool,
    /// The response is an error page: what the route would say of its own is not said.
    pub is_page: bool,
    /// What the log will say.
    pub record: Box<Record>,
    /// The client's side of a protocol switch, when it asked for one that we allow.
    pub upgrade: Option<OnUpgrade>,
    /// The proxy itself asks, on behalf of another request.
    pub is_internal: bool,
    /// How a limit stands whose clients are told; an error when it refused the request.
    pub level: Option<Result<Level, Level>>,
    /// Its places in limits of requests in flight; they are free again when the response has ended.
    pub in_flight: Vec<Held>,
    /// Cookies that an authentication service sets, for the response.
    pub auth_cookies: Vec<HeaderValue>,
    /// Headers of that service's answer that the route quotes.
    pub auth_answer: Option<Box<HeaderMap>>,
    /// What the groups of the rewrite matched, where headers quote them.
    pub groups: Vec<String>,
    /// Codings that its response may have; `None`: it stays as it is.
    pub accepted: Option<Accepted>,
}

impl RequestCtx {
    /// A request at its beginning.
    pub fn new(
        worker: Rc<Worker>,
        connection: Rc<ConnectionInfo>,
        snapshot: Arc<Snapshot>,
        record: Box<Record>,
    ) -> Self {
        Self {
            snapshot,
            peer: Rc::clone(&connection.peer),
            connection,
            worker,
            route: None,
            head: None,
            cors_origin: None,
            is_from_backend: false,
            is_page: false,
            record,
            upgrade: None,
            is_internal: false,
            level: None,
            in_flight: Vec::new(),
            auth_cookies: Vec::new(),
            groups: Vec::new(),
            auth_answer: None,
            accepted: None,
        }
    }
}
