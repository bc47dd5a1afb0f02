//! Bodies, streaming both ways: byte counts, gaps in time, the size limit, and the log record that rides on the response
//! until its last byte. Each kind of body is a file of its own.

mod client;
mod compressed;
mod copy;
mod endpoint;
mod gap;
mod paced;
mod spooled;
mod stored;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::context::ActiveRequest;
use super::temp::TempStore;
use crate::model::bodies::Coding;
use crate::model::policy::Bandwidth;
use crate::snapshot::in_flight::Held;
use crate::telemetry::access_log::Record;
use crate::upstream::pool::Lease;
pub use client::{ClientFailure, Progress};
pub use gap::Gap;
pub use spooled::Room;

use client::ClientBody;
use compressed::CompressedBody;
use copy::Copy;
use endpoint::EndpointBody;
use paced::PacedBody;
use spooled::SpooledBody;
use stored::StoredBody;

/// A request's or a response's body.
#[derive(Debug, Default)]
pub struct Body {
    kind: Kind,
    carried: Option<Carried>,
}

/// What ends with a response: its log record is written, its places in limits are free again.
#[derive(Debug)]
pub struct Carried {
    /// The log record.
    pub record: Box<Record>,
    /// Counts the request of its connection.
    pub active: ActiveRequest,
    /// Places in limits of requests in flight.
    pub in_flight: Vec<Held>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    /// So many bytes that nobody will read.
    Unread(u64),
    Full(Bytes),
    Client(Box<ClientBody>),
    Endpoint(Box<EndpointBody>),
    Paced(Box<PacedBody>),
    Stored(Box<StoredBody>),
    Spooled(Box<SpooledBody>),
    Compressed(Box<CompressedBody>),
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More bytes than the route takes.
    #[error("request body too large")]
    TooLarge,
    /// The client sent nothing for too long.
    #[error("client sent nothing in time")]
    ClientTimeout,
    /// The response has ended before the request.
    #[error("answered before the request was read")]
    Abandoned,
    /// The endpoint sent nothing for too long.
    #[error("endpoint sent nothing in time")]
    ReadTimeout,
    /// The temporary file cannot be written or read.
    #[error("temporary file")]
    Temporary(#[source] std::io::Error),
    /// The connection broke, or its framing.
    #[error("connection broken")]
    Broken(#[from] hyper::Error),
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body of this length that is only spoken of.
    pub fn unread(length: u64) -> Self {
        if length == 0 { Self::empty() } else { Self::of(Kind::Unread(length)) }
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Kind::Full(bytes.into()))
    }

    /// A client's body, as the engine reads it; it fails when nothing comes for as long as `gap`.
    pub fn client(incoming: Incoming, version: Version, gap: Duration) -> (Self, Rc<Progress>) {
        let (body, progress) = ClientBody::new(incoming, version, gap);
        (Self::of(body.map_or(Kind::Empty, |body| Kind::Client(Box::new(body)))), progress)
    }

    /// An endpoint's body; the connection goes back to its pool at the end.
    pub fn endpoint(incoming: Incoming, read: Duration, lease: Lease) -> Self {
        Self::of(Kind::Endpoint(Box::new(EndpointBody::new(incoming, read, lease))))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, carried: None }
    }

    /// The length, if it is known before the body comes.
    pub fn announced(&self) -> Option<u64> {
        http_body::Body::size_hint(self).exact()
    }

    /// Fails the body when more bytes come than this.
    pub fn limit(&mut self, most: u64) {
        if let Kind::Client(body) = &mut self.kind {
            body.limit(most);
        }
    }

    /// A copy of the body as it is read, if there is one and it is not longer than `most`.
    pub fn copied(&mut self, most: usize) -> Option<oneshot::Receiver<Bytes>> {
        match &mut self.kind {
            Kind::Client(body) => Some(body.copied(most)),
            Kind::Full(bytes) => {
                let (mut copy, copied) = Copy::new(most);
                copy.add(bytes);
                copy.end();
                Some(copied)
            }
            // A body that is stored has been copied by then.
            Kind::Empty
            | Kind::Unread(_)
            | Kind::Endpoint(_)
            | Kind::Paced(_)
            | Kind::Stored(_)
            | Kind::Spooled(_)
            | Kind::Compressed(_) => None,
        }
    }

    /// The same body from its start, for another attempt; `None` when it can be sent only once.
    pub fn again(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Unread(length) => Some(Self::unread(*length)),
            Kind::Full(bytes) => Some(Self::full(bytes.clone())),
            Kind::Stored(body) => Some(Self::of(Kind::Stored(Box::new(body.again())))),
            Kind::Client(_) | Kind::Endpoint(_) | Kind::Paced(_) | Kind::Spooled(_) | Kind::Compressed(_) => {
                None
            }
        }
    }

    /// What ends with the body: when the last byte is gone, or nobody wants it any more.
    pub fn carry(&mut self, carried: Carried) {
        self.carried = Some(carried);
    }

    /// Reads a client's body to its end: so much of it into memory, the rest into a temporary file.
    pub async fn store(&mut self, memory: u64, store: &Arc<TempStore>) -> Result<(), BodyError> {
        match std::mem::take(&mut self.kind) {
            Kind::Client(body) => {
                let stored = StoredBody::read(body, memory, store).await?;
                self.kind = Kind::Stored(Box::new(stored));
            }
            other => self.kind = other,
        }
        Ok(())
    }

    /// An endpoint's body, read as fast as it comes.
    pub fn spooled(self, room: Room, store: &Arc<TempStore>) -> Self {
        let is_small = self.announced().is_some_and(|length| length <= room.memory);
        match self.kind {
            Kind::Endpoint(_) if !is_small => {
                Self::of(Kind::Spooled(Box::new(SpooledBody::new(self, room, store))))
            }
            _ => self,
        }
    }

    /// The body with a coding.
    pub fn compressed(self, coding: Coding, level: u32) -> Self {
        match CompressedBody::new(self, coding, level) {
            Ok(body) => Self::of(Kind::Compressed(Box::new(body))),
            Err(plain) => plain,
        }
    }

    /// The body at this pace.
    pub fn paced(self, pace: Bandwidth) -> Self {
        match self.kind {
            Kind::Empty => self,
            _ => Self::of(Kind::Paced(Box::new(PacedBody::new(self, pace)))),
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
            Kind::Empty | Kind::Unread(_) => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Client(body) => body.poll(cx),
            Kind::Endpoint(body) => body.poll(cx),
            Kind::Paced(body) => body.poll(cx),
            Kind::Stored(body) => body.poll(cx),
            Kind::Spooled(body) => body.poll(cx),
            Kind::Compressed(body) => body.poll(cx),
        };
        if let Some(Carried { record, .. }) = &mut self.carried
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
            Kind::Empty | Kind::Unread(_) => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Client(body) => body.is_end(),
            Kind::Endpoint(body) => body.is_end(),
            Kind::Paced(body) => body.is_end(),
            Kind::Stored(body) => body.is_end(),
            Kind::Spooled(body) => body.is_end(),
            Kind::Compressed(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Unread(length) => SizeHint::with_exact(*length),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Client(body) => body.size_hint(),
            Kind::Endpoint(body) => body.size_hint(),
            Kind::Paced(body) => body.size_hint(),
            Kind::Stored(body) => body.size_hint(),
            Kind::Spooled(body) => body.size_hint(),
            Kind::Compressed(_) => SizeHint::new(),
        }
    }
}
