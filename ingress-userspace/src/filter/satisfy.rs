//! `satisfy`: whether a request needs to pass every rule of access (sources, authentication) or one of them.
//!
//! As nginx's access phase: under `any` the first rule that lets a request in ends the phase; if none does, the refusal that
//! asks for authentication is the answer, else the last one. A rule that fails to work stops the request under both.

use std::ops::ControlFlow;

use http::StatusCode;

use super::{Filter, Outcome, Stop, run};
use crate::proxy::context::RequestCtx;
use crate::proxy::head::Request;

/// The rules of access of one request, one after the other.
#[derive(Debug)]
pub struct Access {
    is_one_enough: bool,
    is_satisfied: bool,
    refusal: Option<Stop>,
}

impl Access {
    /// Before the first rule.
    pub fn new(is_one_enough: bool) -> Self {
        Self { is_one_enough, is_satisfied: false, refusal: None }
    }

    /// A rule that lets in or refuses.
    pub async fn step<F: Filter>(
        &mut self,
        filter: &Option<F>,
        ctx: &mut RequestCtx,
        request: &mut Request,
    ) -> Outcome {
        let Some(rule) = filter else { return ControlFlow::Continue(()) };
        if self.is_satisfied {
            rule.when_skipped(request);
            return ControlFlow::Continue(());
        }
        match run(filter, ctx, request).await {
            ControlFlow::Continue(()) => self.is_satisfied = self.is_one_enough,
            ControlFlow::Break(stop) => self.refused(stop)?,
        }
        ControlFlow::Continue(())
    }

    /// A rule that refuses or has nothing to say.
    pub async fn refusing<F: Filter>(
        &mut self,
        filter: &Option<F>,
        ctx: &mut RequestCtx,
        request: &mut Request,
    ) -> Outcome {
        match run(filter, ctx, request).await {
            ControlFlow::Break(stop) => self.refused(stop),
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
        }
    }

    fn refused(&mut self, stop: Stop) -> Outcome {
        let status = status(&stop);
        if !self.is_one_enough || status.is_server_error() {
            return ControlFlow::Break(stop);
        }
        // An answer by which the client can still get in is worth more than a plain no.
        let asks = |stop: &Stop| self::status(stop) != StatusCode::FORBIDDEN;
        if !self.refusal.as_ref().is_some_and(asks) {
            self.refusal = Some(stop);
        }
        ControlFlow::Continue(())
    }

    /// After the last rule.
    pub fn end(self) -> Outcome {
        match self.refusal {
            Some(stop) if !self.is_satisfied => ControlFlow::Break(stop),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn status(stop: &Stop) -> StatusCode {
    match stop {
        Stop::Respond(response) | Stop::Refuse(response) => response.head.status,
        Stop::Fail(error) => error.status(),
    }
}
