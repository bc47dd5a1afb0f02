//! `denylist-source-range`: these sources get 403, before it is asked whether a source is allowed.

use std::ops::ControlFlow;

use super::{Filter, Outcome, Stop};
use crate::model::policy::DenyList;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;
use crate::snapshot::networks::Networks;

/// The sources that may not use a route.
#[derive(Debug)]
pub struct DeniedSources(Networks);

impl DeniedSources {
    /// From the model.
    pub fn from_policy(policy: &DenyList) -> Self {
        Self(Networks::new(&policy.sources))
    }
}

impl Filter for DeniedSources {
    const NAME: &'static str = "deny_list";

    async fn on_request(&self, ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        if self.0.contains(ctx.peer.client) {
            ControlFlow::Break(Stop::Fail(ProxyError::SourceRefused))
        } else {
            ControlFlow::Continue(())
        }
    }
}
