//! `ssl-redirect`, `force-ssl-redirect`: cleartext requests are sent to `https://` + host + URI.
//!
//! As ingress-nginx: without port (`use-port-in-redirects` names that of HTTPS), without the slash at the end of the URI
//! (`preserve-trailing-slash` keeps it), and not for the paths that are exempt (the HTTP-01 challenge). The host is the
//! request's own, already checked by the gate, or what a trusted proxy says of it, so the redirect cannot lead elsewhere.

use std::ops::ControlFlow;

use http::{HeaderValue, StatusCode, header};

use super::{Filter, Outcome, Stop};
use crate::model::policy;
use crate::model::policy::answer::LocationForm;
use crate::proxy::context::{RequestCtx, Scheme};
use crate::proxy::error::ProxyError;
use crate::proxy::head::{HostName, Request, RequestHead, Response};
use crate::proxy::path;

/// The redirect.
#[derive(Debug)]
pub struct HttpsRedirect {
    status: StatusCode,
    except: Vec<String>,
    keeps_slash: bool,
    port: Option<u16>,
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
            .map(|status| Self {
                status,
                except: policy.except.clone(),
                keeps_slash: policy.keeps_slash,
                port: policy.port,
            })
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
        let told = told_host(ctx);
        let host = told.as_ref().unwrap_or(&head.host).written();
        if host.is_empty() {
            // HTTP/1.0 without Host: there is no name to redirect to.
            return ControlFlow::Break(Stop::Fail(ProxyError::NoHostToRedirect));
        }
        let uri = head.target.raw();
        let uri = uri.strip_suffix('/').filter(|_| !self.keeps_slash).unwrap_or(uri);
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        let Ok(location) = HeaderValue::try_from(format!("https://{host}{port}{uri}")) else {
            return ControlFlow::Break(Stop::Fail(ProxyError::LocationInvalid));
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

/// The host that a trusted proxy says was asked for.
fn told_host(ctx: &RequestCtx) -> Option<HostName> {
    ctx.peer.host.as_ref().and_then(|host| HostName::parse(host.clone()))
}

/// The host that the client asked for, without port, lower case.
fn host(ctx: &RequestCtx, head: &RequestHead) -> String {
    told_host(ctx).as_ref().unwrap_or(&head.host).name().to_owned()
}

/// A path of this host as it stands in `Location`.
pub fn absolute(ctx: &RequestCtx, head: &RequestHead, path: &str, form: LocationForm) -> String {
    let host = host(ctx, head);
    if form == LocationForm::Relative || host.is_empty() {
        return path.to_owned();
    }
    let port = ctx.peer.port_value.to_str().unwrap_or_default();
    let own = match ctx.peer.scheme {
        Scheme::Http => "80",
        Scheme::Https => "443",
    };
    let port = if form == LocationForm::Host || port == own { String::new() } else { format!(":{port}") };
    format!("{}://{host}{port}{path}", ctx.peer.scheme.name())
}

/// The answer of a route that redirects to another path of the same scheme and host.
pub fn to_path(
    ctx: &RequestCtx,
    head: &RequestHead,
    status: StatusCode,
    path: &str,
    form: LocationForm,
) -> Result<Response, ProxyError> {
    let mut location = absolute(ctx, head, path, form);
    if let Some(query) = head.target.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::text(status);
    let location = HeaderValue::try_from(location).map_err(|_invalid| ProxyError::LocationInvalid)?;
    response.head.headers.set(header::LOCATION, location);
    Ok(response)
}
