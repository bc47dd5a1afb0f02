//! `ssl-redirect`, `force-ssl-redirect`: cleartext requests are sent to `https://` + host + URI.
//!
//! As ingress-nginx: without port, without the slash at the end of the URI, and not for the paths that are exempt (the HTTP-01 challenge). The
//! host is the request's own, already checked by the gate, so the redirect cannot lead elsewhere.

use std::ops::ControlFlow;

use http::{HeaderValue, StatusCode, header};

use super::{Filter, Outcome, Stop};
use crate::model::policy;
use crate::proxy::context::{RequestCtx, Scheme};
use crate::proxy::error::ProxyError;
use crate::proxy::head::{Request, RequestHead, Response};
use crate::proxy::path;

/// The redirect.
#[derive(Debug)]
pub struct HttpsRedirect {
    status: StatusCode,
    except: Vec<String>,
}

/// Why a redirect cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the redirect's status {0} is not between 300 and 308")]
pub struct RedirectError(u16);

impl HttpsRedirect {
    /// From the model.
    pub fn from_policy(policy: &policy::HttpsRedirect) -> Result<Self, RedirectError> {
        StatusCode::from_u16(policy.status)
            .ok()
            .filter(|status| (300..=308).contains(&status.as_u16()))
            .map(|status| Self { status, except: policy.except.clone() })
            .ok_or(RedirectError(policy.status))
    }
}

impl Filter for HttpsRedirect {
    const NAME: &'static str = "redirect";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let head = &request.head;
        let is_exempt = || self.except.iter().any(|prefix| head.target.path().starts_with(prefix.as_bytes()));
        if ctx.peer.scheme == Scheme::Https || is_exempt() {
            return ControlFlow::Continue(());
        }
        if head.host.name().is_empty() {
            // HTTP/1.0 without Host: there is no name to redirect to.
            return ControlFlow::Break(Stop::Fail(ProxyError::NoHostToRedirect));
        }
        let uri = head.target.raw();
        let uri = uri.strip_suffix('/').unwrap_or(uri);
        let Ok(location) = HeaderValue::try_from(format!("https://{}{uri}", head.host.name())) else {
            return ControlFlow::Break(Stop::Fail(ProxyError::NoHostToRedirect));
        };
        let mut response = Response::text(self.status);
        response.head.headers.set(header::LOCATION, location);
        ControlFlow::Break(Stop::Respond(response))
    }
}

/// A path as it stands in `Location`.
pub fn location_path(path: &str) -> Box<str> {
    let mut encoded = String::with_capacity(path.len());
    path::encode(path.as_bytes(), &mut encoded);
    encoded.into()
}

/// The answer of a route that redirects to another path of the same scheme and host, as the client named it.
pub fn to_path(
    ctx: &RequestCtx,
    head: &RequestHead,
    status: StatusCode,
    path: &str,
) -> Result<Response, ProxyError> {
    let host = head.host.sent().to_str().unwrap_or_default();
    let query = head.target.query();
    let location = format!(
        "{}{}{host}{path}{}{}",
        if host.is_empty() { "" } else { ctx.peer.scheme.name() },
        if host.is_empty() { "" } else { "://" },
        if query.is_some() { "?" } else { "" },
        query.unwrap_or_default(),
    );
    let mut response = Response::text(status);
    let location = HeaderValue::try_from(location).map_err(|_invalid| ProxyError::NoHostToRedirect)?;
    response.head.headers.set(header::LOCATION, location);
    Ok(response)
}
