//! Text with variables, as ingress-nginx's annotations and log format hold it: `https://$host$request_uri`.
//!
//! A template is parsed once, when annotations are read; what is not a known variable is an error there. Nothing is
//! interpreted when requests come: a variable is one of a closed set.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Parts of text, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Template(pub Vec<Part>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// Filled in per request.
    Variable(Variable),
}

macro_rules! variables {
    ($($(#[doc = $docs:literal])* $variant:ident = $name:literal $(| $twin:literal)*;)*) => {
        /// What a request can be asked for. Names are nginx's; prefixes such as `http_` carry the rest of theirs.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Variable {
            $($(#[doc = $docs])* $variant,)*
            /// `$http_NAME`: a header of the request, lower case with `-`.
            RequestHeader(String),
            /// `$sent_http_NAME`: a header of the response.
            ResponseHeader(String),
            /// `$cookie_NAME`: a cookie of the request.
            Cookie(String),
            /// `$arg_NAME`: an argument of the query.
            Argument(String),
            /// `$auth_answer_NAME`: a header of the answer of external authentication, where `auth_request_set` of a
            /// snippet asks for it.
            AuthAnswer(String),
            /// `$1` to `$9`: a group of the path's regular expression.
            Group(u8),
        }

        /// The variables with fixed names, for the reference.
        pub const NAMES: &[&str] = &[$($name, $($twin,)*)*];

        impl Variable {
            fn fixed(name: &str) -> Option<Self> {
                Some(match name {
                    $($name $(| $twin)* => Self::$variant,)*
                    _ => return None,
                })
            }

            /// Its name, without `$`.
            pub fn name(&self) -> String {
                match self {
                    $(Self::$variant => $name.to_owned(),)*
                    Self::RequestHeader(name) => format!("http_{}", name.replace('-', "_")),
                    Self::ResponseHeader(name) => format!("sent_http_{}", name.replace('-', "_")),
                    Self::Cookie(name) => format!("cookie_{name}"),
                    Self::Argument(name) => format!("arg_{name}"),
                    Self::AuthAnswer(name) => format!("auth_answer_{}", name.replace('-', "_")),
                    Self::Group(number) => number.to_string(),
                }
            }
        }
    };
}

variables! {
    /// `http` or `https`, as the client spoke to us or to a trusted proxy before us.
    Scheme = "scheme" | "pass_access_scheme";
    /// The host that was asked for, without port, lower case.
    Host = "host";
    /// The `Host` header as it came, or what a trusted proxy says of it.
    BestHttpHost = "best_http_host";
    /// Name of the machine.
    Hostname = "hostname";
    /// Path and query as they came.
    RequestUri = "request_uri";
    /// The same, escaped to stand in a query.
    EscapedRequestUri = "escaped_request_uri";
    /// The normal path, without query.
    Uri = "uri" | "document_uri";
    /// The query, without `?`.
    Args = "args" | "query_string";
    /// `?` if there is a query.
    IsArgs = "is_args";
    /// `GET`, …
    RequestMethod = "request_method";
    /// `GET /path HTTP/1.1`.
    Request = "request";
    /// `HTTP/1.1`, `HTTP/2.0`.
    ServerProtocol = "server_protocol";
    /// The client's address.
    RemoteAddr = "remote_addr" | "the_real_ip";
    /// The client's address as bytes in nginx; here its text.
    BinaryRemoteAddr = "binary_remote_addr";
    /// The address of the connection, which may be a trusted proxy's.
    RealipRemoteAddr = "realip_remote_addr";
    /// The user of basic or digest authentication.
    RemoteUser = "remote_user";
    /// The host of the rule that took the request.
    ServerName = "server_name";
    /// The port that the client connected to.
    ServerPort = "server_port" | "pass_server_port" | "pass_port";
    /// `Content-Type` of the request.
    ContentType = "content_type";
    /// `Content-Length` of the request.
    ContentLength = "content_length";
    /// Names the request in logs.
    RequestId = "request_id" | "req_id";
    /// `<namespace>-<service>-<port>`.
    ProxyUpstreamName = "proxy_upstream_name";
    /// The same of the canary that took the request.
    ProxyAlternativeUpstreamName = "proxy_alternative_upstream_name";
    /// `Host` that goes upstream.
    ProxyHost = "proxy_host";
    /// Namespace of the Ingress.
    Namespace = "namespace";
    /// Name of the Ingress.
    IngressName = "ingress_name";
    /// Name of the Service.
    ServiceName = "service_name";
    /// Port of the Service.
    ServicePort = "service_port";
    /// The path of the rule.
    LocationPath = "location_path";
    /// Verdict on the client's certificate: `SUCCESS`, `FAILED:…`, `NONE`.
    SslClientVerify = "ssl_client_verify";
    /// Subject of the client's certificate.
    SslClientSubjectDn = "ssl_client_s_dn";
    /// Issuer of the client's certificate.
    SslClientIssuerDn = "ssl_client_i_dn";
    /// Serial number of the client's certificate.
    SslClientSerial = "ssl_client_serial";
    /// SHA-1 of the client's certificate.
    SslClientFingerprint = "ssl_client_fingerprint";
    /// The client's certificate, escaped PEM.
    SslClientEscapedCert = "ssl_client_escaped_cert";
    /// `TLSv1.3`.
    SslProtocol = "ssl_protocol";
    /// Cipher suite of the connection.
    SslCipher = "ssl_cipher";
    /// The server name that the client asked for in the handshake.
    SslServerName = "ssl_server_name";
    /// Status of the answer.
    Status = "status";
    /// Bytes of the response's body.
    BodyBytesSent = "body_bytes_sent";
    /// Bytes of the response.
    BytesSent = "bytes_sent";
    /// Bytes of the request, head and body.
    RequestLength = "request_length";
    /// Seconds since the request began, three decimals.
    RequestTime = "request_time";
    /// `28/Nov/2026:14:00:00 +0000`.
    TimeLocal = "time_local";
    /// `2026-11-28T14:00:00+00:00`.
    TimeIso8601 = "time_iso8601";
    /// Seconds since the epoch, three decimals.
    Msec = "msec";
    /// Endpoints that were tried.
    UpstreamAddr = "upstream_addr";
    /// Body bytes of their answers.
    UpstreamResponseLength = "upstream_response_length";
    /// Seconds until their answers had ended.
    UpstreamResponseTime = "upstream_response_time";
    /// Seconds until their connections stood.
    UpstreamConnectTime = "upstream_connect_time";
    /// Seconds until the heads of their answers.
    UpstreamHeaderTime = "upstream_header_time";
    /// Statuses of their answers.
    UpstreamStatus = "upstream_status";
    /// Serial number of the connection.
    Connection = "connection";
    /// Requests of the connection so far.
    ConnectionRequests = "connection_requests";
    /// `.` when the connection is pipelined in nginx, `p`; here always `.`.
    Pipe = "pipe";
    /// `gzip`'s ratio.
    GzipRatio = "gzip_ratio";
    /// Process id.
    Pid = "pid";
    /// Address of the connection's other end, its port.
    RemotePort = "remote_port";
    /// Address of the PROXY protocol header.
    ProxyProtocolAddr = "proxy_protocol_addr";
    /// Our side of the connection.
    ServerAddr = "server_addr";
    /// The chain that goes upstream.
    ProxyAddXForwardedFor = "proxy_add_x_forwarded_for" | "full_x_forwarded_for";
    /// `on` over TLS.
    Https = "https";
    /// Trace id of the request.
    OpentelemetryTraceId = "opentelemetry_trace_id" | "otel_trace_id";
    /// Span id of the request.
    OpentelemetrySpanId = "opentelemetry_span_id" | "otel_span_id";
}

impl Variable {
    /// By its name, without `$`.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(known) = Self::fixed(name) {
            return Some(known);
        }
        let rest = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
        let header = |name: &str| name.replace('_', "-").to_ascii_lowercase();
        if let Some(digit) = name.parse::<u8>().ok().filter(|digit| (1..=9).contains(digit)) {
            return Some(Self::Group(digit));
        }
        (rest("sent_http_").or_else(|| rest("upstream_http_")).map(|name| Self::ResponseHeader(header(name))))
            .or_else(|| rest("auth_answer_").map(|name| Self::AuthAnswer(header(name))))
            .or_else(|| rest("http_").map(|name| Self::RequestHeader(header(name))))
            .or_else(|| rest("cookie_").map(|name| Self::Cookie(name.to_owned())))
            .or_else(|| rest("arg_").map(|name| Self::Argument(name.to_ascii_lowercase())))
    }
}

impl Template {
    /// Text without variables.
    pub fn text(text: impl Into<String>) -> Self {
        Self(vec![Part::Text(text.into())])
    }

    /// Reads `$name` and `${name}`. The error names the variable that nobody knows.
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        let (template, unknown) = Self::parse_leniently(text, "");
        match unknown.into_iter().next() {
            None => Ok(template),
            Some(name) => Err(UnknownVariable(name)),
        }
    }

    /// The same with `stand_in` where a variable stands that nobody knows, and the names of those.
    pub fn parse_leniently(text: &str, stand_in: &str) -> (Self, Vec<String>) {
        let mut parts = Vec::new();
        let mut unknown = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, tail) = variable_name(after);
            match Variable::parse(&name) {
                Some(variable) => parts.push(Part::Variable(variable)),
                None => {
                    parts.push(Part::Text(stand_in.to_owned()));
                    unknown.push(name.into_owned());
                }
            }
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        (Self(parts), unknown)
    }

    /// The text with some of its variables replaced, before it is read.
    pub fn substitute(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (name, tail) = variable_name(after);
            match value(&name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push('$');
                    out.push_str(after.get(..after.len().saturating_sub(tail.len())).unwrap_or_default());
                }
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }

    /// The text, if there is no variable in it.
    pub fn as_text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its variables.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }
}

