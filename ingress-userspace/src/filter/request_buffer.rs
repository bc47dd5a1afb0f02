//! `proxy-request-buffering`: the body is read whole before the backend is asked.
//!
//! Up to `client-body-buffer-size` it is held in memory, the rest in a temporary file without a name. The last request filter:
//! what is refused before is never read. gRPC streams both ways at once and is never held back, as in nginx.

use std::ops::ControlFlow;

use http::header::CONTENT_TYPE;

use super::{Filter, Outcome, Stop};
use crate::model::policy;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;

/// Reads bodies whole.
#[derive(Debug)]
pub struct RequestBuffer {
    memory: u64,
}

impl RequestBuffer {
    /// From the model.
    pub fn from_policy(policy: &policy::RequestBuffer) -> Self {
        Self { memory: policy.memory }
    }
}

impl Filter for RequestBuffer {
    const NAME: &'static str = "request_buffer";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let content_type = request.head.headers.text(&CONTENT_TYPE).unwrap_or_default();
        if content_type.starts_with("application/grpc") {
            return ControlFlow::Continue(());
        }
        match request.body.store(self.memory, &ctx.worker.temp).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Stop::Fail(ProxyError::from(error))),
        }
    }
}
