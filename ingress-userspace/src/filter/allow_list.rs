//! `whitelist-source-range` / `allowlist-source-range`: other sources get 403. As ingress-nginx, it is the address of
//! the connection that counts; headers of the client are not believed.

use std::ops::ControlFlow;

use super::{Filter, Outcome, Stop};
use crate::model::policy::AllowList;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;
use crate::snapshot::networks::Networks;

/// The sources that may use a route.
#[derive(Debug)]
pub struct SourceList(Networks);

impl SourceList {
    /// From the model.
    pub fn from_policy(policy: &AllowList) -> Self {
        Self(Networks::new(&policy.sources))
    }
}

impl Filter for SourceList {
    const NAME: &'static str = "allow_list";

    async fn on_request(&self, ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        if self.0.contains(ctx.peer.client) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(Stop::Fail(ProxyError::SourceRefused))
        }
    }
}
