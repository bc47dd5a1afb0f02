//! Open connections of one worker, by endpoint and transport. HTTP/1: the last one used is the first one reused. HTTP/2: one
//! connection carries many requests.
//!
//! An HTTP/1 connection comes back only when its response was read to the end and its request was sent to the end, so
//! nothing of one exchange can be read as part of the next. How long and how often it is used the route says.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::balance::ewma::InFlight;
use super::connect;
use super::transport::Transport;
use crate::model::policy::delivery::Keepalive;
use crate::proxy::body::{Body, Progress};
use crate::proxy::error::ProxyError;

/// Requests at once on one HTTP/2 connection; most servers allow 100 or more.
const MOST_STREAMS: u32 = 100;

/// Sends requests on an open connection.
#[derive(Debug)]
pub enum Sender {
    /// One request after the other.
    Http1(Connection),
    /// One of many requests at once.
    Http2(Stream),
}

impl Sender {
    /// Sends a request. One of which nothing was sent comes back with the error.
    pub async fn try_send_request(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match self {
            Self::Http1(connection) => connection.sender.try_send_request(request).await,
            Self::Http2(stream) => stream.sender.try_send_request(request).await,
        }
    }
}

/// An HTTP/1 connection.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Body>,
    opened: Instant,
    /// Requests before the one that it carries now.
    requests: u32,
}

/// The place of one request on an HTTP/2 connection.
#[derive(Debug)]
pub struct Stream {
    sender: http2::SendRequest<Body>,
    usage: Rc<Usage>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.usage.streams.set(self.usage.streams.get().saturating_sub(1));
        self.usage.last.set(Instant::now());
    }
}

#[derive(Debug)]
struct Usage {
    streams: Cell<u32>,
    /// When the last request ended.
    last: Cell<Instant>,
    opened: Instant,
    /// Requests so far.
    requests: Cell<u32>,
    /// Of the route that opened it.
    keepalive: Keepalive,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    usage: Rc<Usage>,
}

impl Shared {
    fn new(sender: http2::SendRequest<Body>, keepalive: Keepalive) -> Self {
        let now = Instant::now();
        let usage = Usage {
            streams: Cell::new(0),
            last: Cell::new(now),
            opened: now,
            requests: Cell::new(0),
            keepalive,
        };
        Self { sender, usage: Rc::new(usage) }
    }

    fn stream(&self) -> Sender {
        self.usage.streams.set(self.usage.streams.get() + 1);
        self.usage.requests.set(self.usage.requests.get().saturating_add(1));
        Sender::Http2(Stream { sender: self.sender.clone(), usage: Rc::clone(&self.usage) })
    }

    /// Whether it is in use, or can still be.
    fn is_wanted(&self) -> bool {
        let is_idle = self.usage.last.get().elapsed() < self.usage.keepalive.timeout;
        let is_used = self.usage.streams.get() > 0 || (is_idle && self.takes_more());
        is_used && !self.sender.is_closed()
    }

    /// Whether it takes further requests.
    fn takes_more(&self) -> bool {
        let Usage { opened, requests, keepalive, .. } = &*self.usage;
        keepalive.per_endpoint > 0 && requests.get() < keepalive.requests && opened.elapsed() < keepalive.time
    }
}

/// The connections to one endpoint that are shared.
#[derive(Debug, Default)]
struct SharedSet {
    connections: Vec<Shared>,
    /// Held by the request that dials; the others wait for what comes of it.
    dialling: Rc<Mutex<()>>,
}

/// An endpoint and how it is spoken to.
type Key = (SocketAddr, u64);

/// The open connections.
#[derive(Debug, Default)]
pub struct Pools(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    idle: HashMap<Key, Vec<Idle>>,
    count: usize,
    shared: HashMap<Key, SharedSet>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
}

impl Pools {
    fn take(&self, key: Key) -> Option<Sender> {
        let mut state = self.0.borrow_mut();
        let State { idle, count, .. } = &mut *state;
        let connections = idle.get_mut(&key)?;
        while let Some(Idle { mut connection, until }) = connections.pop() {
            *count = count.saturating_sub(1);
            // One look, no waiting: a connection that is not ready for a request now is of no use.
            let is_ready = matches!(connection.sender.ready().now_or_never(), Some(Ok(())));
            if is_ready && Instant::now() < until {
                return Some(Sender::Http1(connection));
            }
        }
        None
    }

    fn put(&self, key: Key, mut connection: Connection, keepalive: &Keepalive) {
        let mut state = self.0.borrow_mut();
        let most = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        connection.requests = connection.requests.saturating_add(1);
        let is_worn = connection.requests >= keepalive.requests;
        if is_worn || connection.sender.is_closed() || state.count >= most(keepalive.connections) {
            return;
        }
        let connections = state.idle.entry(key).or_default();
        if connections.len() < most(keepalive.per_endpoint) {
            let until = (Instant::now() + keepalive.timeout).min(connection.opened + keepalive.time);
            connections.push(Idle { connection, until });
            state.count += 1;
        }
    }

