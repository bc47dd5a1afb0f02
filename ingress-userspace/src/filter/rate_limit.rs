//! `limit-rps` and `limit-rpm` with `limit-burst-multiplier`, as nginx's `limit_req … burst=N nodelay`; and `rate-limit`,
//! the same with other times, keys and headers.
//!
//! One set of buckets per Ingress, shared by its paths and by all workers of the node, and with other nodes where the cluster
//! names a Redis. A client may send `burst` requests
//! above the rate at once; over it the answer is 503 (or what is configured) and costs no token of any limit.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use ingress_common::maps::Limit;

use super::{Filter, Outcome, Stop};
use crate::model::policy::{Disclosure, Rate, RateLimit};
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::{Request, Response};
use crate::proxy::limit_key::{Counted, Key, refusal};
use crate::proxy::shares::SharedRate;
use crate::snapshot::buckets::{Buckets, Level, now};

const SECOND_NS: u64 = 1_000_000_000;

const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Requests of one client.
#[derive(Debug)]
pub struct RequestRate {
    buckets: Arc<Buckets>,
    rate: Arc<SharedRate>,
    counted: Counted,
    status: StatusCode,
    disclosure: Disclosure,
}

/// Why a limit cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum RateLimitError {
    /// It would not read as a refusal.
    #[error("the rate limit's status {0} is not between 400 and 599")]
    Status(u16),
    /// There is nothing to count.
    #[error("the rate limit names no rate")]
    NoRate,
}

impl RequestRate {
    /// From the model.
    pub fn from_policy(policy: &RateLimit, buckets: &Arc<Buckets>) -> Result<Self, RateLimitError> {
        let RateLimit { bucket, rates, key, exempt, status, disclosure } = policy;
        if rates.is_empty() {
            return Err(RateLimitError::NoRate);
        }
        Ok(Self {
            buckets: Arc::clone(buckets),
            rate: Arc::new(SharedRate {
                identity: bucket.as_str().into(),
                limits: rates.iter().map(limit).collect(),
            }),
            counted: Counted::new(key, exempt),
            status: refusal(*status).ok_or(RateLimitError::Status(*status))?,
            disclosure: *disclosure,
        })
    }
}

fn limit(rate: &Rate) -> Limit {
    let Rate { requests, period, burst } = rate;
    let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let rate_ns = period_ns.checked_div((*requests).into()).unwrap_or(SECOND_NS).max(1);
    Limit { rate_ns, burst_ns: rate_ns.saturating_mul((*burst).into()), ..Limit::default() }
}

impl Filter for RequestRate {
    const NAME: &'static str = "rate_limit";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let Some(key) = self.counted.key(ctx, &request.head) else { return ControlFlow::Continue(()) };
        let SharedRate { identity, limits } = &*self.rate;
        let taken = match &key {
            Key::Address(address) => self.buckets.take(identity, address, limits, now()),
            Key::Text(text) => self.buckets.take(identity, text, limits, now()),
        };
        if self.disclosure != Disclosure::Nothing {
            ctx.level = Some(taken);
        }
        if taken.is_ok() {
            if ctx.snapshot.globals.shares_limits {
                ctx.worker.shares.add(&self.rate, key);
            }
            return ControlFlow::Continue(());
        }
        ctx.worker.counters.rate_limited.add(1);
        ControlFlow::Break(Stop::Fail(ProxyError::RateLimited(self.status)))
    }

    fn on_response(&self, ctx: &mut RequestCtx, response: &mut Response) {
        if self.disclosure == Disclosure::Nothing {
            return;
        }
        let Some(taken) = ctx.level.take() else { return };
        let headers = &mut response.head.headers;
        let level = taken.unwrap_or_else(|level| {
            headers.set(RETRY_AFTER, HeaderValue::from(seconds(level.wait_ns())));
            level
        });
        if self.disclosure == Disclosure::All {
            headers.set(RATELIMIT_LIMIT, HeaderValue::from(capacity(&level.limit)));
            headers.set(RATELIMIT_REMAINING, HeaderValue::from(level.remaining()));
            headers.set(RATELIMIT_RESET, HeaderValue::from(seconds(level.backlog_ns)));
        }
    }
}

/// Requests that may come at once after a rest.
fn capacity(limit: &Limit) -> u64 {
    Level { limit: *limit, backlog_ns: 0 }.remaining()
}

/// Whole seconds, rounded up.
fn seconds(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS)
}
