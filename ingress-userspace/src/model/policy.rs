//! One struct per feature: everything that a route can ask for. Absent means: the feature does nothing on this route.

pub mod answer;
pub mod answer_rewrite;
pub mod auth_external;
mod bodies;
pub mod client_certificate;
pub mod cors;
pub mod delivery;
pub mod error_page;
pub mod headers;
mod limits;
pub mod mirror;
pub mod password_auth;
pub mod trace;
pub mod upstream;

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::template::Template;
use answer::Answer;
use answer_rewrite::AnswerRewrite;
use auth_external::AuthExternal;
pub use bodies::{RequestBuffer, ResponseBuffer};
use client_certificate::ClientAuth;
use cors::Cors;
use delivery::Delivery;
use error_page::ErrorPages;
use headers::Headers;
pub use limits::{Bandwidth, ConnectionLimit, Disclosure, LimitKey, Rate, RateLimit};
use mirror::Mirror;
use password_auth::PasswordAuth;
use trace::Trace;
use upstream::Upstream;

/// The policies of one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Set when a policy could not be compiled or was refused: the route answers 503 (fail closed).
    pub deny: Option<Deny>,
    /// Cross-origin requests.
    pub cors: Option<Cors>,
    /// Answers that need no backend.
    pub answers: Vec<Answer>,
    /// Redirect cleartext requests to HTTPS.
    pub https_redirect: Option<HttpsRedirect>,
    /// Only these sources; others get 403.
    pub allow_list: Option<AllowList>,
    /// These sources get 403.
    pub deny_list: Option<DenyList>,
    /// Users and passwords.
    pub password_auth: Option<PasswordAuth>,
    /// What the host asks of its clients in the handshake.
    pub client_auth: Option<ClientAuth>,
    /// One of the lists of sources and of the ways to authenticate is enough.
    pub is_one_enough: bool,
    /// Requests per client and time.
    pub rate_limit: Option<RateLimit>,
    /// A second limit of requests per client and time, with a key and a status of its own.
    pub quota: Option<RateLimit>,
    /// Requests in flight per client.
    pub connection_limit: Option<ConnectionLimit>,
    /// How fast a response may go out.
    pub bandwidth: Option<Bandwidth>,
    /// Size of the request body.
    pub body_limit: BodyLimit,
    /// Whether the request's body is read whole before the backend is asked.
    pub request_buffer: Option<RequestBuffer>,
    /// How the backend's response is taken.
    pub response_buffer: ResponseBuffer,
    /// Replacement of the path before the request goes upstream.
    pub rewrite: Option<Rewrite>,
    /// Changes of header fields.
    pub headers: Headers,
    /// Cookies and locations of the backend.
    pub answer_rewrite: AnswerRewrite,
    /// Deadlines towards the backend.
    pub timeouts: Timeouts,
    /// How the endpoints are spoken to.
    pub upstream: Upstream,
    /// Which endpoint takes a request, and over which connection.
    pub delivery: Delivery,
    /// A service decides who is let through.
    pub auth_external: Option<AuthExternal>,
    /// Pages instead of errors.
    pub error_pages: Option<ErrorPages>,
    /// Copies of requests.
    pub mirror: Option<Mirror>,
    /// Requests stand in the access log.
    pub is_logged: bool,
    /// Requests carry a trace context.
    pub trace: Option<Trace>,
}

impl Policies {
    /// Whether a request may get another answer than without them although no backend is asked.
    pub fn answers_requests(&self) -> bool {
        let limits = [&self.rate_limit, &self.quota].into_iter().any(Option::is_some);
        let is_guarded = limits
            || self.connection_limit.is_some()
            || self.allow_list.is_some()
            || self.deny_list.is_some()
            || self.password_auth.is_some()
            || self.auth_external.is_some();
        is_guarded
            || self.deny.is_some()
            || self.cors.is_some()
            || !self.answers.is_empty()
            || self.https_redirect.is_some()
            || !self.headers.response.is_empty()
    }
}

/// Stands in for a policy that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deny {
    /// What was refused, for the log; never sent to clients.
    pub reason: String,
}

/// Redirect from cleartext to HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpsRedirect {
    /// Status of the redirect: 308 unless configured.
    pub status: u16,
    /// Requests whose normal path begins with one of these are not redirected (ACME challenges).
    pub except: Vec<String>,
    /// A slash at the end of the URI stays.
    pub keeps_slash: bool,
    /// The port that `Location` names.
    pub port: Option<u16>,
}

/// Sources that may use a route; others get 403.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowList {
    /// Canonical networks (no host bits), never empty.
    pub sources: Vec<IpNet>,
}

/// Sources that may not use a route: they get 403.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyList {
    /// Canonical networks (no host bits), never empty.
    pub sources: Vec<IpNet>,
}

/// Largest request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyLimit {
    /// Bytes; `None` is unlimited. Larger bodies get 413.
    pub max_bytes: Option<u64>,
}

/// What the backend sees as path; the query is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// Matched case-insensitively against the normal path, anchored at the start; its captures fill `$1`…`$9`.
    pub pattern: String,
    /// The new path, `$1`…`$9` stand for captures. Behind a `?` it is the query.
    pub replacement: Template,
}

/// Deadlines towards the backend. Send and read are gaps between two operations, not totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Establishing the connection.
    pub connect: Duration,
    /// Between two writes of the request.
    pub send: Duration,
    /// Between two reads of the response.
    pub read: Duration,
}
