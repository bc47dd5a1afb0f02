//! Filters: one file per feature, one shape. Their order is the text of `proxy::request`.

pub mod allow_list;
pub mod answer;
pub mod answer_rewrite;
pub mod auth_basic;
pub mod auth_digest;
pub mod auth_external;
pub mod bandwidth;
pub mod body_limit;
pub mod client_certificate;
pub mod compression;
pub mod connection_limit;
pub mod cors;
pub mod deny;
pub mod deny_list;
pub mod error_page;
pub mod headers;
pub mod mirror;
pub mod rate_limit;
pub mod redirect;
pub mod request_buffer;
pub mod response_buffer;
pub mod rewrite;
pub mod satisfy;
pub mod trace;

use std::future::Future;
use std::ops::ControlFlow;

use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::{Request, Response};

/// What a filter decided.
pub type Outcome = ControlFlow<Stop>;

/// Why a request goes no further.
#[derive(Debug)]
pub enum Stop {
    /// This is the answer.
    Respond(Response),
    /// This is how authentication refuses, unless a page stands instead.
    Refuse(Response),
    /// It failed; `proxy::error` makes the answer.
    Fail(ProxyError),
}

/// One feature on the way of a request.
pub trait Filter {
    /// Its name, for logs.
    const NAME: &'static str;

    /// Before the request goes upstream.
    fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> impl Future<Output = Outcome>;

    /// Another rule of access let the request in: what this one would take from it is taken nevertheless.
    fn when_skipped(&self, _request: &mut Request) {}

    /// Before the response goes downstream, our own answers included.
    fn on_response(&self, _ctx: &mut RequestCtx, _response: &mut Response) {}
}

/// The filters of a route.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the filter of its name")]
pub struct Chain {
    pub client_certificate: Option<client_certificate::ClientCertificates>,
    pub deny: Option<deny::Deny>,
    pub cors: Option<cors::Cors>,
    pub answers: Option<answer::Answers>,
    pub https_redirect: Option<redirect::HttpsRedirect>,
    pub rate_limit: Option<rate_limit::RequestRate>,
    pub quota: Option<rate_limit::RequestRate>,
    pub connection_limit: Option<connection_limit::RequestsInFlight>,
    pub bandwidth: Option<bandwidth::ResponsePace>,
    /// One rule of access is enough; it has no filter of its own.
    pub is_one_enough: bool,
    pub deny_list: Option<deny_list::DeniedSources>,
    pub allow_list: Option<allow_list::SourceList>,
    pub auth_basic: Option<auth_basic::BasicAuth>,
    pub auth_digest: Option<auth_digest::DigestAuth>,
    pub body_limit: Option<body_limit::BodySize>,
    pub auth_external: Option<auth_external::AuthService>,
    pub mirror: Option<mirror::Mirror>,
    pub request_buffer: Option<request_buffer::RequestBuffer>,
    pub response_buffer: Option<response_buffer::ResponseBuffer>,
    pub rewrite: Option<rewrite::PathRewrite>,
    pub headers: Option<headers::HeaderChanges>,
    pub answer_rewrite: Option<answer_rewrite::AnswerRewrite>,
    pub error_pages: Option<error_page::ErrorPages>,
    pub trace: Option<trace::TraceContext>,
}

impl Chain {
    /// Whether limits, lists or authentication may refuse a request.
    pub fn is_guarded(&self) -> bool {
        self.rate_limit.is_some()
            || self.quota.is_some()
            || self.connection_limit.is_some()
            || self.deny_list.is_some()
            || self.allow_list.is_some()
            || self.auth_basic.is_some()
            || self.auth_digest.is_some()
            || self.auth_external.is_some()
    }

    /// Whether a response needs its request.
    pub fn quotes_request(&self) -> bool {
        self.answer_rewrite.is_some()
            || self.error_pages.is_some()
            || self.headers.as_ref().is_some_and(|changes| changes.quotes_request)
    }
}

/// Runs a filter if the route has it.
pub async fn run<F: Filter>(filter: &Option<F>, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
    match filter {
        Some(filter) => {
            let outcome = filter.on_request(ctx, request).await;
            if outcome.is_break() {
                tracing::debug!(filter = F::NAME, "request stopped");
            }
            outcome
        }
        None => ControlFlow::Continue(()),
    }
}

/// Shows a filter the response if the route has it.
pub fn run_response<F: Filter>(filter: &Option<F>, ctx: &mut RequestCtx, response: &mut Response) {
    if let Some(filter) = filter {
        filter.on_response(ctx, response);
    }
}
