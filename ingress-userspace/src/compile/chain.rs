//! A route's policies → its filters. A policy that cannot be compiled becomes the deny filter: the route fails closed.

use std::sync::Arc;

use crate::compile::pools::Pools;
use crate::compile::transports::Transports;
use crate::filter::Chain;
use crate::filter::allow_list::SourceList;
use crate::filter::answer::Answers;
use crate::filter::answer_rewrite::AnswerRewrite;
use crate::filter::auth_basic::BasicAuth;
use crate::filter::auth_digest::DigestAuth;
use crate::filter::auth_external::AuthService;
use crate::filter::bandwidth::ResponsePace;
use crate::filter::body_limit::BodySize;
use crate::filter::client_certificate::ClientCertificates;
use crate::filter::connection_limit::RequestsInFlight;
use crate::filter::cors::Cors;
use crate::filter::deny::Deny;
use crate::filter::deny_list::DeniedSources;
use crate::filter::error_page::ErrorPages;
use crate::filter::headers::HeaderChanges;
use crate::filter::mirror::Mirror;
use crate::filter::rate_limit::RequestRate;
use crate::filter::redirect::HttpsRedirect;
use crate::filter::request_buffer::RequestBuffer;
use crate::filter::response_buffer::ResponseBuffer;
use crate::filter::rewrite::{Groups, PathRewrite};
use crate::filter::trace::TraceContext;
use crate::model::backend::BackendId;
use crate::model::policy::password_auth::PasswordScheme;
use crate::model::policy::upstream::UpstreamProtocol;
use crate::model::policy::{Policies, RateLimit};
use crate::model::route::RouteSource;
use crate::snapshot::Target;
use crate::snapshot::in_flight::Limits;
use crate::snapshot::nonces::Nonces;
use crate::snapshot::users::UserLists;
use crate::snapshot::verdicts::Verdicts;
use crate::telemetry::labels::RouteLabels;

/// What routes point to.
#[derive(Debug)]
pub struct Context<'a> {
    /// Endpoint cells.
    pub pools: &'a Pools,
    /// How endpoints are spoken to.
    pub transports: &'a Transports,
    /// State of limits per client.
    pub limits: &'a Limits,
    /// Lists of users.
    pub users: &'a UserLists,
    /// Nonces of digest authentication.
    pub nonces: &'a Arc<Nonces>,
    /// Verdicts of authentication services.
    pub verdicts: &'a Arc<Verdicts>,
}