    /// A place on a shared connection, the one with the fewest requests.
    fn share(&self, key: Key) -> Option<Sender> {
        let mut state = self.0.borrow_mut();
        let set = state.shared.get_mut(&key)?;
        set.connections.retain(Shared::is_wanted);
        let is_free = |shared: &&Shared| shared.usage.streams.get() < MOST_STREAMS && shared.takes_more();
        let free = set.connections.iter().filter(is_free);
        free.min_by_key(|shared| shared.usage.streams.get()).map(Shared::stream)
    }

    /// Keeps a new shared connection, and takes the first place on it.
    fn add_shared(&self, key: Key, sender: http2::SendRequest<Body>, keepalive: &Keepalive) -> Sender {
        let shared = Shared::new(sender, *keepalive);
        let stream = shared.stream();
        self.0.borrow_mut().shared.entry(key).or_default().connections.push(shared);
        stream
    }

    fn dialling(&self, key: Key) -> Rc<Mutex<()>> {
        Rc::clone(&self.0.borrow_mut().shared.entry(key).or_default().dialling)
    }

    /// Closes what was idle for too long or was closed by its endpoint. Called every few seconds.
    pub fn sweep(&self) {
        let mut state = self.0.borrow_mut();
        state.idle.retain(|_, connections| {
            connections.retain(|idle| !idle.connection.sender.is_closed() && Instant::now() < idle.until);
            !connections.is_empty()
        });
        state.count = state.idle.values().map(Vec::len).sum();
        state.shared.retain(|_, set| {
            set.connections.retain(Shared::is_wanted);
            !set.connections.is_empty() || Rc::strong_count(&set.dialling) > 1
        });
    }

    /// Connections that are idle now.
    pub fn len(&self) -> usize {
        self.0.borrow().count
    }

    /// Whether none is idle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The use of a connection for one exchange.
#[derive(Debug)]
pub struct Lease {
    pools: Rc<Pools>,
    endpoint: SocketAddr,
    transport: Arc<Transport>,
    keepalive: Keepalive,
    request: Rc<Progress>,
    sender: Option<Sender>,
    /// Counts the exchange until it ends.
    weighed: Option<InFlight>,
}

impl Lease {
    /// For an exchange with this endpoint; holds no connection yet.
    pub fn new(
        pools: &Rc<Pools>,
        endpoint: SocketAddr,
        (transport, keepalive): (&Arc<Transport>, &Keepalive),
        request: &Rc<Progress>,
    ) -> Self {
        Self {
            pools: Rc::clone(pools),
            endpoint,
            transport: Arc::clone(transport),
            keepalive: *keepalive,
            request: Rc::clone(request),
            sender: None,
            weighed: None,
        }
    }

    fn key(&self) -> Key {
        (self.endpoint, self.transport.id)
    }

    /// An open connection, if there is one that can take a request.
    pub fn idle(&self) -> Option<Sender> {
        if self.transport.is_shared() { self.pools.share(self.key()) } else { self.pools.take(self.key()) }
    }

    /// A new connection; of a kind that is shared, one that another request has just made.
    pub async fn connect(&self, deadline: Duration) -> Result<Sender, ProxyError> {
        let connected = async {
            if !self.transport.is_shared() {
                let sender = connect::http1(self.endpoint, &self.transport).await?;
                return Ok(Sender::Http1(Connection { sender, opened: Instant::now(), requests: 0 }));
            }
            let dialling = self.pools.dialling(self.key());
            let _turn = dialling.lock().await;
            match self.pools.share(self.key()) {
                Some(sender) => Ok(sender),
                None => {
                    let sender = connect::http2(self.endpoint, &self.transport).await?;
                    Ok(self.pools.add_shared(self.key(), sender, &self.keepalive))
                }
            }
        };
        timeout(deadline, connected).await.unwrap_or(Err(ProxyError::ConnectTimeout))
    }

    /// Counts the exchange until it ends.
    pub fn weigh(&mut self, exchange: InFlight) {
        self.weighed = Some(exchange);
    }

    /// Holds the connection until the response is read.
    pub fn with(mut self, sender: Sender) -> Self {
        self.sender = Some(sender);
        self
    }

    /// The response was read to its end. A request that still sends keeps its connection from being reused.
    pub fn give_back(mut self) {
        if !self.request.is_finished.get() {
            // Answered early: the connection (of HTTP/2, the stream) ends, and what the client still sends goes nowhere.
            self.request.abandon();
        }
        if let Some(Sender::Http1(connection)) = self.sender.take()
            && self.request.is_finished.get()
            && self.request.failure.get().is_none()
        {
            self.pools.put(self.key(), connection, &self.keepalive);
        }
    }
}
