//! Header rules of a proxy: what ends at this hop, and what the backend is told about the client.
//!
//! As ingress-nginx with `use-forwarded-headers: false`: what the client claims about itself is replaced (the chain that it
//! sent survives as `X-Original-Forwarded-*`), so a backend may believe every header in the list below.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};

use super::context::{RequestCtx, Scheme};
use super::forwarded;
use super::head::{Headers, RequestHead, ResponseHead};
use crate::filter::headers::Lines;
use crate::model::global::ServerField;
use crate::snapshot::Route;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// CGI turns it into HTTP_PROXY ("httpoxy").
const PROXY: HeaderName = HeaderName::from_static("proxy");
/// Names the request in the logs of both sides.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");
const X_ORIGINAL_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-original-forwarded-for");
const X_ORIGINAL_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-original-forwarded-host");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
/// Made by old servers for old browsers; nginx removes it.
const X_PAD: HeaderName = HeaderName::from_static("x-pad");
/// Set on requests to a fallback backend, as ingress-nginx tells its default backend.
pub const X_CODE: HeaderName = HeaderName::from_static("x-code");

/// Only proxies set these; from a client they are an attempt to be taken for one.
const UNTRUSTED: [HeaderName; 13] = [
    header::FORWARDED,
    X_ORIGINAL_FORWARDED_FOR,
    X_ORIGINAL_FORWARDED_HOST,
    X_CODE,
    HeaderName::from_static("x-format"),
    HeaderName::from_static("x-forwarded-prefix"),
    X_ORIGINAL_URI,
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("ssl-client-cert"),
    HeaderName::from_static("ssl-client-verify"),
    HeaderName::from_static("ssl-client-subject-dn"),
    HeaderName::from_static("ssl-client-issuer-dn"),
];

/// A request as it goes to an endpoint, without its body.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Upper case.
    pub method: Method,
    /// Origin form.
    pub uri: Uri,
    /// All of them, `Host` included.
    pub headers: HeaderMap,
}

/// The protocol that the client wants to switch to, if it is one that we tunnel. `h2c` never is: a tunnel of HTTP would
/// carry requests that no rule has seen.
pub fn wanted_upgrade(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let connection_says_so = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let token = headers.get(header::UPGRADE).filter(|_| connection_says_so && version == Version::HTTP_11)?;
    let is_allowed = [&b"websocket"[..], b"spdy/3.1", b"tcp"]
        .iter()
        .any(|name| token.as_bytes().eq_ignore_ascii_case(name));
    is_allowed.then(|| token.clone())
}

