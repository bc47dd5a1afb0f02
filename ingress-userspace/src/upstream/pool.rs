//! Idle connections of one worker, by endpoint: the last one used is the first one reused.
//!
//! A connection comes back only when its response was read to the end and its request was sent to the end, so nothing of
//! one exchange can be read as part of the next. What stays idle for a minute is closed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::connect::connect;
use crate::proxy::body::{Body, Progress};
use crate::proxy::error::ProxyError;

/// An open connection.
pub type Sender = SendRequest<Body>;

/// Idle connections per endpoint and worker.
const MOST_PER_ENDPOINT: usize = 64;
/// Idle connections per worker, as nginx's `keepalive 320`.
const MOST: usize = 320;
/// How long a connection may be idle, as nginx's `keepalive_timeout`.
const IDLE: Duration = Duration::from_secs(60);

/// The idle connections.
#[derive(Debug, Default)]
pub struct Pools(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    idle: HashMap<SocketAddr, Vec<Idle>>,
    count: usize,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pools {
    fn take(&self, endpoint: SocketAddr) -> Option<Sender> {
        let mut state = self.0.borrow_mut();
        let State { idle, count } = &mut *state;
        let connections = idle.get_mut(&endpoint)?;
        while let Some(Idle { mut sender, since }) = connections.pop() {
            *count = count.saturating_sub(1);
            // One look, no waiting: a connection that is not ready for a request now is of no use.
            let is_ready = matches!(sender.ready().now_or_never(), Some(Ok(())));
            if is_ready && since.elapsed() < IDLE {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, endpoint: SocketAddr, sender: Sender) {
        let mut state = self.0.borrow_mut();
        if sender.is_closed() || state.count >= MOST {
            return;
        }
        let connections = state.idle.entry(endpoint).or_default();
        if connections.len() < MOST_PER_ENDPOINT {
            connections.push(Idle { sender, since: Instant::now() });
            state.count += 1;
        }
    }

    /// Closes what was idle for too long or was closed by its endpoint. Called every few seconds.
    pub fn sweep(&self) {
        let mut state = self.0.borrow_mut();
        state.idle.retain(|_, connections| {
            connections.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE);
            !connections.is_empty()
        });
        state.count = state.idle.values().map(Vec::len).sum();
    }

    /// Idle connections now.
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
    request: Rc<Progress>,
    sender: Option<Sender>,
}

impl Lease {
    /// For an exchange with this endpoint; holds no connection yet.
    pub fn new(pools: &Rc<Pools>, endpoint: SocketAddr, request: &Rc<Progress>) -> Self {
        Self { pools: Rc::clone(pools), endpoint, request: Rc::clone(request), sender: None }
    }

    /// An idle connection, if there is one.
    pub fn idle(&self) -> Option<Sender> {
        self.pools.take(self.endpoint)
    }

    /// A new connection.
    pub async fn connect(&self, deadline: Duration) -> Result<Sender, ProxyError> {
        connect(self.endpoint, deadline).await
    }

    /// Holds the connection until the response is read.
    pub fn with(mut self, sender: Sender) -> Self {
        self.sender = Some(sender);
        self
    }

    /// The response was read to its end. A request that still sends keeps its connection from being reused.
    pub fn give_back(mut self) {
        if !self.request.is_finished.get() {
            // Answered early: the connection ends, and what the client still sends goes nowhere.
            self.request.abandon();
        }
        if let Some(sender) = self.sender.take()
            && self.request.is_finished.get()
            && self.request.failure.get().is_none()
        {
            self.pools.put(self.endpoint, sender);
        }
    }
}
