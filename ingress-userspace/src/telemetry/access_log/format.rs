//! The format of a line, compiled to what has to be kept of a request: a variable that no format names costs nothing.

use std::borrow::Cow;
use std::io::Write as _;

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::model::log::{AccessLog, Escape};
use crate::model::template::{Part, Variable};

/// A compiled format.
#[derive(Debug)]
pub struct Format {
    pieces: Vec<Piece>,
    /// How values are made safe.
    pub escape: Escape,
    /// Variables that the path of the request answers, once it knows the request.
    pub asked: Vec<Variable>,
    request_headers: Vec<HeaderName>,
    response_headers: Vec<HeaderName>,
    /// The user of basic authentication is named.
    pub needs_user: bool,
    /// The size of the response's head is counted.
    pub needs_head_size: bool,
}

#[derive(Debug)]
pub(super) enum Piece {
    Text(Vec<u8>),
    /// What the record knows by itself.
    Own(Variable),
    Request(usize),
    Response(usize),
    Asked(usize),
}

/// Header lines that were kept.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<Option<HeaderValue>>);

impl Kept {
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index).and_then(Option::as_ref).map(HeaderValue::as_bytes)
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::new(&AccessLog::default())
    }
}

impl Format {
    /// From the model.
    pub fn new(log: &AccessLog) -> Self {
        let mut format = Self {
            pieces: Vec::with_capacity(log.format.0.len()),
            escape: log.escape,
            asked: Vec::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            needs_user: false,
            needs_head_size: false,
        };
        for part in &log.format.0 {
            let piece = match part {
                Part::Text(text) => Piece::Text(text.clone().into_bytes()),
                Part::Variable(variable) => format.piece(variable),
            };
            format.pieces.push(piece);
        }
        format
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn piece(&mut self, variable: &Variable) -> Piece {
        self.needs_user |= *variable == Variable::RemoteUser;
        self.needs_head_size |= *variable == Variable::BytesSent;
        match variable {
            Variable::RequestHeader(name) => header_piece(&mut self.request_headers, name, Piece::Request),
            Variable::ContentType => header_piece(&mut self.request_headers, "content-type", Piece::Request),
            Variable::ContentLength => {
                header_piece(&mut self.request_headers, "content-length", Piece::Request)
            }
            Variable::ResponseHeader(name) => header_piece(&mut self.response_headers, name, Piece::Response),
            known if is_own(known) => Piece::Own(known.clone()),
            other => Piece::Asked(index_of(&mut self.asked, other.clone())),
        }
    }

    pub(super) fn keep_request(&self, headers: &HeaderMap, authority: Option<&str>) -> Kept {
        let keep = |name: &HeaderName| match joined(headers, name) {
            None if *name == header::HOST => authority.and_then(|text| HeaderValue::from_str(text).ok()),
            found => found,
        };
        Kept(self.request_headers.iter().map(keep).collect())
    }

    pub(super) fn keep_response(&self, headers: &HeaderMap) -> Kept {
        Kept(self.response_headers.iter().map(|name| joined(headers, name)).collect())
    }
}

fn header_piece(names: &mut Vec<HeaderName>, name: &str, piece: fn(usize) -> Piece) -> Piece {
    match name.parse() {
        Ok(name) => piece(index_of(names, name)),
        // No header has such a name.
        Err(_) => piece(usize::MAX),
    }
}

fn index_of<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

/// The lines of a header as nginx joins them; a single one, as nearly all are, is not copied.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(first.clone()) };
    let separator: &[u8] = if *name == header::COOKIE { b"; " } else { b", " };
    let mut all = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        all.extend_from_slice(separator);
        all.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

/// Whether the record knows the value by itself.
fn is_own(variable: &Variable) -> bool {
    matches!(
        variable,
        Variable::RemoteAddr
            | Variable::BinaryRemoteAddr
            | Variable::RemoteUser
            | Variable::TimeLocal
            | Variable::TimeIso8601
            | Variable::Msec
            | Variable::Request
            | Variable::RequestMethod
            | Variable::RequestUri
            | Variable::Args
            | Variable::IsArgs
            | Variable::ServerProtocol
            | Variable::Status
            | Variable::BodyBytesSent
            | Variable::BytesSent
            | Variable::RequestLength
            | Variable::RequestTime
            | Variable::RequestId
            | Variable::ProxyUpstreamName
            | Variable::ProxyAlternativeUpstreamName
            | Variable::Namespace
            | Variable::IngressName
            | Variable::ServiceName
            | Variable::ServicePort
            | Variable::LocationPath
            | Variable::ServerName
            | Variable::UpstreamAddr
            | Variable::UpstreamResponseLength
            | Variable::UpstreamResponseTime
            | Variable::UpstreamConnectTime
            | Variable::UpstreamHeaderTime
            | Variable::UpstreamStatus
            | Variable::Hostname
            | Variable::Pid
            | Variable::Pipe
            | Variable::GzipRatio
    )
}

/// Appends a value, made safe; `None` is what nginx prints for a variable that has none.
pub fn put(line: &mut Vec<u8>, value: Option<&[u8]>, escape: Escape) {
    match (value, escape) {
        (None, Escape::Hex) => line.push(b'-'),
        (None, Escape::Json | Escape::None) => {}
        (Some(value), Escape::None) => line.extend_from_slice(value),
        (Some(value), Escape::Hex) => put_hex(line, value),
        (Some(value), Escape::Json) => put_json(line, value),
    }
}

/// As nginx: quotes, backslashes and everything that is not printable ASCII as `\xHH`, so that a line stays a line.
fn put_hex(line: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1F | 0x7F..=0xFF => {
                // Writing into a Vec cannot fail.
                let _ = write!(line, "\\x{byte:02X}");
            }
            _ => line.push(*byte),
        }
    }
}

