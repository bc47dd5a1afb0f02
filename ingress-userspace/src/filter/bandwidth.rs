//! `limit-rate`, `limit-rate-after`: how fast a response may go out.
//!
//! Each response has its own measure, on HTTP/2 each stream. Unlike in nginx the head does not count.

use std::ops::ControlFlow;

use super::{Filter, Outcome};
use crate::model::policy::Bandwidth;
use crate::proxy::body::Body;
use crate::proxy::context::RequestCtx;
use crate::proxy::head::{Request, Response};

/// The pace of responses.
#[derive(Debug)]
pub struct ResponsePace(Bandwidth);

impl ResponsePace {
    /// From the model.
    pub fn from_policy(policy: &Bandwidth) -> Self {
        Self(*policy)
    }
}

impl Filter for ResponsePace {
    const NAME: &'static str = "bandwidth";

    async fn on_request(&self, _ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        ControlFlow::Continue(())
    }

    fn on_response(&self, _ctx: &mut RequestCtx, response: &mut Response) {
        let body = std::mem::replace(&mut response.body, Body::empty());
        response.body = body.paced(self.0);
    }
}
