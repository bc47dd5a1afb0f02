//! `custom-http-errors`: answers with some statuses are replaced by what a backend says about them.
//!
//! As ingress-nginx: the page's backend is asked at `/` with the request's method and headers and the `X-*` headers that say
//! what happened, and the client sees its answer with its status. What the proxy itself answers is replaced as what
//! a backend answers, refusals by authentication with their challenge. Unlike in ingress-nginx, those of a broken
//! configuration are not, and the page is asked for without the request's body.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use crate::model::policy;
use crate::proxy::body::{Body, Progress};
use crate::proxy::choose::Choice;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::{RequestHead, Response};
use crate::proxy::{forward, retry};
use crate::snapshot::{Route, Target};
use crate::upstream::balance::Picker;
use crate::upstream::transport::Transport;

const X_FORMAT: HeaderName = HeaderName::from_static("x-format");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_NAMESPACE: HeaderName = HeaderName::from_static("x-namespace");
const X_INGRESS_NAME: HeaderName = HeaderName::from_static("x-ingress-name");
const X_SERVICE_NAME: HeaderName = HeaderName::from_static("x-service-name");
const X_SERVICE_PORT: HeaderName = HeaderName::from_static("x-service-port");

/// The pages of a route.
#[derive(Debug)]
pub struct ErrorPages {
    statuses: Vec<u16>,
    backends: Vec<Target>,
    replaces_upstream: bool,
    transport: Arc<Transport>,
}

impl ErrorPages {
    /// From the model; `backends` are those of the policy.
    pub fn from_policy(policy: &policy::error_page::ErrorPages, backends: Vec<Target>) -> Self {
        Self {
            statuses: policy.statuses.clone(),
            backends,
            replaces_upstream: policy.replaces_upstream,
            transport: Arc::new(Transport::plain()),
        }
    }

    /// Replaces an answer of the backend, or of authentication, if it is one of those. `head` is the request as it came.
    pub async fn replace_answer(
        &self,
        ctx: &mut RequestCtx,
        route: &Route,
        head: &RequestHead,
        response: Response,
    ) -> Response {
        if ctx.is_from_backend && !self.replaces_upstream {
            return response;
        }
        let status = response.head.status.as_u16();
        if status == 401
            && ctx.is_from_backend
            && let Some(signin) = route.chain.auth_external.as_ref().and_then(|auth| auth.signin(ctx, head))
        {
            return signin;
        }
        if !self.statuses.contains(&status) {
            return response;
        }
        let challenge = response.head.headers.get(&header::WWW_AUTHENTICATE).cloned();
        let Some(mut page) = self.page(ctx, route, head, status).await else { return response };
        if let Some(challenge) = challenge.filter(|_| status == 401) {
            page.head.headers.set(header::WWW_AUTHENTICATE, challenge);
        }
        page
    }

    /// The page for a failure of our own; `None`: it stays as it is.
    pub async fn replace_failure(
        &self,
        ctx: &mut RequestCtx,
        route: &Route,
        head: &RequestHead,
        failure: &ProxyError,
    ) -> Option<Response> {
        let status = failure.status().as_u16();
        if !may_be_replaced(failure) || !self.statuses.contains(&status) {
            return None;
        }
        self.page(ctx, route, head, status).await
    }

    /// Asks for a page. No second page: when nobody makes one the error stays.
    async fn page(
        &self,
        ctx: &mut RequestCtx,
        route: &Route,
        head: &RequestHead,
        status: u16,
    ) -> Option<Response> {
        let mut found = self.backends.iter().map(|target| (target, target.backend.endpoints.pin()));
        let (target, endpoints) = found.find(|(_, endpoints)| !endpoints.usable.is_empty())?;
        let picker = Picker::in_turn(&target.backend, None);
        let mut choice = Choice { target, endpoints, is_fallback: true, picker, session: None };
        let mut asked = head.clone();
        // As nginx's `rewrite (.*) / break`: the query stays.
        let target = head.target.query().and_then(|query| format!("/?{query}").parse().ok());
        asked.target.forward_as(target.unwrap_or(PathAndQuery::from_static("/")));
        let mut outgoing = forward::to_upstream(ctx, asked, None);
        outgoing.headers.remove(header::CONTENT_LENGTH);
        outgoing.headers.insert(forward::X_CODE, HeaderValue::from(status));
        describe(ctx, route, head, &mut outgoing);
        if let Ok(uri) = HeaderValue::try_from(head.target.raw()) {
            outgoing.headers.insert(X_ORIGINAL_URI, uri);
        }
        let exchange = (&self.transport, &route.delivery, &route.timeouts);
        let progress = Progress::finished();
        let asked = retry::send(ctx, &mut choice, outgoing, Body::empty(), &progress, exchange).await;
        let (answer, lease) = asked.ok()?;
        let (parts, incoming) = answer.into_parts();
        let head = forward::from_upstream(ctx, parts.status, parts.headers);
        // As in nginx, whose pages are locations of their own.
        ctx.is_page = true;
        ctx.cors_origin = None;
        ctx.auth_cookies.clear();
        Some(Response { head, body: Body::endpoint(incoming, route.timeouts.read, lease) })
    }
}

/// What a default backend is told about the request that it answers instead of another.
pub fn describe(ctx: &RequestCtx, route: &Route, head: &RequestHead, outgoing: &mut forward::Outgoing) {
    let labels = &route.labels;
    match head.headers.get(&header::ACCEPT) {
        Some(format) => drop(outgoing.headers.insert(X_FORMAT, format.clone())),
        None => drop(outgoing.headers.remove(X_FORMAT)),
    }
    let port = labels.upstream.rsplit('-').next().unwrap_or_default();
    for (name, text) in [
        (X_NAMESPACE, labels.namespace.as_str()),
        (X_INGRESS_NAME, labels.ingress.as_str()),
        (X_SERVICE_NAME, labels.service.as_str()),
        (X_SERVICE_PORT, port),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
            outgoing.headers.insert(name, value);
        }
    }
    outgoing.headers.insert(forward::X_REQUEST_ID, ctx.record.request_id.clone());
}

/// Whether a page may stand instead of our answer. Never for a configuration that fails closed, and not where the client
/// is not to be talked to any more.
fn may_be_replaced(failure: &ProxyError) -> bool {
    matches!(
        failure,
        ProxyError::SourceRefused
            | ProxyError::RateLimited(_)
            | ProxyError::TooManyInFlight(_)
            | ProxyError::LengthRequired
            | ProxyError::BodyTooLarge
            | ProxyError::NoHostToRedirect
            | ProxyError::LocationInvalid
            | ProxyError::RewriteLeavesRoot
            | ProxyError::BackendMissing
            | ProxyError::NoEndpoint
            | ProxyError::Connect(_)
            | ProxyError::ConnectTimeout
            | ProxyError::SendTimeout
            | ProxyError::ReadTimeout
            | ProxyError::Upstream(_)
            | ProxyError::UpstreamTls(_)
            | ProxyError::ResponseHeadTooLarge
            | ProxyError::UnexpectedUpgrade
            | ProxyError::AuthService(_)
            | ProxyError::AuthStatus(_)
    )
}