/// The request for an endpoint.
pub fn to_upstream(ctx: &RequestCtx, head: RequestHead, upgrade: Option<HeaderValue>) -> Outgoing {
    let RequestHead { method, target, host, headers, .. } = head;
    let mut headers = headers.into_engine();
    let accepts_trailers = headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("trailers"));
    remove_hop_by_hop(&mut headers);
    headers.remove(header::EXPECT);
    headers.remove(header::PROXY_AUTHORIZATION);
    headers.remove(HTTP2_SETTINGS);
    headers.remove(PROXY);
    join(&mut headers, header::COOKIE, b"; ");
    let peer = &ctx.peer;
    let globals = &ctx.snapshot.globals.forwarded;
    join(&mut headers, globals.for_header.clone(), b", ");
    let forwarded_for = forwarded::chain(globals, peer, headers.get(&globals.for_header));
    let original_for = headers.get(&globals.for_header).cloned();
    let original_host = headers.get(&globals.host_header).cloned();
    // What a proxy says that is believed goes on, but for what we set ourselves.
    let is_believed = globals.is_believed && globals.trusted.contains(peer.connection);
    let untrusted: &[HeaderName] = match (ctx.is_internal, is_believed) {
        (true, _) => &[],
        (false, true) => &[X_ORIGINAL_FORWARDED_FOR, X_ORIGINAL_FORWARDED_HOST],
        (false, false) => &UNTRUSTED,
    };
    for name in untrusted {
        headers.remove(name);
    }
    if !ctx.is_internal {
        tell_of_certificate(ctx, &mut headers);
    }
    let scheme = match peer.scheme {
        Scheme::Http => HeaderValue::from_static("http"),
        Scheme::Https => HeaderValue::from_static("https"),
    };
    let asked = peer.host.as_ref().filter(|_| !ctx.is_internal).unwrap_or(host.sent());
    headers.insert(header::HOST, asked.clone());
    let fields = &ctx.snapshot.globals.fields;
    if !fields.omits_request_id || headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, ctx.record.request_id.clone());
    }
    if fields.adds_original_uri {
        // A request target is visible ASCII.
        let uri = HeaderValue::from_str(target.raw()).unwrap_or(HeaderValue::from_static("/"));
        headers.insert(X_ORIGINAL_URI, uri);
    }
    headers.insert(X_REAL_IP, peer.client_value.clone());
    headers.insert(X_FORWARDED_FOR, forwarded_for);
    headers.insert(X_FORWARDED_HOST, peer.host.as_ref().unwrap_or(host.sent()).clone());
    headers.insert(X_FORWARDED_PORT, peer.port_value.clone());
    headers.insert(X_FORWARDED_PROTO, scheme.clone());
    headers.insert(X_FORWARDED_SCHEME, scheme.clone());
    headers.insert(X_SCHEME, scheme);
    if let Some(value) = original_for {
        headers.insert(X_ORIGINAL_FORWARDED_FOR, value);
    }
    if let Some(value) = original_host {
        headers.insert(X_ORIGINAL_FORWARDED_HOST, value);
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    } else if accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    let uri = Uri::from(target.upstream().clone());
    Outgoing { method, uri, headers }
}

/// What the cluster's settings and the route's change in a request that goes upstream.
pub fn changes(ctx: &RequestCtx, route: &Route, head: &RequestHead) -> Lines {
    let mut lines = Lines::new();
    for changes in ctx.snapshot.globals.fields.changes.iter().chain(&route.chain.headers) {
        changes.lines(ctx, head, &mut lines);
    }
    lines
}

/// The headers of a request for a service that is asked about it: those of the client without what concerns the
/// connection and the body, without what it claims about itself, and with what we know.
pub fn for_question(ctx: &RequestCtx, head: &RequestHead) -> HeaderMap {
    let mut headers = head.headers.clone().into_engine();
    remove_hop_by_hop(&mut headers);
    for name in [header::EXPECT, header::CONTENT_LENGTH, header::PROXY_AUTHORIZATION, HTTP2_SETTINGS, PROXY] {
        headers.remove(name);
    }
    join(&mut headers, header::COOKIE, b"; ");
    let globals = &ctx.snapshot.globals.forwarded;
    join(&mut headers, globals.for_header.clone(), b", ");
    let forwarded_for = forwarded::chain(globals, &ctx.peer, headers.get(&globals.for_header));
    let claimed: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    for name in UNTRUSTED.into_iter().chain(claimed) {
        headers.remove(name);
    }
    tell_of_certificate(ctx, &mut headers);
    headers.insert(X_REQUEST_ID, ctx.record.request_id.clone());
    headers.insert(X_REAL_IP, ctx.peer.client_value.clone());
    headers.insert(X_FORWARDED_FOR, forwarded_for);
    if let Some(host) = &ctx.peer.host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    headers
}

/// Says who the client is by its certificate, where the host asks for one.
fn tell_of_certificate(ctx: &RequestCtx, headers: &mut HeaderMap) {
    if let Some(certificates) = ctx.route.as_ref().and_then(|route| route.chain.client_certificate.as_ref()) {
        certificates.tell(ctx, headers);
    }
}

