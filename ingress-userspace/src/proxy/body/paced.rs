//! A body that goes out no faster than a bandwidth allows.
//!
//! Credit grows with time; when there is none a single timer is set for the moment at which a part worth sending is
//! paid for. As in nginx the credit of one second is there at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{Body, BodyError};
use crate::model::policy::Bandwidth;

/// Parts smaller than this are not worth waking up for, unless the rate is that low.
const PART: u64 = 16 * 1024;

/// A body with a pace.
#[derive(Debug)]
pub(super) struct PacedBody {
    inner: Body,
    pace: Bandwidth,
    started: Option<Instant>,
    sent: u64,
    /// What was taken from the body and is not paid for yet.
    rest: Bytes,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl PacedBody {
    pub(super) fn new(inner: Body, pace: Bandwidth) -> Self {
        Self { inner, pace, started: None, sent: 0, rest: Bytes::new(), sleep: None }
    }

    pub(super) fn is_end(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.inner.size_hint();
        match inner.exact() {
            Some(length) => SizeHint::with_exact(length.saturating_add(rest)),
            None => SizeHint::new(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let credit = ready!(self.poll_credit(cx));
        let length = usize::try_from(credit).unwrap_or(usize::MAX).min(self.rest.len());
        self.sent += length as u64;
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    /// How much may go out now; waits until it is a part, or all that there is.
    fn poll_credit(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let Bandwidth { bytes_per_second, after } = self.pace;
        let rate = bytes_per_second.max(1);
        let started = *self.started.get_or_insert_with(Instant::now);
        let wanted = PART.min(rate.div_ceil(8)).min(self.rest.len() as u64);
        loop {
            let earned = u128::from(rate) * (started.elapsed().as_millis() + 1000) / 1000 + u128::from(after);
            let credit = u64::try_from(earned).unwrap_or(u64::MAX).saturating_sub(self.sent);
            if credit >= wanted {
                self.sleep = None;
                return Poll::Ready(credit);
            }
            let missing = (wanted - credit).saturating_mul(1000).div_ceil(rate);
            let deadline = Instant::now() + Duration::from_millis(missing.max(1));
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() < Instant::now() {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn run(length: usize, pace: Bandwidth) -> (usize, Duration, usize) {
        let mut body = Body::full(vec![b'x'; length]).paced(pace);
        let started = Instant::now();
        let (mut total, mut frames) = (0, 0);
        while let Some(frame) = body.frame().await {
            total += frame.unwrap().into_data().unwrap().len();
            frames += 1;
        }
        (total, started.elapsed(), frames)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_as_long_as_its_bandwidth_says() {
        let kib = 1024;
        let pace = Bandwidth { bytes_per_second: 10 * kib, after: 0 };
        let (total, time, frames) = run(50 * 1024, pace).await;
        assert_eq!(total, 50 * 1024);
        assert!((3900..=4200).contains(&time.as_millis()), "{time:?}");
        assert!(frames < 40, "{frames} frames");
        let (_, time, _) = run(50 * 1024, Bandwidth { after: 40 * kib, ..pace }).await;
        assert!(time.as_millis() < 50, "{time:?}");
        let (_, time, frames) = run(3, Bandwidth { bytes_per_second: 1, after: 0 }).await;
        assert!((1900..=2200).contains(&time.as_millis()) && frames == 3, "{time:?} {frames}");
    }
}