/// The inside of a JSON string. Bytes that are no UTF-8 would break every reader of the log; nginx lets them through.
fn put_json(line: &mut Vec<u8>, text: &[u8]) {
    let text: Cow<'_, str> = String::from_utf8_lossy(text);
    for byte in text.bytes() {
        match byte {
            b'"' => line.extend_from_slice(b"\\\""),
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x08 => line.extend_from_slice(b"\\b"),
            0x0C => line.extend_from_slice(b"\\f"),
            0..=0x1F => {
                let _ = write!(line, "\\u{byte:04X}");
            }
            _ => line.push(byte),
        }
    }
}

/// The user of `Authorization: Basic`, whether or not anybody checked it: so nginx has it.
pub(super) fn basic_user(headers: &HeaderMap) -> Option<Box<str>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, coded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = base64(coded.trim_ascii())?;
    let end = decoded.iter().position(|byte| *byte == b':')?;
    let mut user = decoded;
    user.truncate(end);
    (!user.is_empty()).then(|| String::from_utf8_lossy(&user).into())
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.iter().take_while(|byte| **byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Option<&[u8]>, escape: Escape) -> String {
        let mut line = Vec::new();
        put(&mut line, value, escape);
        String::from_utf8_lossy(&line).into_owned()
    }

    #[test]
    fn values_are_escaped_as_nginx_does() {
        let value = "a\"\\\n\t\u{1}\u{e9}".as_bytes();
        assert_eq!(shown(Some(value), Escape::Hex), "a\\x22\\x5C\\x0A\\x09\\x01\\xC3\\xA9");
        assert_eq!(shown(Some(value), Escape::Json), "a\\\"\\\\\\n\\t\\u0001\u{e9}");
        assert_eq!(shown(Some(value), Escape::None), "a\"\\\n\t\u{1}\u{e9}");
        assert_eq!(shown(Some(b"\xff"), Escape::Json), "\u{fffd}");
        let none = [Escape::Hex, Escape::Json, Escape::None].map(|escape| shown(None, escape));
        assert_eq!(none, ["-", "", ""]);
    }

    #[test]
    fn a_format_keeps_what_it_names_once() {
        let template =
            crate::model::template::Template::parse("$http_a $sent_http_b $http_a $host $status $cookie_c");
        let format = Format::new(&AccessLog { format: template.unwrap(), ..AccessLog::default() });
        assert_eq!(format.request_headers, ["a"]);
        assert_eq!(format.response_headers, ["b"]);
        assert_eq!(format.asked, [Variable::Host, Variable::Cookie("c".to_owned())]);
        assert!(!format.needs_user && !format.needs_head_size);
        let default = Format::default();
        assert_eq!(default.request_headers, ["referer", "user-agent"]);
        assert!(default.asked.is_empty() && default.needs_user);
    }

    #[test]
    fn the_user_of_basic_authentication_is_read() {
        let user = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            basic_user(&headers).map(String::from)
        };
        // "ann:secret", ":x", "no colon", "ann" without a colon.
        assert_eq!(user("Basic YW5uOnNlY3JldA==").as_deref(), Some("ann"));
        assert_eq!(user("basic YW5uOnNlY3JldA").as_deref(), Some("ann"));
        for none in ["Basic Ong=", "Basic YW5u", "Bearer YW5uOnNlY3JldA==", "Basic !!!", "Basic"] {
            assert_eq!(user(none), None, "{none}");
        }
    }
}
