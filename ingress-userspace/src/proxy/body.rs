//! Bodies, streaming both ways: byte counts, gaps in time, the size limit, and the log record that rides on the response
//! until its last byte.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use super::context::ActiveRequest;
use crate::telemetry::access_log::Record;
use crate::upstream::pool::Lease;

/// The longest gap between two reads of a client's body, as nginx's `client_body_timeout`.
const CLIENT_BODY_GAP: Duration = Duration::from_secs(60);

/// How long and how much is waited for of a refused HTTP/2 body before its stream is reset: common clients take a reset
/// that comes with the answer for a failure, and lose the answer.
const REFUSED: Duration = Duration::from_secs(1);
const REFUSED_BYTES: usize = 64 * 1024;

/// A request's or a response's body.
#[derive(Debug, Default)]
pub struct Body {
    kind: Kind,
    carried: Option<(Box<Record>, ActiveRequest)>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Client(Box<ClientBody>),
    Endpoint(Box<EndpointBody>),
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More bytes than the route takes.
    #[error("request body too large")]
    TooLarge,
    /// The client sent nothing for too long.
    #[error("client sent nothing for {CLIENT_BODY_GAP:?}")]
    ClientTimeout,
    /// The response has ended before the request.
    #[error("answered before the request was read")]
    Abandoned,
    /// The endpoint sent nothing for too long.
    #[error("endpoint sent nothing in time")]
    ReadTimeout,
    /// The connection broke, or its framing.
    #[error("connection broken")]
    Broken(#[from] hyper::Error),
}

/// Why the client's body failed; kept apart from the engine's error, which hides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFailure {
    /// More bytes than the route takes.
    TooLarge,
    /// Nothing came for too long.
    Timeout,
    /// The connection broke, or its framing.
    Broken,
}

/// How far a client's body has come. Shared between the body, which the upstream engine owns, and the request's path.
#[derive(Debug)]
pub struct Progress {
    /// Bytes that went upstream.
    pub bytes: Cell<u64>,
    /// Why it failed.
    pub failure: Cell<Option<ClientFailure>>,
    /// Whether the engine asked for it.
    pub is_started: Cell<bool>,
    /// Whether all of it was handed over.
    pub is_finished: Cell<bool>,
    /// Whether the engine waits for the client (and not the other way round).
    pub awaits_client: Cell<bool>,
    /// When the engine last took a part, or the end.
    pub last: Cell<Instant>,
    /// The response has ended before: nobody wants the rest.
    is_abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    /// Ends the body where it is, because the response has ended.
    pub fn abandon(&self) {
        self.is_abandoned.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
struct ClientBody {
    /// Taken when it is dropped.
    incoming: Option<Incoming>,
    version: Version,
    progress: Rc<Progress>,
    most: u64,
    gap: Gap,
}

#[derive(Debug)]
struct EndpointBody {
    incoming: Incoming,
    gap: Gap,
    lease: Option<Lease>,
}

/// A deadline between two events that costs a timer only while something is awaited.
#[derive(Debug)]
pub struct Gap {
    limit: Duration,
    last: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Gap {
    /// A gap of at most `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, last: None, sleep: None }
    }

    /// Something happened.
    pub fn touch(&mut self) {
        self.last = None;
    }

    /// Nothing happened yet; ready when the gap is too long.
    pub fn poll_exceeded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.last.get_or_insert_with(Instant::now) + self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            match sleep.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                // The timer was set for an earlier gap: it is moved only when it fires.
                Poll::Ready(()) if sleep.deadline() < deadline => sleep.as_mut().reset(deadline),
                Poll::Ready(()) => return Poll::Ready(()),
            }
        }
    }
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Full(bytes.into()), carried: None }
    }

    /// A client's body, as the engine reads it.
    pub fn client(incoming: Incoming, version: Version) -> (Self, Rc<Progress>) {
        let is_empty = incoming.is_end_stream();
        let progress = Rc::new(Progress {
            bytes: Cell::new(0),
            failure: Cell::new(None),
            is_started: Cell::new(false),
            is_finished: Cell::new(is_empty),
            awaits_client: Cell::new(false),
            last: Cell::new(Instant::now()),
            is_abandoned: Cell::new(false),
            waker: RefCell::new(None),
        });
        if is_empty {
            return (Self::empty(), progress);
        }
        let body = ClientBody {
            incoming: Some(incoming),
            version,
            progress: Rc::clone(&progress),
            most: u64::MAX,
            gap: Gap::new(CLIENT_BODY_GAP),
        };
        (Self { kind: Kind::Client(Box::new(body)), carried: None }, progress)
    }

    /// An endpoint's body; the connection goes back to its pool at the end.
    pub fn endpoint(incoming: Incoming, read: Duration, lease: Lease) -> Self {
        let mut body = EndpointBody { incoming, gap: Gap::new(read), lease: Some(lease) };
        body.end_if_complete();
        Self { kind: Kind::Endpoint(Box::new(body)), carried: None }
    }

    /// The length, if it is known before the body comes.
    pub fn announced(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// Fails the body when more bytes come than this.
    pub fn limit(&mut self, most: u64) {
        if let Kind::Client(body) = &mut self.kind {
            body.most = most;
        }
    }

    /// What ends with the body: the record is written when the last byte is gone, or nobody wants it any more.
    pub fn carry(&mut self, record: Box<Record>, active: ActiveRequest) {
        self.carried = Some((record, active));
    }
}

