//! Sending a request to one endpoint after the other: when a second attempt is safe, and when it is wanted
//! (`proxy-next-upstream`).
//!
//! A request goes on when the endpoint before saw nothing of it, or when all of it can be sent again and it is idempotent
//! (or may be repeated nevertheless). The answer of the last attempt is passed on, whatever it is. A connection from the pool
//! that turns out closed is no attempt: the endpoint gets the request on a new one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::body::{Body, ClientFailure, Progress};
use super::choose::Choice;
use super::context::RequestCtx;
use super::error::ProxyError;
use super::forward::Outgoing;
use crate::model::policy::Timeouts;
use crate::model::policy::delivery::{Retry, RetryOn};
use crate::snapshot::delivery::Delivery;
use crate::telemetry::access_log::Attempt;
use crate::upstream::backend::Endpoint;
use crate::upstream::balance::ewma::InFlight;
use crate::upstream::pool::{Lease, Sender};
use crate::upstream::transport::Transport;

/// Attempts without a limit of their own, per endpoint and in all.
const UNLIMITED_PER_ENDPOINT: usize = 3;
const UNLIMITED: usize = 100;
/// The least latency that a failure counts as: else the endpoint that refuses fastest would look best.
const FAILURE: Duration = Duration::from_secs(1);

/// What an attempt left of the request.
struct Failed {
    error: ProxyError,
    /// The body, when nothing of the request was sent.
    unsent: Option<Body>,
    /// The connection came from the pool and broke before an answer: the endpoint may have closed it before.
    was_stale: bool,
}

/// What the attempts of one request have in common.
struct Tries<'a> {
    retry: &'a Retry,
    began: Instant,
    /// Everything that was sent can be sent again, and may be.
    is_repeatable: bool,
    failed: Vec<SocketAddr>,
}

impl Tries<'_> {
    /// Whether another attempt may begin after one that failed at `endpoint`; then it counts.
    fn may_go_on(&mut self, ctx: &RequestCtx, choice: &Choice<'_>, endpoint: SocketAddr) -> bool {
        self.failed.push(endpoint);
        let most = match usize::try_from(self.retry.tries) {
            Ok(0) => (choice.endpoints.usable.len() * UNLIMITED_PER_ENDPOINT).min(UNLIMITED),
            Ok(tries) => tries,
            Err(_) => UNLIMITED,
        };
        let is_late = self.retry.timeout.is_some_and(|most| self.began.elapsed() >= most);
        let may = self.failed.len() < most
            && !is_late
            && choice.target.backend.budget.spend(self.retry.budget_percent);
        if may {
            ctx.worker.counters.upstream_retries.add(1);
        }
        may
    }
}

/// Sends a request to one endpoint after the other until one answers.
pub async fn send(
    ctx: &mut RequestCtx,
    choice: &mut Choice<'_>,
    outgoing: Outgoing,
    body: Body,
    progress: &Rc<Progress>,
    (transport, delivery, timeouts): (&Arc<Transport>, &Delivery, &Timeouts),
) -> Result<(Response<Incoming>, Lease), ProxyError> {
    let Delivery { retry, keepalive, .. } = delivery;
    let may_repeat = retry.on.non_idempotent || is_idempotent(&outgoing.method);
    let copy = body.again().filter(|_| may_repeat);
    let is_repeatable = copy.is_some();
    let mut tries = Tries { retry, began: Instant::now(), is_repeatable, failed: Vec::new() };
    choice.target.backend.budget.earn(retry.budget_percent);
    let mut body = Some(body);
    let mut stale: Option<Arc<Endpoint>> = None;
    loop {
        let may_reuse = stale.is_none();
        let endpoint = stale.take().or_else(|| choice.endpoint(ctx, &tries.failed));
        let Some(endpoint) = endpoint else { return Err(ProxyError::NoEndpoint) };
        let started = Instant::now();
        // Cloning a HeaderMap shares names and values; it is the price of a safe second attempt.
        let whole = body.take().or_else(|| copy.as_ref().and_then(Body::again)).unwrap_or_default();
        let request = transport.request(outgoing.clone(), whole);
        let mut lease = Lease::new(&ctx.worker.pools, endpoint.address, (transport, keepalive), progress);
        let weighed = choice.picker.weighs_load().then(|| InFlight::begin(&endpoint));
        let mut attempt = Attempt::begin(endpoint.address);
        let result = once(ctx, &lease, request, progress, timeouts, may_reuse, &mut attempt).await;
        attempt.header_time = started.elapsed();
        let failed = match result {
            Ok((response, sender)) => {
                let status = response.status().as_u16();
                attempt.status = Some(status);
                let latency = attempt.header_time;
                attempt.is_answered = true;
                ctx.record.attempted(attempt);
                if let Some(weighed) = weighed {
                    weighed.answered(latency);
                    lease.weigh(weighed);
                }
                let is_refused = retry.on.statuses.contains(&status) && tries.is_repeatable;
                if is_refused && tries.may_go_on(ctx, choice, endpoint.address) {
                    continue;
                }
                return Ok((response, lease.with(sender)));
            }
            Err(failed) => failed,
        };
        if failed.was_stale && (failed.unsent.is_some() || tries.is_repeatable) {
            // Not the endpoint's fault, and not logged as an attempt.
            body = failed.unsent;
            stale = Some(endpoint);
            continue;
        }
        if let Some(weighed) = weighed {
            weighed.answered(attempt.header_time.max(FAILURE));
        }
        attempt.status = Some(failed.error.status().as_u16());
        ctx.record.attempted(attempt);
        ctx.worker.counters.upstream_failed.add(1);
        let is_safe = failed.unsent.is_some() || tries.is_repeatable;
        let is_wanted = is_wanted(&retry.on, &failed.error);
        if !(is_safe && is_wanted && tries.may_go_on(ctx, choice, endpoint.address)) {
            return Err(failed.error);
        }
        body = failed.unsent;
    }
}

