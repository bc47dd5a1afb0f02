//! An endpoint's body as the engine reads it: the gaps in it, and the connection that goes back to its pool at the end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::{BodyError, Gap};
use crate::upstream::pool::Lease;

/// An endpoint's body.
#[derive(Debug)]
pub(super) struct EndpointBody {
    incoming: Incoming,
    gap: Gap,
    lease: Option<Lease>,
}

impl EndpointBody {
    pub(super) fn new(incoming: Incoming, read: Duration, lease: Lease) -> Self {
        let mut body = Self { incoming, gap: Gap::new(read), lease: Some(lease) };
        body.end_if_complete();
        body
    }

    pub(super) fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
