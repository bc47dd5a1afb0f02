//! The variables of templates, as a request on its way answers them. What is not known (yet, or here) is empty, as in nginx.

use std::fmt::Write as _;

use http::Version;
use http::header::{self, HeaderName};

use super::context::RequestCtx;
use super::head::{RequestHead, ResponseHead};
use crate::filter::trace;
use crate::model::template::{Part, Template, Variable};
use crate::telemetry::access_log;
use crate::tls::identity::{ClientCertificate, TlsInfo};

/// What variables are read from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The request's surroundings.
    pub ctx: &'a RequestCtx,
    /// Its head, as it is now.
    pub head: &'a RequestHead,
    /// The answer, once there is one.
    pub response: Option<&'a ResponseHead>,
}

impl<'a> View<'a> {
    /// Before there is an answer.
    pub fn new(ctx: &'a RequestCtx, head: &'a RequestHead) -> Self {
        Self { ctx, head, response: None }
    }

    /// The text of a template.
    pub fn expand(&self, template: &Template) -> String {
        if let Some(text) = template.as_text() {
            return text.to_owned();
        }
        let mut out = String::with_capacity(64);
        for part in &template.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable(variable) => self.write(variable, &mut out),
            }
        }
        out
    }

    /// Appends the value of a variable.
    pub fn write(&self, variable: &Variable, out: &mut String) {
        let Self { ctx, head, response } = *self;
        let labels = &ctx.record.labels;
        // Writing into a String cannot fail.
        let _ = match variable {
            Variable::Scheme => out.write_str(ctx.peer.scheme.name()),
            Variable::Host => out.write_str(head.host.name()),
            Variable::BestHttpHost => {
                let host = ctx.peer.host.as_ref().unwrap_or(head.host.sent());
                out.write_str(host.to_str().unwrap_or_default())
            }
            Variable::Hostname => out.write_str(&rustix::system::uname().nodename().to_string_lossy()),
            Variable::RequestUri => out.write_str(head.target.raw()),
            Variable::EscapedRequestUri => {
                escape_argument(head.target.raw(), out);
                Ok(())
            }
            Variable::Uri => out.write_str(&String::from_utf8_lossy(head.target.path())),
            Variable::Args => out.write_str(head.target.query().unwrap_or_default()),
            Variable::IsArgs => out
                .write_str(if head.target.query().is_some_and(|query| !query.is_empty()) { "?" } else { "" }),
            Variable::RequestMethod => out.write_str(head.method.as_str()),
            Variable::Request => {
                write!(out, "{} {} {}", head.method, head.target.raw(), protocol(head.version))
            }
            Variable::ServerProtocol => out.write_str(protocol(head.version)),
            Variable::RemoteAddr | Variable::BinaryRemoteAddr => write!(out, "{}", ctx.peer.client),
            Variable::RealipRemoteAddr => write!(out, "{}", ctx.peer.connection),
            Variable::RemoteUser => out.write_str(ctx.record.user.as_deref().unwrap_or_default()),
            Variable::SslProtocol => {
                out.write_str(ctx.connection.tls.as_ref().map_or("", |tls| tls.protocol))
            }
            Variable::SslCipher => out.write_str(ctx.connection.tls.as_ref().map_or("", |tls| tls.cipher)),
            Variable::SslServerName => {
                let name = ctx.connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
                out.write_str(name.unwrap_or_default())
            }
            Variable::SslClientVerify => {
                out.write_str(&ctx.connection.tls.as_ref().map_or_else(String::new, verdict))
            }
            Variable::SslClientSubjectDn => {
                out.write_str(certificate(ctx).map_or("", |shown| &shown.subject))
            }
            Variable::SslClientIssuerDn => out.write_str(certificate(ctx).map_or("", |shown| &shown.issuer)),
            Variable::SslClientSerial => out.write_str(certificate(ctx).map_or("", |shown| &shown.serial)),
            Variable::SslClientFingerprint => {
                out.write_str(certificate(ctx).map_or("", |shown| &shown.fingerprint))
            }
            Variable::SslClientEscapedCert => {
                out.write_str(certificate(ctx).map_or("", |shown| &shown.escaped))
            }
            Variable::ServerName => out.write_str(if labels.host.is_empty() { "_" } else { &labels.host }),
            Variable::ServerPort => out.write_str(ctx.peer.port_value.to_str().unwrap_or_default()),
            Variable::ContentType => {
                out.write_str(head.headers.text(&header::CONTENT_TYPE).unwrap_or_default())
            }
            Variable::ContentLength => {
                out.write_str(head.headers.text(&header::CONTENT_LENGTH).unwrap_or_default())
            }
            Variable::RequestId => out.write_str(ctx.record.request_id.to_str().unwrap_or_default()),
            Variable::ProxyUpstreamName => out.write_str(&labels.upstream),
            Variable::ProxyAlternativeUpstreamName => out.write_str(&labels.canary),
            Variable::Namespace => out.write_str(&labels.namespace),
            Variable::IngressName => out.write_str(&labels.ingress),
            Variable::ServiceName => out.write_str(&labels.service),
            Variable::ServicePort => out.write_str(labels.service_port()),
            Variable::LocationPath => out.write_str(&labels.path),
            Variable::Https => {
                let is_https = ctx.peer.scheme == super::context::Scheme::Https;
                out.write_str(if is_https { "on" } else { "" })
            }
            // The host left the headers at the gate.
            Variable::RequestHeader(name) if name == "host" => {
                out.write_str(head.host.sent().to_str().unwrap_or_default())
            }
            Variable::RequestHeader(name) => joined(
                name,
                |name| head.headers.all(name).filter_map(|value| value.to_str().ok()).collect(),
                out,
            ),
            Variable::ResponseHeader(name) => {
                let lines = |name: &HeaderName| {
                    let headers = response.map(|response| &response.headers);
                    headers
                        .into_iter()
                        .flat_map(|headers| headers.all(name))
                        .filter_map(|v| v.to_str().ok())
                        .collect()
                };
                joined(name, lines, out)
            }
            Variable::AuthAnswer(name) => {
                let lines = |name: &HeaderName| {
                    let headers = ctx.auth_answer.iter().flat_map(|headers| headers.get_all(name));
                    headers.filter_map(|value| value.to_str().ok()).collect()
                };
                joined(name, lines, out)
            }
            Variable::Cookie(name) => out.write_str(cookie(head, name).unwrap_or_default()),
            Variable::Argument(name) => out.write_str(argument(head, name).unwrap_or_default()),
            Variable::Status => match response {
                Some(response) => write!(out, "{}", response.status.as_u16()),
                None => Ok(()),
            },
            Variable::OpentelemetryTraceId => out.write_str(trace_ids(head).map_or("", |(trace, _)| trace)),
            Variable::OpentelemetrySpanId => out.write_str(trace_ids(head).map_or("", |(_, span)| span)),
            Variable::Connection => write!(out, "{}", ctx.connection.serial),
            Variable::ConnectionRequests => write!(out, "{}", ctx.connection.requests.get()),
            Variable::RemotePort => write!(out, "{}", ctx.connection.remote_port),
            Variable::ServerAddr => write!(out, "{}", ctx.connection.local),
            Variable::Pid => write!(out, "{}", std::process::id()),
            Variable::ProxyProtocolAddr if ctx.connection.is_spoken_for => {
                write!(out, "{}", ctx.connection.peer.client)
            }
            Variable::Msec => write!(out, "{}", access_log::msec()),
            Variable::RequestTime
            | Variable::RequestLength
            | Variable::UpstreamAddr
            | Variable::UpstreamStatus
            | Variable::UpstreamConnectTime
            | Variable::UpstreamHeaderTime
            | Variable::UpstreamResponseTime => out.write_str(&ctx.record.so_far(variable)),
            Variable::Pipe => out.write_str("."),
            Variable::TimeLocal => write!(out, "{}", access_log::now(access_log::TIME_LOCAL)),
            Variable::TimeIso8601 => write!(out, "{}", access_log::now(access_log::TIME_ISO8601)),
            Variable::ProxyAddXForwardedFor => {
                let forwarding = &ctx.snapshot.globals.forwarded;
                let received = head.headers.get(&forwarding.for_header);
                let chain = super::forwarded::chain(forwarding, &ctx.peer, received);
                out.write_str(chain.to_str().unwrap_or_default())
            }
            Variable::Group(number) => {
                let group = usize::from(*number).checked_sub(1).and_then(|at| ctx.groups.get(at));
                out.write_str(group.map_or("", String::as_str))
            }
            // The rest belongs to the end of the request.
            _ => Ok(()),
        };
    }
}

