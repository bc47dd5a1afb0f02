//! The seam between engines and everything else: what a request and a response are.
//!
//! Engines convert at their edge without copying headers. Filters use the methods here and nothing of an engine.

use std::fmt::Write as _;
use std::str;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version, header};

use super::body::Body;
use super::path::Target;

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    /// Everything but the body.
    pub head: RequestHead,
    /// The body, streaming.
    pub body: Body,
}

/// A response on its way.
#[derive(Debug)]
pub struct Response {
    /// Everything but the body.
    pub head: ResponseHead,
    /// The body, streaming.
    pub body: Body,
}

/// The head of a request that passed the gate.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Upper case.
    pub method: Method,
    /// Path and query.
    pub target: Target,
    /// Who is asked.
    pub host: HostName,
    /// As the client spoke.
    pub version: Version,
    /// Without `Host`.
    pub headers: Headers,
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Headers,
}

impl Response {
    /// Our own answer: the status and its name as text.
    pub fn text(status: StatusCode) -> Self {
        let mut text = String::with_capacity(40);
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Unknown"));
        let mut headers = Headers::default();
        headers.set(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Self { head: ResponseHead { status, headers }, body: Body::full(text) }
    }
}

/// Header fields, by name.
#[derive(Clone, Debug, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Takes over an engine's map.
    pub fn from_engine(map: HeaderMap) -> Self {
        Self(map)
    }

    /// The map, for an engine or the log to look at.
    pub fn as_engine(&self) -> &HeaderMap {
        &self.0
    }

    /// Gives the map to an engine.
    pub fn into_engine(self) -> HeaderMap {
        self.0
    }

    /// The first value of a field.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.get(name)
    }

    /// The first value of a field, if it is text.
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a field.
    pub fn all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.0.get_all(name).iter()
    }

    /// Replaces all values of a field.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.insert(name, value);
    }

    /// Adds a line to a field.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.append(name, value);
    }

    /// All fields, to be read.
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// Removes a field and returns its first value.
    pub fn remove(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        self.0.remove(name)
    }

    /// Every field line.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }

    /// Every field line, values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&HeaderName, &mut HeaderValue)> {
        self.0.iter_mut()
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The host of a request: as it came, and its normal form (lower case, no port, no dot at the end).
#[derive(Clone, Debug)]
pub struct HostName {
    sent: HeaderValue,
    /// The normal form, in front of whatever follows.
    normal: HeaderValue,
    length: usize,
}

impl HostName {
    /// The host of an HTTP/1.0 request that names none.
    pub fn none() -> Self {
        Self { sent: HeaderValue::from_static(""), normal: HeaderValue::from_static(""), length: 0 }
    }

    /// Reads `name`, `name:port`, `[v6]` or `[v6]:port`; `None` when it is none of them.
    pub fn parse(sent: HeaderValue) -> Option<Self> {
        let text = str::from_utf8(sent.as_bytes()).ok()?;
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                let port = match after.strip_prefix(':') {
                    Some(port) => port,
                    None if after.is_empty() => "",
                    None => return None,
                };
                (text.get(..address.len() + 2)?, port)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let is_port =
            port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = name.starts_with('[')
            || (name.len() <= 253
                && !name.split('.').any(str::is_empty)
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_'));
        if name.is_empty() || !is_name || !is_port {
            return None;
        }
        let length = name.len();
        let normal = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            HeaderValue::from_str(&name.to_ascii_lowercase()).ok()?
        } else {
            sent.clone()
        };
        Some(Self { sent, normal, length })
    }

    /// The normal form; empty when the request named no host.
    pub fn name(&self) -> &str {
        self.normal
            .as_bytes()
            .get(..self.length)
            .and_then(|name| str::from_utf8(name).ok())
            .unwrap_or_default()
    }

    /// The name as the client wrote it, without port.
    pub fn written(&self) -> &str {
        self.sent.as_bytes().get(..self.length).and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// As the client sent it, port included.
    pub fn sent(&self) -> &HeaderValue {
        &self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_normal_form_or_are_refused() {
        let cases = [
            ("Example.COM:8080", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("example.com.:80", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("127.0.0.1:8080", Some("127.0.0.1")),
            ("[::1]:8080", Some("[::1]")),
            ("[2001:DB8::1]", Some("[2001:db8::1]")),
            ("under_score.example", Some("under_score.example")),
            ("", None),
            (".", None),
            (":80", None),
            ("a..b", None),
            ("a, b", None),
            ("a/b", None),
            ("u@a", None),
            ("a:99999", None),
            ("a:+80", None),
            ("a:b:c", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[::g]", None),
            ("a%20b", None),
        ];
        for (sent, expected) in cases {
            let host = HostName::parse(HeaderValue::from_static(sent));
            assert_eq!(host.as_ref().map(HostName::name), expected, "{sent:?}");
        }
    }
}
