//! `proxy-body-size`: a larger request body gets 413, at once when its length is announced, else when it is exceeded.
//!
//! As in nginx the announced length is judged first of all, before redirects and authentication.
//! A body of unknown length is read whole before the backend is asked, so that the backend never sees one that is refused;
//! with `proxy-request-buffering: off` it may have seen its start, as in nginx.

use std::ops::ControlFlow;

use super::{Filter, Outcome, Stop};
use crate::model::policy::BodyLimit;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;

/// The largest body that a route takes.
#[derive(Debug)]
pub struct BodySize {
    max_bytes: u64,
}

impl BodySize {
    /// From the model; `None`: unlimited.
    pub fn from_policy(policy: &BodyLimit) -> Option<Self> {
        policy.max_bytes.map(|max_bytes| Self { max_bytes })
    }

    /// Judges the announced length.
    pub fn announced(&self, request: &Request) -> Outcome {
        if request.body.announced().is_some_and(|length| length > self.max_bytes) {
            return ControlFlow::Break(Stop::Fail(ProxyError::BodyTooLarge));
        }
        ControlFlow::Continue(())
    }
}

impl Filter for BodySize {
    const NAME: &'static str = "body_limit";

    async fn on_request(&self, _ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        request.body.limit(self.max_bytes);
        ControlFlow::Continue(())
    }
}