/// The verdict on the client's certificate; nginx says `NONE` too where it asks for none.
fn verdict(tls: &TlsInfo) -> String {
    tls.client.as_ref().map_or_else(|| "NONE".to_owned(), |client| client.verdict.text())
}

fn certificate(ctx: &RequestCtx) -> Option<&ClientCertificate> {
    ctx.connection.tls.as_ref()?.client.as_ref()?.certificate.as_ref()
}

fn trace_ids(head: &RequestHead) -> Option<(&str, &str)> {
    head.headers.text(&trace::TRACEPARENT).and_then(trace::ids)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// All lines of a header, as nginx joins them.
fn joined<'a>(name: &str, lines: impl Fn(&HeaderName) -> Vec<&'a str>, out: &mut String) -> std::fmt::Result {
    let Ok(name) = name.parse::<HeaderName>() else { return Ok(()) };
    out.write_str(&lines(&name).join(if name == header::COOKIE { "; " } else { ", " }))
}

/// The value of a cookie.
pub fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let lines = head.headers.all(&header::COOKIE).filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

/// The value of an argument of the query, as it stands there; names without regard to case.
pub fn argument<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let pairs = head.target.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Escapes text to stand as one argument of a query, as nginx's `escape_uri` does for arguments.
pub fn escape_argument(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