/// The response for the client.
pub fn from_upstream(ctx: &RequestCtx, status: StatusCode, mut headers: HeaderMap) -> ResponseHead {
    let upgrade = headers.get(header::UPGRADE).cloned().filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
    remove_hop_by_hop(&mut headers);
    headers.remove(X_PAD);
    // What serves the request is nobody's business (`server-tokens: false`, `allow-backend-server-header: false`).
    if ctx.snapshot.globals.fields.server != ServerField::Backend {
        headers.remove(header::SERVER);
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    ResponseHead { status, headers: Headers::from_engine(headers) }
}

/// Makes one line of several. HTTP/2 clients send a line per cookie, and a backend that speaks HTTP/1 would see one of
/// them, or join them with commas (RFC 9113 section 8.2.3).
fn join(headers: &mut HeaderMap, name: HeaderName, separator: &[u8]) {
    let lines = headers.get_all(&name);
    if lines.iter().nth(1).is_none() {
        return;
    }
    let bytes: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    // Valid values joined by a printable separator are a valid value.
    if let Ok(value) = HeaderValue::from_bytes(&bytes.join(separator)) {
        headers.insert(name, value);
    }
}

/// Ends what `Connection` names beside the connection's own fields, before a filter sets headers of the same names: a
/// client could have them removed again on the way to the backend.
pub(super) fn end_named_headers(headers: &mut HeaderMap) {
    const OWN: [&str; 5] = ["close", "keep-alive", "upgrade", "te", "http2-settings"];
    let tokens = |value: &HeaderValue| -> Vec<String> {
        let text = value.to_str().unwrap_or_default();
        text.split(',')
            .map(|token| token.trim().to_ascii_lowercase())
            .filter(|token| !token.is_empty())
            .collect()
    };
    let is_own = |token: &String| OWN.contains(&token.as_str());
    let mut named = headers.get_all(header::CONNECTION).iter().flat_map(tokens);
    if named.all(|token| is_own(&token)) {
        return;
    }
    let (own, others): (Vec<String>, Vec<String>) =
        headers.get_all(header::CONNECTION).iter().flat_map(tokens).partition(is_own);
    for name in others.iter().filter_map(|name| name.parse::<HeaderName>().ok()) {
        if ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
            headers.remove(name);
        }
    }
    headers.remove(header::CONNECTION);
    if let (false, Ok(own)) = (own.is_empty(), HeaderValue::try_from(own.join(", "))) {
        headers.insert(header::CONNECTION, own);
    }
}

/// Removes what concerns one connection only: the known fields and those that `Connection` names. It may not name
/// `Host` and `Content-Length` away, which would change whom the message is for and where it ends.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    while let Some(value) = headers.remove(header::CONNECTION) {
        let names = value
            .to_str()
            .unwrap_or_default()
            .split(',')
            .filter_map(|name| name.trim().parse::<HeaderName>().ok());
        for name in names {
            if name != header::HOST && name != header::CONTENT_LENGTH {
                headers.remove(&name);
            }
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_tunnels_that_hide_no_requests_are_upgrades() {
        let wanted = |protocol, connection| {
            let headers = map(&[("connection", connection), ("upgrade", protocol)]);
            wanted_upgrade(&headers, Version::HTTP_11).is_some()
        };
        assert!(wanted("websocket", "keep-alive, Upgrade"));
        assert!(wanted("WebSocket", "upgrade"));
        assert!(!wanted("websocket", "keep-alive"));
        assert!(!wanted("h2c", "upgrade, http2-settings"));
        assert!(!wanted("websocket, h2c", "upgrade"));
        let headers = map(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        assert!(wanted_upgrade(&headers, Version::HTTP_10).is_none());
    }

    #[test]
    fn what_connection_names_is_gone_before_filters_set_it() {
        let mut headers = map(&[
            ("connection", "Upgrade, X-Auth-Request-User, host, content-length"),
            ("x-auth-request-user", "forged"),
            ("content-length", "3"),
            ("upgrade", "websocket"),
        ]);
        end_named_headers(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("connection", "upgrade"), ("content-length", "3"), ("upgrade", "websocket")]);
        let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("x-a", "1")]);
        end_named_headers(&mut headers);
        assert_eq!((headers.len(), headers["connection"].as_bytes()), (2, &b"keep-alive, Upgrade"[..]));
    }

    #[test]
    fn connection_names_fields_away_but_not_the_framing() {
        let mut headers = map(&[
            ("connection", "close, x-secret, host, content-length"),
            ("x-secret", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-kept"]);
    }
}
