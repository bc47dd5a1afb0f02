//! Everything that can go wrong with a request: by whose fault, under which name it is counted, and the one place where
//! it becomes a response. What a backend said never reaches a client through here.

mod gate_reason;

use http::{HeaderValue, StatusCode, header};

use super::body::BodyError;
use super::head::Response;
use crate::upstream::subrequest::SubrequestError;
pub use gate_reason::GateReason;

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's.
    Downstream,
    /// The backend's.
    Upstream,
    /// Ours, or of the configuration.
    Us,
}

impl Source {
    /// The label in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Us => "proxy",
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Refused before routing.
    #[error("request refused: {}", .0.name())]
    Gate(GateReason),
    /// No host or no path of it takes the request.
    #[error("no route")]
    NoRoute,
    /// A policy of the route could not be compiled.
    #[error("route refused by its configuration")]
    RouteRefused,
    /// Refused on every host.
    #[error("blocked")]
    Blocked,
    /// Not on the allow list.
    #[error("source not allowed")]
    SourceRefused,
    /// Too many passwords are being compared.
    #[error("password comparison overloaded")]
    HashingBusy,
    /// The client showed no certificate, or one that is not valid.
    #[error("client certificate refused")]
    ClientCertificate,
    /// The client is not one of those that the host expects.
    #[error("client refused")]
    ClientRefused,
    /// The connection was made for a host that asks its clients otherwise.
    #[error("connection of another host")]
    Misdirected,
    /// Over the request rate.
    #[error("over the request rate")]
    RateLimited(StatusCode),
    /// Over the requests in flight.
    #[error("too many requests in flight")]
    TooManyInFlight(StatusCode),
    /// A body whose length nobody knows cannot be sent by HTTP/1.0.
    #[error("request body of unknown length")]
    LengthRequired,
    /// The body is larger than the route takes.
    #[error("request body too large")]
    BodyTooLarge,
    /// A redirect to HTTPS needs a name.
    #[error("no host to redirect to")]
    NoHostToRedirect,
    /// What a redirect would say cannot stand in a header: a variable brought a line break.
    #[error("the target of a redirect cannot be sent")]
    LocationInvalid,
    /// The rewritten path would leave what the rule covers.
    #[error("rewritten path is not a path below the root")]
    RewriteLeavesRoot,
    /// A body did not fit into memory, and the temporary file could not be used.
    #[error("temporary file")]
    TemporaryFile(#[source] std::io::Error),
    /// A stored body could not be read again.
    #[error("stored body unreadable")]
    StoredBody,
    /// The head of the response is larger than the route takes.
    #[error("response head too large")]
    ResponseHeadTooLarge,
    /// The client stopped sending its body.
    #[error("client body timed out")]
    ClientBodyTimeout,
    /// The client went away, or broke the framing of its body.
    #[error("client body broken")]
    ClientBody(#[source] hyper::Error),
    /// The Service of the route does not exist.
    #[error("backend missing")]
    BackendMissing,
    /// No endpoint is ready.
    #[error("no endpoint")]
    NoEndpoint,
    /// The endpoint could not be reached.
    #[error("connect failed")]
    Connect(#[source] std::io::Error),
    /// The TLS handshake with the endpoint failed, or its certificate was refused.
    #[error("TLS with the endpoint failed")]
    UpstreamTls(#[source] std::io::Error),
    /// The endpoint did not answer the connection in time.
    #[error("connect timed out")]
    ConnectTimeout,
    /// The endpoint did not take the request in time.
    #[error("send timed out")]
    SendTimeout,
    /// The endpoint did not answer in time.
    #[error("read timed out")]
    ReadTimeout,
    /// The endpoint closed the connection or did not speak HTTP.
    #[error("upstream broken")]
    Upstream(#[source] hyper::Error),
    /// The endpoint switched protocols without being asked to.
    #[error("unexpected upgrade")]
    UnexpectedUpgrade,
    /// The authentication service gave no answer.
    #[error("no answer of the authentication service")]
    AuthService(#[source] SubrequestError),
    /// The authentication service gave an answer that is no verdict.
    #[error("authentication service answered {0}")]
    AuthStatus(StatusCode),
    /// A defect of the proxy.
    #[error("request handler panicked")]
    Panic,
}

impl From<BodyError> for ProxyError {
    /// Of a client's body that the proxy reads itself.
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge,
            BodyError::ClientTimeout | BodyError::Abandoned => Self::ClientBodyTimeout,
            BodyError::ReadTimeout => Self::ReadTimeout,
            BodyError::Temporary(error) => Self::TemporaryFile(error),
            BodyError::Broken(error) => Self::ClientBody(error),
        }
    }
}

impl ProxyError {
    /// The label in metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Gate(reason) => reason.name(),
            Self::NoRoute => "no_route",
            Self::RouteRefused => "route_refused",
            Self::Blocked => "blocked",
            Self::SourceRefused => "source_refused",
            Self::HashingBusy => "hashing_busy",
            Self::ClientCertificate => "client_certificate",
            Self::ClientRefused => "client_refused",
            Self::Misdirected => "misdirected",
            Self::RateLimited(_) => "rate_limited",
            Self::TooManyInFlight(_) => "too_many_in_flight",
            Self::LengthRequired => "length_required",
            Self::BodyTooLarge => "body_too_large",
            Self::NoHostToRedirect => "no_host_to_redirect",
            Self::LocationInvalid => "location_invalid",
            Self::RewriteLeavesRoot => "rewrite_leaves_root",
            Self::TemporaryFile(_) => "temporary_file",
            Self::StoredBody => "stored_body",
            Self::ResponseHeadTooLarge => "response_head_too_large",
            Self::ClientBodyTimeout => "client_body_timeout",
            Self::ClientBody(_) => "client_body",
            Self::BackendMissing => "backend_missing",
            Self::NoEndpoint => "no_endpoint",
            Self::Connect(_) => "connect_failed",
            Self::UpstreamTls(_) => "upstream_tls",
            Self::ConnectTimeout => "connect_timeout",
            Self::SendTimeout => "send_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::Upstream(_) => "upstream_broken",
            Self::UnexpectedUpgrade => "unexpected_upgrade",
            Self::AuthService(_) => "auth_service",
            Self::AuthStatus(_) => "auth_status",
            Self::Panic => "panic",
        }
    }

    /// Whose fault it was.
    pub fn source_of_error(&self) -> Source {
        match self {
            Self::Gate(_)
            | Self::NoRoute
            | Self::Blocked
            | Self::SourceRefused
            | Self::ClientCertificate
            | Self::ClientRefused
            | Self::Misdirected
            | Self::RateLimited(_)
            | Self::TooManyInFlight(_)
            | Self::LengthRequired
            | Self::BodyTooLarge
            | Self::NoHostToRedirect
            | Self::LocationInvalid
            | Self::RewriteLeavesRoot
            | Self::ClientBodyTimeout
            | Self::ClientBody(_) => Source::Downstream,
            Self::BackendMissing
            | Self::NoEndpoint
            | Self::Connect(_)
            | Self::UpstreamTls(_)
            | Self::ConnectTimeout
            | Self::SendTimeout
            | Self::ReadTimeout
            | Self::Upstream(_)
            | Self::ResponseHeadTooLarge
            | Self::UnexpectedUpgrade => Source::Upstream,
            Self::RouteRefused
            | Self::HashingBusy
            | Self::TemporaryFile(_)
            | Self::StoredBody
            | Self::AuthService(_)
            | Self::AuthStatus(_)
            | Self::Panic => Source::Us,
        }
    }

    /// The status of the answer, as ingress-nginx gives it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Gate(reason) => reason.status(),
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Blocked | Self::SourceRefused | Self::ClientRefused => StatusCode::FORBIDDEN,
            Self::ClientCertificate => StatusCode::BAD_REQUEST,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::RateLimited(status) | Self::TooManyInFlight(status) => *status,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoHostToRedirect
            | Self::LocationInvalid
            | Self::RewriteLeavesRoot
            | Self::ClientBody(_) => StatusCode::BAD_REQUEST,
            Self::ClientBodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::RouteRefused | Self::HashingBusy | Self::BackendMissing | Self::NoEndpoint => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Connect(_)
            | Self::UpstreamTls(_)
            | Self::Upstream(_)
            | Self::ResponseHeadTooLarge
            | Self::UnexpectedUpgrade => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::SendTimeout | Self::ReadTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::TemporaryFile(_)
            | Self::StoredBody
            | Self::AuthService(_)
            | Self::AuthStatus(_)
            | Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether another endpoint may be asked instead, as `proxy-next-upstream error timeout`.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::UpstreamTls(_)
            | Self::ConnectTimeout
            | Self::SendTimeout
            | Self::ReadTimeout
            | Self::Upstream(_) => true,
            Self::Gate(_)
            | Self::NoRoute
            | Self::RouteRefused
            | Self::Blocked
            | Self::SourceRefused
            | Self::ClientCertificate
            | Self::ClientRefused
            | Self::Misdirected
            | Self::HashingBusy
            | Self::RateLimited(_)
            | Self::TooManyInFlight(_)
            | Self::LengthRequired
            | Self::BodyTooLarge
            | Self::NoHostToRedirect
            | Self::LocationInvalid
            | Self::RewriteLeavesRoot
            | Self::ClientBodyTimeout
            | Self::ClientBody(_)
            | Self::BackendMissing
            | Self::NoEndpoint
            | Self::UnexpectedUpgrade
            | Self::AuthService(_)
            | Self::AuthStatus(_)
            | Self::TemporaryFile(_)
            | Self::StoredBody
            | Self::ResponseHeadTooLarge
            | Self::Panic => false,
        }
    }

    /// Whether the endpoint saw nothing of the request.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::UpstreamTls(_) | Self::ConnectTimeout)
    }

    /// The response. A request that was not understood ends its connection, for what follows it cannot be trusted.
    pub fn response(&self) -> Response {
        let mut response = Response::text(self.status());
        let ends_connection = matches!(
            self,
            Self::Gate(_)
                | Self::LengthRequired
                | Self::BodyTooLarge
                | Self::TemporaryFile(_)
                | Self::ClientBodyTimeout
                | Self::ClientBody(_)
                | Self::Panic
        );
        if ends_connection {
            response.head.headers.set(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(self, Self::Gate(GateReason::MethodNotAllowed)) {
            let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");
            response.head.headers.set(header::ALLOW, allowed);
        }
        response
    }
}
