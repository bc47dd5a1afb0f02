//! `auth-tls-*`: what a host asks of the certificates of its clients. The handshake asked and judged; here the verdict becomes
//! an answer: 400 or a redirect to the error page, 403 where the subject does not match or the authorities cannot be read,
//! and 421 where the connection was made for a host that asks otherwise, so that no connection is good for a host that
//! it did not prove itself to. As in nginx, cleartext requests are not asked.

use std::ops::ControlFlow;

use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode, header};
use regex::Regex;

use super::{Filter, Outcome, Stop};
use crate::model::policy::client_certificate::{ClientAuth, Trust};
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::{Request, Response};

const VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");
const CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");

/// What the host of a route asks for.
#[derive(Debug)]
pub struct ClientCertificates(Asked);

#[derive(Debug)]
enum Asked {
    Nobody,
    Certificate { trust: Trust, error_page: Option<HeaderValue>, is_passed: bool, subject: Option<Regex> },
}

/// Why the policy cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum ClientCertificateError {
    /// The expression.
    #[error("the expression for subjects of client certificates cannot be used")]
    Subject(#[from] regex::Error),
    /// The page.
    #[error("the error page for client certificates is not a URL")]
    Page(#[from] header::InvalidHeaderValue),
}

impl ClientCertificates {
    /// From the model.
    pub fn from_policy(policy: &ClientAuth) -> Result<Self, ClientCertificateError> {
        let ClientAuth::Certificate(policy) = policy else { return Ok(Self(Asked::Nobody)) };
        Ok(Self(Asked::Certificate {
            trust: policy.trust.clone(),
            error_page: policy.error_page.as_deref().map(HeaderValue::from_str).transpose()?,
            is_passed: policy.is_passed,
            subject: policy.subject.as_deref().map(Regex::new).transpose()?,
        }))
    }

    /// Tells the backend who the client is. What the client said about that itself was removed.
    pub fn tell(&self, ctx: &RequestCtx, headers: &mut HeaderMap) {
        let Asked::Certificate { is_passed, .. } = &self.0 else { return };
        let client = ctx.connection.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let Some(client) = client else { return };
        let certificate = client.certificate.as_ref();
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        };
        set(VERIFY, &client.verdict.text());
        if let Some(certificate) = certificate {
            set(SUBJECT, &certificate.subject);
            set(ISSUER, &certificate.issuer);
            if *is_passed {
                set(CERTIFICATE, &certificate.escaped);
            }
        }
    }
}

impl Filter for ClientCertificates {
    const NAME: &'static str = "client_certificate";

    async fn on_request(&self, ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        let fail = |error| ControlFlow::Break(Stop::Fail(error));
        let Asked::Certificate { trust, error_page, subject, .. } = &self.0 else {
            return fail(ProxyError::ClientRefused);
        };
        let mut shown = None;
        if let Some(tls) = &ctx.connection.tls {
            let Some(client) = tls.client.as_ref().filter(|client| client.judge.trust == *trust) else {
                return fail(ProxyError::Misdirected);
            };
            if !client.verdict.satisfies(trust.requirement) {
                return match error_page {
                    Some(page) => ControlFlow::Break(Stop::Respond(to_page(page))),
                    None => fail(ProxyError::ClientCertificate),
                };
            }
            shown = Some(client);
        }
        let certificate = shown.and_then(|client| client.certificate.as_ref());
        let name = certificate.map(|certificate| certificate.subject.as_str()).unwrap_or_default();
        match subject {
            Some(expected) if !expected.is_match(name) => fail(ProxyError::ClientRefused),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn to_page(page: &HeaderValue) -> Response {
    let mut response = Response::text(StatusCode::FOUND);
    response.head.headers.set(header::LOCATION, page.clone());
    response
}