/// The name after `$`, and what follows it. Without its closing brace a name is the whole rest, and unknown.
pub(super) fn variable_name(after: &str) -> (Cow<'_, str>, &str) {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some((name, tail)) => (name.into(), tail),
            None => (format!("{{{braced}").into(), ""),
        };
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // A number is one digit, as nginx reads it: `$10` is `$1` and a zero.
    let end = if after.starts_with(|c: char| c.is_ascii_digit()) {
        1
    } else {
        after.find(|c| !is_name(c)).unwrap_or(after.len())
    };
    let (name, tail) = after.split_at(end);
    (name.into(), tail)
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Variable(variable) => write!(f, "${{{}}}", variable.name()),
        })
    }
}

/// A variable that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("${0} is not a known variable")]
pub struct UnknownVariable(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_in_text() {
        for (text, shown) in [
            ("https://$host$request_uri", "https://${host}${request_uri}"),
            ("${scheme}://a/$1x", "${scheme}://a/${1}x"),
            ("$10", "${1}0"),
            ("$http_x_forwarded_for|$cookie_a", "${http_x_forwarded_for}|${cookie_a}"),
            ("$req_id", "${request_id}"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(Template::parse(text).map(|template| template.to_string()).as_deref(), Ok(shown));
        }
        for (text, name) in [("a$", ""), ("$nope", "nope"), ("${host", "{host"), ("$0", "0"), ("$$", "")] {
            assert_eq!(Template::parse(text), Err(UnknownVariable(name.to_owned())), "{text}");
        }
    }

    #[test]
    fn variables_are_replaced_by_name() {
        let value = |name: &str| (name == "a").then(|| "1".to_owned());
        for (text, expected) in
            [("$a-$ab-${a}b", "1-$ab-1b"), ("x", "x"), ("$", "$"), ("${a", "${a"), ("$1$a", "$11")]
        {
            assert_eq!(Template::substitute(text, value), expected);
        }
    }

    #[test]
    fn every_name_is_read_back() {
        for name in NAMES {
            let variable = Variable::parse(name).unwrap();
            assert_eq!(Variable::parse(&variable.name()), Some(variable), "{name}");
        }
    }
}
