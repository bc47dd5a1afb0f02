//! `limit-rps` with `limit-burst-multiplier`: requests per client address, as nginx's `limit_req … burst=N nodelay`.
//!
//! One set of buckets per Ingress, shared by its paths and by all workers of the node. A client may send `burst` requests
//! above the rate at once; over it the answer is 503 (or what is configured) and costs no token.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::StatusCode;
use ingress_common::maps::Limit;

use super::{Filter, Outcome, Stop};
use crate::model::policy::RateLimit;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;
use crate::snapshot::buckets::{Buckets, now};

const SECOND_NS: u64 = 1_000_000_000;

/// Requests of one client.
#[derive(Debug)]
pub struct RequestRate {
    buckets: Arc<Buckets>,
    identity: Box<str>,
    limit: Limit,
    status: StatusCode,
}

/// Why a limit cannot be enforced.
#[derive(Debug, thiserror::Error)]
#[error("the rate limit's status {0} is not between 400 and 599")]
pub struct RateLimitError(u16);

impl RequestRate {
    /// From the model.
    pub fn from_policy(policy: &RateLimit, buckets: &Arc<Buckets>) -> Result<Self, RateLimitError> {
        let rate_ns =
            SECOND_NS.checked_div(u64::from(policy.requests_per_second)).unwrap_or(SECOND_NS).max(1);
        let status = StatusCode::from_u16(policy.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .ok_or(RateLimitError(policy.status))?;
        Ok(Self {
            buckets: Arc::clone(buckets),
            identity: policy.bucket.as_str().into(),
            limit: Limit {
                kind: 0,
                bucket: 0,
                rate_ns,
                burst_ns: rate_ns.saturating_mul(policy.burst.into()),
            },
            status,
        })
    }
}

impl Filter for RequestRate {
    const NAME: &'static str = "rate_limit";

    async fn on_request(&self, ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        if self.buckets.admit(&*self.identity, ctx.peer.client, &self.limit, now()) {
            return ControlFlow::Continue(());
        }
        ctx.worker.counters.rate_limited.add(1);
        ControlFlow::Break(Stop::Fail(ProxyError::RateLimited(self.status)))
    }
}