/// Whether another endpoint is asked after this failure.
fn is_wanted(on: &RetryOn, error: &ProxyError) -> bool {
    error.is_retryable()
        && match error {
            ProxyError::ConnectTimeout | ProxyError::SendTimeout | ProxyError::ReadTimeout => on.timeout,
            ProxyError::Upstream(error) if error.is_parse() => on.invalid_header,
            _ => on.error,
        }
}

async fn once(
    ctx: &RequestCtx,
    lease: &Lease,
    request: Request<Body>,
    progress: &Progress,
    timeouts: &Timeouts,
    may_reuse: bool,
    attempt: &mut Attempt,
) -> Result<(Response<Incoming>, Sender), Failed> {
    let counters = &ctx.worker.counters;
    let idle = if may_reuse { lease.idle() } else { None };
    let is_reused = idle.is_some();
    let mut sender = match idle {
        Some(sender) => {
            counters.upstream_reused.add(1);
            sender
        }
        None => {
            let started = Instant::now();
            match lease.connect(timeouts.connect).await {
                Ok(sender) => {
                    attempt.connect_time = started.elapsed();
                    counters.upstream_new.add(1);
                    sender
                }
                Err(error) => {
                    return Err(Failed { error, unsent: Some(request.into_body()), was_stale: false });
                }
            }
        }
    };
    match exchange(&mut sender, request, progress, timeouts).await {
        Ok(response) => Ok((response, sender)),
        Err(mut failed) => {
            failed.was_stale = is_reused && matches!(failed.error, ProxyError::Upstream(_));
            Err(failed)
        }
    }
}

/// One request and the head of its response, under the send and read deadlines.
async fn exchange(
    sender: &mut Sender,
    request: Request<Body>,
    progress: &Progress,
    timeouts: &Timeouts,
) -> Result<Response<Incoming>, Failed> {
    let started = Instant::now();
    let exchange = sender.try_send_request(request);
    tokio::pin!(exchange);
    loop {
        let (deadline, error) = deadline(started, progress, timeouts);
        let result = tokio::select! {
            biased;
            result = &mut exchange => result,
            () = sleep_until(deadline) => {
                if deadline == self::deadline(started, progress, timeouts).0 {
                    return Err(Failed { error, unsent: None, was_stale: false });
                }
                continue;
            }
        };
        return result.map_err(|mut failure| {
            let unsent = failure.take_message().map(Request::into_body);
            let error = match progress.failure.get() {
                Some(ClientFailure::TooLarge) => ProxyError::BodyTooLarge,
                Some(ClientFailure::Timeout) => ProxyError::ClientBodyTimeout,
                Some(ClientFailure::Unreadable) => ProxyError::StoredBody,
                Some(ClientFailure::Broken) => ProxyError::ClientBody(failure.into_error()),
                None => ProxyError::Upstream(failure.into_error()),
            };
            Failed { error, unsent, was_stale: false }
        });
    }
}

/// The next moment at which something is late, and what that would be.
fn deadline(started: Instant, progress: &Progress, timeouts: &Timeouts) -> (Instant, ProxyError) {
    let last = progress.last.get().max(started);
    if progress.is_finished.get() {
        (last + timeouts.read, ProxyError::ReadTimeout)
    } else if progress.awaits_client.get() {
        // The body itself watches the client; this deadline only comes round to look again.
        (Instant::now() + timeouts.read, ProxyError::ReadTimeout)
    } else {
        (last + timeouts.send, ProxyError::SendTimeout)
    }
}

fn is_idempotent(method: &Method) -> bool {
    // nginx retries all but POST, LOCK and PATCH.
    *method != Method::POST && *method != Method::PATCH && method.as_str() != "LOCK"
}