/// The filters of a route, and what could not be compiled.
pub fn chain(policies: &Policies, source: &RouteSource, context: &Context<'_>) -> (Chain, Vec<String>) {
    // Taken apart without `..`: a new policy does not compile until it stands here.
    let Policies {
        deny,
        cors,
        answers,
        https_redirect,
        allow_list,
        deny_list,
        password_auth,
        client_auth,
        is_one_enough,
        rate_limit,
        quota,
        connection_limit,
        bandwidth,
        body_limit,
        request_buffer,
        response_buffer,
        rewrite,
        headers,
        answer_rewrite,
        timeouts: _,
        delivery: _,
        auth_external,
        error_pages,
        mirror,
        upstream,
        is_logged: _,
        trace,
    } = policies;
    let mut refused = Vec::new();
    let cors = cors.as_ref().and_then(|policy| kept(Cors::from_policy(policy), &mut refused));
    let answers = kept(Answers::from_policy(answers), &mut refused).flatten();
    let groups = if headers.quotes_groups() { Groups::Quoted } else { Groups::Unquoted };
    let headers = kept(HeaderChanges::from_policy(headers), &mut refused).flatten();
    let answer_rewrite = kept(AnswerRewrite::from_policy(answer_rewrite), &mut refused).flatten();
    let rewrite = rewrite.as_ref().and_then(|policy| match PathRewrite::from_policy(policy, groups) {
        Ok(filter) => Some(filter),
        Err(error) => {
            refused.push(error.to_string());
            None
        }
    });
    let redirect = https_redirect.as_ref().and_then(|policy| match HttpsRedirect::from_policy(policy) {
        Ok(filter) => Some(filter),
        Err(error) => {
            refused.push(error.to_string());
            None
        }
    });
    let mut rate = |policy: &Option<RateLimit>| {
        let built = policy.as_ref().map(|policy| RequestRate::from_policy(policy, &context.limits.buckets));
        built.transpose().unwrap_or_else(|error| {
            refused.push(error.to_string());
            None
        })
    };
    let (rate_limit, quota) = (rate(rate_limit), rate(quota));
    let connection_limit = connection_limit.as_ref().and_then(|policy| {
        let built = RequestsInFlight::from_policy(policy, &context.limits.in_flight);
        built.map_err(|error| refused.push(error.to_string())).ok()
    });
    let (mut auth_basic, mut auth_digest) = (None, None);
    if let Some(policy) = password_auth {
        let made = match policy.scheme {
            PasswordScheme::Basic => {
                BasicAuth::from_policy(policy, context.users).map(|filter| auth_basic = Some(filter))
            }
            PasswordScheme::Digest => DigestAuth::from_policy(policy, context.users, context.nonces)
                .map(|filter| auth_digest = Some(filter)),
        };
        refused.extend(made.err().map(|error| error.to_string()));
    }
    let client_certificate = client_auth.as_ref().and_then(|policy| {
        let built = ClientCertificates::from_policy(policy);
        built.map_err(|error| refused.push(error.to_string())).ok()
    });
    let cell = |id: &BackendId| context.pools.cell(id);
    let page = |id: &BackendId| Target {
        backend: cell(id),
        weight: 1,
        labels: Arc::new(labels_of(source, Some(id))),
    };
    let auth_external = auth_external.as_ref().and_then(|policy| {
        match AuthService::from_policy(policy, source, context.verdicts, cell) {
            Ok(filter) => Some(filter),
            Err(error) => {
                refused.push(error.to_string());
                None
            }
        }
    });
    // Both sides may speak at once, for as long as they like.
    let is_grpc = matches!(upstream.protocol, UpstreamProtocol::Grpc | UpstreamProtocol::Grpcs);
    let is_denied = deny.is_some() || !refused.is_empty();
    let chain = Chain {
        client_certificate,
        deny: is_denied.then(Deny::new),
        cors,
        answers,
        https_redirect: redirect,
        rate_limit,
        quota,
        connection_limit,
        bandwidth: bandwidth.as_ref().map(ResponsePace::from_policy),
        is_one_enough: *is_one_enough,
        deny_list: deny_list.as_ref().map(DeniedSources::from_policy),
        allow_list: allow_list.as_ref().map(SourceList::from_policy),
        auth_basic,
        auth_digest,
        body_limit: BodySize::from_policy(body_limit),
        auth_external,
        mirror: mirror.as_ref().map(|policy| Mirror::from_policy(policy, cell)),
        request_buffer: request_buffer.as_ref().filter(|_| !is_grpc).map(RequestBuffer::from_policy),
        response_buffer: Some(ResponseBuffer::from_policy(response_buffer)),
        rewrite,
        headers,
        answer_rewrite,
        error_pages: error_pages
            .as_ref()
            .map(|policy| ErrorPages::from_policy(policy, policy.backends.iter().map(page).collect())),
        trace: trace.map(TraceContext::from_policy),
    };
    (chain, refused)
}

/// A filter, or why there is none.
fn kept<F, E: std::fmt::Display>(made: Result<F, E>, refused: &mut Vec<String>) -> Option<F> {
    match made {
        Ok(filter) => Some(filter),
        Err(error) => {
            refused.push(error.to_string());
            None
        }
    }
}

/// Names a route and where it goes, in metrics and logs.
pub(super) fn labels_of(source: &RouteSource, backend: Option<&BackendId>) -> RouteLabels {
    RouteLabels {
        namespace: source.namespace.clone(),
        ingress: source.name.clone(),
        service: backend.map(|id| id.service.clone()).unwrap_or_default(),
        path: source.path.clone(),
        host: source.host.clone(),
        upstream: backend.map(BackendId::upstream_name).unwrap_or_default(),
        canary: String::new(),
    }
}
