//! A deadline between two events that costs a timer only while something is awaited.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

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
