//! A client's body as the engine reads it: its size limit, the gaps in it, and how far it has come.

use std::cell::{Cell, RefCell};
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
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::copy::Copy;
use super::{BodyError, Gap};

/// How long and how much is waited for of a refused HTTP/2 body before its stream is reset: common clients take a reset
/// that comes with the answer for a failure, and lose the answer.
const REFUSED: Duration = Duration::from_secs(1);
const REFUSED_BYTES: usize = 64 * 1024;

/// Why the client's body failed; kept apart from the engine's error, which hides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFailure {
    /// More bytes than the route takes.
    TooLarge,
    /// Nothing came for too long.
    Timeout,
    /// The connection broke, or its framing.
    Broken,
    /// What was stored of it cannot be read any more.
    Unreadable,
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
    /// Whether the client has sent all of it.
    pub is_received: Cell<bool>,
    /// Whether all of it was handed over to the endpoint.
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
    /// Of a request without a body.
    pub fn finished() -> Rc<Self> {
        Rc::new(Self::new(true))
    }

    fn new(is_finished: bool) -> Self {
        Self {
            bytes: Cell::new(0),
            failure: Cell::new(None),
            is_started: Cell::new(false),
            is_received: Cell::new(is_finished),
            is_finished: Cell::new(is_finished),
            awaits_client: Cell::new(false),
            last: Cell::new(Instant::now()),
            is_abandoned: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// Whether the response has ended before.
    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// Ends the body where it is, because the response has ended.
    pub fn abandon(&self) {
        self.is_abandoned.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A client's body.
#[derive(Debug)]
pub(super) struct ClientBody {
    /// Taken when it is dropped.
    incoming: Option<Incoming>,
    version: Version,
    progress: Rc<Progress>,
    most: u64,
    gap: Gap,
    copy: Option<Copy>,
}

impl ClientBody {
    /// `None` when there is none.
    pub(super) fn new(incoming: Incoming, version: Version, gap: Duration) -> (Option<Self>, Rc<Progress>) {
        let is_empty = incoming.is_end_stream();
        let progress = Rc::new(Progress::new(is_empty));
        let body = (!is_empty).then(|| Self {
            incoming: Some(incoming),
            version,
            progress: Rc::clone(&progress),
            most: u64::MAX,
            gap: Gap::new(gap),
            copy: None,
        });
        (body, progress)
    }

    /// Fails when more bytes come than this.
    pub(super) fn limit(&mut self, most: u64) {
        self.most = most;
    }

    pub(super) fn progress(&self) -> &Rc<Progress> {
        &self.progress
    }

    /// Copies what is read from here on.
    pub(super) fn copied(&mut self, most: usize) -> oneshot::Receiver<Bytes> {
        let (copy, copied) = Copy::new(most);
        self.copy = Some(copy);
        copied
    }

    pub(super) fn is_end(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(SizeHint::new, Incoming::size_hint)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
                self.progress.is_received.set(true);
                self.progress.is_finished.set(true);
                if let Some(copy) = &mut self.copy {
                    copy.end();
                }
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
                self.progress.is_received.set(is_complete);
                self.progress.is_finished.set(is_complete);
                if let Some(copy) = &mut self.copy {
                    frame.data_ref().into_iter().for_each(|part| copy.add(part));
                    if is_complete {
                        copy.end();
                    }
                }
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
        let is_refused = !self.progress.is_received.get() && self.version == Version::HTTP_2;
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