impl ClientBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.is_started.set(true);
        if self.progress.is_abandoned.get() {
            return Poll::Ready(Some(Err(BodyError::Abandoned)));
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        let is_complete = incoming.is_end_stream();
        let Poll::Ready(frame) = polled else {
            self.progress.awaits_client.set(true);
            if self.gap.poll_exceeded(cx).is_pending() {
                self.progress.waker.replace(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            self.progress.failure.set(Some(ClientFailure::Timeout));
            return Poll::Ready(Some(Err(BodyError::ClientTimeout)));
        };
        self.gap.touch();
        self.progress.awaits_client.set(false);
        self.progress.last.set(Instant::now());
        Poll::Ready(match frame {
            None => {
                self.progress.is_finished.set(true);
                None
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let total = self.progress.bytes.get() + length;
                if total > self.most {
                    self.progress.failure.set(Some(ClientFailure::TooLarge));
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                self.progress.bytes.set(total);
                // Engines do not ask again once a body of known length is complete.
                self.progress.is_finished.set(is_complete);
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.progress.failure.set(Some(ClientFailure::Broken));
                Some(Err(error.into()))
            }
        })
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let is_refused = !self.progress.is_finished.get() && self.version == Version::HTTP_2;
        if let Some(mut incoming) = self.incoming.take().filter(|_| is_refused)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(REFUSED, async move {
                let mut left = REFUSED_BYTES;
                while let Some(Ok(frame)) = incoming.frame().await {
                    match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                        Some(rest) => left = rest,
                        // Its window stays closed until the stream is reset.
                        None => std::future::pending().await,
                    }
                }
            }));
        }
    }
}

impl EndpointBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => match self.gap.poll_exceeded(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    self.lease = None;
                    Poll::Ready(Some(Err(BodyError::ReadTimeout)))
                }
            },
            Poll::Ready(Some(Ok(frame))) => {
                self.gap.touch();
                self.end_if_complete();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn end_if_complete(&mut self) {
        if self.incoming.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Client(body) => body.poll(cx),
            Kind::Endpoint(body) => body.poll(cx),
        };
        if let Some((record, _)) = &mut self.carried
            && let Poll::Ready(Some(Ok(frame))) = &polled
        {
            record.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        if matches!(polled, Poll::Ready(None)) {
            // Written now, not when the engine drops the body: the next request of the connection may come first.
            self.carried = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Client(body) => body.incoming.as_ref().is_none_or(Incoming::is_end_stream),
            Kind::Endpoint(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Client(body) => body.incoming.as_ref().map_or_else(SizeHint::new, Incoming::size_hint),
            Kind::Endpoint(body) => body.incoming.size_hint(),
        }
    }
}
