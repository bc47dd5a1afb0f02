//! `/healthz` on the ports of HTTP and HTTPS, for load balancers that ask whether the node serves.
//!
//! As in ingress-nginx it is answered with 200 and no body for every name that no rule has, also beside an Ingress without
//! a host, and does not stand in the access log. A path of an Ingress without a host that begins like it goes first.

use http::StatusCode;

use super::body::Body;
use super::context::RequestCtx;
use super::head::{RequestHead, Response};
use crate::snapshot::Route;

const PATH: &[u8] = b"/healthz";

/// The answer, if a request asks for it.
pub fn answer(ctx: &mut RequestCtx, head: &RequestHead, route: Option<&Route>) -> Option<Response> {
    if head.target.path() != PATH {
        return None;
    }
    let router = &ctx.snapshot.listener(&ctx.connection.listener)?.router;
    if router.has_rule(head.host.name()) || route.is_some_and(|route| has_own(&route.labels.path)) {
        return None;
    }
    ctx.record.leave_out();
    let mut response = Response::text(StatusCode::OK);
    response.body = Body::empty();
    Some(response)
}

/// Whether a rule is for nothing but paths that begin so.
fn has_own(rule: &str) -> bool {
    rule.as_bytes().starts_with(PATH)
}
