//! Stands in for a policy that cannot be honoured: the route answers 503 instead of being served without it.

use std::ops::ControlFlow;

use super::{Filter, Outcome, Stop};
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;

/// Refuses every request.
#[derive(Debug, Default)]
pub struct Deny;

impl Deny {
    /// The filter; what was refused stands in the report of the model, never in an answer.
    pub fn new() -> Self {
        Self
    }
}

impl Filter for Deny {
    const NAME: &'static str = "deny";

    async fn on_request(&self, _ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        ControlFlow::Break(Stop::Fail(ProxyError::RouteRefused))
    }
}
