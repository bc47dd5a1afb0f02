//! Requests of the proxy's own: for a verdict about a client's request, or with a copy of it.
//!
//! They are small, so answers are read to their end (what is longer ends the connection), and bodies are whole. Names are
//! looked up when they are needed and kept for a moment; every address is held against what may not be asked. Each worker
//! has its own idle connections.

pub mod dial;
pub mod names;
pub mod target;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout};

use super::resolve::is_of_this_host;
use crate::model::global;
use names::Names;
use target::Resolved;

/// Idle connections per place and worker, and of a worker.
const MOST_PER_PLACE: usize = 16;
const MOST: usize = 128;
/// How long a connection may be idle, as nginx's `keepalive_timeout`.
const IDLE: Duration = Duration::from_secs(60);
/// Of an answer's body; it is thrown away.
const LONGEST_BODY: usize = 64 * 1024;
/// Addresses that are tried.
const MOST_TRIES: usize = 3;

/// An open connection.
pub type Sender = SendRequest<Full<Bytes>>;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum SubrequestError {
    /// What the variables of the URL came to is none.
    #[error("no usable URL")]
    Url,
    /// The name is not known.
    #[error("name not resolved")]
    Resolve(#[source] io::Error),
    /// The address may not be asked.
    #[error("{0} is a local address")]
    Forbidden(IpAddr),
    /// The Service has no endpoint.
    #[error("no endpoint")]
    NoEndpoint,
    /// No connection.
    #[error("connect failed")]
    Connect(#[source] io::Error),
    /// No connection, or no answer, in time.
    #[error("timed out")]
    Timeout,
    /// The connection broke, or did not speak HTTP.
    #[error("connection broken")]
    Broken(#[source] hyper::Error),
    /// The request would ask about itself.
    #[error("asks itself")]
    Loop,
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a connection.
    pub connect: Duration,
    /// For an answer.
    pub answer: Duration,
}

/// An answer without its body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
}

/// Where a connection leads: the address, and the server name where it is TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Where.
    pub address: SocketAddr,
    /// Over TLS, for this name.
    pub server_name: Option<Rc<str>>,
}

/// What a worker keeps for such requests.
#[derive(Debug, Default)]
pub struct Subrequests {
    idle: RefCell<HashMap<Place, Vec<(Sender, Instant)>>>,
    names: Names,
}

impl Subrequests {
    /// Asks, and reads the answer.
    pub async fn send(
        &self,
        rules: &global::Subrequests,
        to: &Resolved,
        request: &Request<Full<Bytes>>,
        deadlines: Deadlines,
    ) -> Result<Answer, SubrequestError> {
        let addresses = match &to.backend {
            Some(backend) => backend.endpoints_in_turn(),
            None => timeout(deadlines.connect, self.names.look_up(&to.host, to.port, rules.is_ipv4_only))
                .await
                .map_err(|_elapsed| SubrequestError::Timeout)??,
        };
        let mut last = SubrequestError::NoEndpoint;
        for address in addresses.into_iter().take(MOST_TRIES) {
            if rules.forbids(address.ip()) {
                return Err(SubrequestError::Forbidden(address.ip().to_canonical()));
            }
            let server_name = to.is_https.then(|| Rc::from(to.host.as_str()));
            let place = Place { address, server_name };
            // Endpoints of a Service may be pods in the network of their node.
            let guard = to.backend.is_none().then_some(rules);
            match self.exchange(&place, guard, request, deadlines).await {
                Err(error @ SubrequestError::Connect(_)) => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    /// An idle connection may have been closed by its other end: then the request goes over a new one, if by these rules
    /// its address is none of this host.
    async fn exchange(
        &self,
        place: &Place,
        guard: Option<&global::Subrequests>,
        request: &Request<Full<Bytes>>,
        deadlines: Deadlines,
    ) -> Result<Answer, SubrequestError> {
        while let Some(mut sender) = self.take(place) {
            let mut exchange = std::pin::pin!(sender.try_send_request(request.clone()));
            match timeout(deadlines.answer, &mut exchange).await {
                Err(_elapsed) => return Err(SubrequestError::Timeout),
                Ok(Ok(response)) => return self.read(place, sender, response, deadlines).await,
                Ok(Err(mut failure)) => {
                    let is_unsent = failure.take_message().is_some();
                    let is_safe = is_unsent || http_body::Body::is_end_stream(request.body());
                    if !is_safe {
                        return Err(SubrequestError::Broken(failure.into_error()));
                    }
                }
            }
        }
        let address = place.address.ip().to_canonical();
        if guard.is_some_and(|rules| is_of_this_host(rules, address)) {
            return Err(SubrequestError::Forbidden(address));
        }
        let mut sender = match timeout(deadlines.connect, dial::connect(place)).await {
            Ok(connected) => connected?,
            Err(_elapsed) => return Err(SubrequestError::Timeout),
        };
        match timeout(deadlines.answer, sender.send_request(request.clone())).await {
            Ok(Ok(response)) => self.read(place, sender, response, deadlines).await,
            Ok(Err(error)) => Err(SubrequestError::Broken(error)),
            Err(_elapsed) => Err(SubrequestError::Timeout),
        }
    }

    /// Reads the body, so that the connection can be used again.
    async fn read(
        &self,
        place: &Place,
        sender: Sender,
        response: Response<Incoming>,
        deadlines: Deadlines,
    ) -> Result<Answer, SubrequestError> {
        let (parts, mut body) = response.into_parts();
        let is_complete = timeout(deadlines.answer, async {
            let mut left = LONGEST_BODY;
            while let Some(frame) = body.frame().await {
                let length = frame.ok().map(|frame| frame.data_ref().map_or(0, Bytes::len));
                match length.and_then(|length| left.checked_sub(length)) {
                    Some(rest) => left = rest,
                    None => return false,
                }
            }
            true
        });
        if is_complete.await == Ok(true) {
            self.put(place, sender);
        }
        Ok(Answer { status: parts.status, headers: parts.headers })
    }

    fn take(&self, place: &Place) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(place)?;
        while let Some((mut sender, since)) = connections.pop() {
            let is_ready = matches!(sender.ready().now_or_never(), Some(Ok(())));
            if is_ready && since.elapsed() < IDLE {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, place: &Place, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        let count: usize = idle.values().map(Vec::len).sum();
        if sender.is_closed() || count >= MOST {
            return;
        }
        let connections = idle.entry(place.clone()).or_default();
        if connections.len() < MOST_PER_PLACE {
            connections.push((sender, Instant::now()));
        }
    }

    /// Closes what was idle for too long or was closed by its other end. Called every few seconds.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE);
            !connections.is_empty()
        });
    }
}
