//! Choosing an endpoint, and when a second attempt is safe: `proxy-next-upstream error timeout`, three tries.
//!
//! A request goes to the next endpoint when the one before saw nothing of it, or when it is idempotent and its body
//! (which may be empty) can be sent again.
//! A connection from the pool that turns out closed is no attempt: the endpoint gets the request on a new one.

use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::body::{Body, ClientFailure, Progress};
use super::context::RequestCtx;
use super::error::ProxyError;
use super::forward::Outgoing;
use crate::model::policy::Timeouts;
use crate::snapshot::{Action, Target};
use crate::telemetry::access_log::Attempt;
use crate::upstream::backend::{BackendCell, EndpointSet};
use crate::upstream::balance::round_robin;
use crate::upstream::pool::{Lease, Sender};
use crate::upstream::transport::Transport;

/// Attempts per request, as `proxy-next-upstream-tries`.
const MOST_TRIES: usize = 3;

/// The backend for a request and its endpoints now; whether it is the fallback.
pub fn choose<'a>(
    ctx: &RequestCtx,
    action: &'a Action,
) -> Result<(&'a Target, Arc<EndpointSet>, bool), ProxyError> {
    let Action::Forward { targets, total_weight, fallback } = action else { return Err(ProxyError::NoRoute) };
    let target = round_robin::weighted(targets, *total_weight, || ctx.worker.random());
    let endpoints = target.map(|target| (target, target.backend.endpoints.pin()));
    if let Some((target, endpoints)) = &endpoints
        && !endpoints.usable.is_empty()
    {
        return Ok((target, Arc::clone(endpoints), false));
    }
    if let Some(target) = fallback {
        let endpoints = target.backend.endpoints.pin();
        if !endpoints.usable.is_empty() {
            return Ok((target, endpoints, true));
        }
    }
    match endpoints {
        Some((_, endpoints)) if endpoints.is_missing => Err(ProxyError::BackendMissing),
        _ => Err(ProxyError::NoEndpoint),
    }
}

/// What an attempt left of the request.
struct Failed {
    error: ProxyError,
    /// The body, when nothing of the request was sent.
    unsent: Option<Body>,
    /// The connection came from the pool and broke before an answer: the endpoint may have closed it before.
    was_stale: bool,
}

/// Sends a request to one endpoint after the other until one answers.
pub async fn send(
    ctx: &mut RequestCtx,
    backend: &BackendCell,
    endpoints: &EndpointSet,
    outgoing: Outgoing,
    body: Body,
    progress: &Rc<Progress>,
    (transport, timeouts): (&Arc<Transport>, &Timeouts),
) -> Result<(Response<Incoming>, Lease), ProxyError> {
    let copy = body.again();
    let is_repeatable = copy.is_some() && is_idempotent(&outgoing.method);
    let first = round_robin::next(&backend.turn);
    let mut body = Some(body);
    let mut tries = 0;
    let mut may_reuse = true;
    loop {
        let Some(endpoint) = round_robin::pick(&endpoints.usable, first, tries) else {
            return Err(ProxyError::NoEndpoint);
        };
        let started = Instant::now();
        // Cloning a HeaderMap shares names and values; it is the price of a safe second attempt.
        let whole = body.take().or_else(|| copy.as_ref().and_then(Body::again)).unwrap_or_default();
        let request = transport.request(outgoing.clone(), whole);
        let lease = Lease::new(&ctx.worker.pools, endpoint, transport, progress);
        let mut attempt = Attempt::begin(endpoint);
        let result = once(ctx, lease, request, progress, timeouts, may_reuse, &mut attempt).await;
        attempt.header_time = started.elapsed();
        let failed = match result {
            Ok((response, lease)) => {
                attempt.status = Some(response.status().as_u16());
                ctx.record.attempted(attempt);
                return Ok((response, lease));
            }
            Err(failed) => failed,
        };
        if failed.was_stale && (failed.unsent.is_some() || is_repeatable) {
            // Not the endpoint's fault, and not logged as an attempt.
            body = failed.unsent;
            may_reuse = false;
            continue;
        }
        attempt.status = Some(failed.error.status().as_u16());
        ctx.record.attempted(attempt);
        ctx.worker.counters.upstream_failed.add(1);
        tries += 1;
        let is_safe = failed.unsent.is_some() || is_repeatable;
        let has_more = tries < MOST_TRIES.min(endpoints.usable.len());
        if !(is_safe && has_more && failed.error.is_retryable()) {
            return Err(failed.error);
        }
        ctx.worker.counters.upstream_retries.add(1);
        body = failed.unsent;
        may_reuse = true;
    }
}

async fn once(
    ctx: &RequestCtx,
    lease: Lease,
    request: Request<Body>,
    progress: &Progress,
    timeouts: &Timeouts,
    may_reuse: bool,
    attempt: &mut Attempt,
) -> Result<(Response<Incoming>, Lease), Failed> {
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
        Ok(response) => Ok((response, lease.with(sender))),
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
