//! The request gate: one strict reading of the message before anything is decided about it.
//!
//! What hyper hides (a Content-Length beside Transfer-Encoding, equal Content-Lengths, a cut fragment) comes with our own
//! engine; everything that it shows is judged here. HTTP/2 has the same rules, with `:authority` for Host.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version, request};

use super::error::GateReason;
use super::forward;
use super::head::{Headers, HostName, RequestHead};
use super::path::Target;
use crate::model::connections::HeadLimits;
use crate::model::global::FieldNames;

/// Header lines of a request; hyper has the same limit for HTTP/1.
const MOST_HEADERS: usize = 100;

/// Judges a request head as the engine read it.
pub fn admit(
    parts: request::Parts,
    names: FieldNames,
    limits: HeadLimits,
) -> Result<RequestHead, GateReason> {
    let request::Parts { method, uri, version, mut headers, .. } = parts;
    judge_method(&method)?;
    judge_headers(&mut headers, names, limits)?;
    judge_framing(&headers, version)?;
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > limits.line) {
        return Err(GateReason::TargetTooLong);
    }
    let host = host(&uri, version, &mut headers)?;
    forward::end_named_headers(&mut headers);
    let target = target(uri)?;
    Ok(RequestHead { method, target, host, version, headers: Headers::from_engine(headers) })
}

fn judge_method(method: &Method) -> Result<(), GateReason> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(GateReason::MethodNotAllowed);
    }
    let is_plain =
        method.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_');
    if is_plain { Ok(()) } else { Err(GateReason::Method) }
}

/// Size and count; drops names with underscores (`X_Real_IP` reaches CGI programs as `X-Real-IP` would) and other signs.
fn judge_headers(headers: &mut HeaderMap, names: FieldNames, limits: HeadLimits) -> Result<(), GateReason> {
    if headers.len() > MOST_HEADERS {
        return Err(GateReason::HeadersTooLarge);
    }
    let mut total = 0;
    let mut dropped: Vec<HeaderName> = Vec::new();
    let mut is_padded = false;
    for (name, value) in headers.iter() {
        let length = name.as_str().len() + value.len() + 4;
        total += length;
        if length > limits.line || total > limits.all {
            return Err(GateReason::HeadersTooLarge);
        }
        if !is_taken(name, names) {
            dropped.push(name.clone());
        }
        is_padded |= value.as_bytes().first().is_some_and(|byte| is_blank(*byte))
            || value.as_bytes().last().is_some_and(|byte| is_blank(*byte));
    }
    for name in dropped {
        headers.remove(name);
    }
    if is_padded {
        // HTTP/2 carries them; HTTP/1 cannot.
        for value in headers.values_mut() {
            if let Ok(trimmed) = HeaderValue::from_bytes(value.as_bytes().trim_ascii()) {
                *value = trimmed;
            }
        }
    }
    Ok(())
}

fn is_taken(name: &HeaderName, names: FieldNames) -> bool {
    let (underscores, others) = match names {
        FieldNames::Plain => (false, false),
        FieldNames::Underscores => (true, false),
        FieldNames::AnyWithoutUnderscores => (false, true),
        FieldNames::Any => (true, true),
    };
    name.as_str().bytes().all(|byte| match byte {
        b'_' => underscores,
        byte => others || byte == b'-' || byte.is_ascii_alphanumeric(),
    })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn judge_framing(headers: &HeaderMap, version: Version) -> Result<(), GateReason> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some()
        || length.is_some_and(|value| value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(GateReason::Framing);
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None)
            if version == Version::HTTP_11
                && length.is_none()
                && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(())
        }
        _ => Err(GateReason::Framing),
    }
}

/// The host, taken out of the headers: the target's when it has one, else the field's.
fn host(uri: &Uri, version: Version, headers: &mut HeaderMap) -> Result<HostName, GateReason> {
    let mut fields = headers.get_all(header::HOST).iter();
    let (field, is_repeated) = (fields.next().cloned(), fields.next().is_some());
    headers.remove(header::HOST);
    if is_repeated {
        return Err(GateReason::HostRepeated);
    }
    if let Some(scheme) = uri.scheme_str()
        && scheme != "http"
        && scheme != "https"
    {
        return Err(GateReason::Scheme);
    }
    if version == Version::HTTP_11 && field.is_none() {
        return Err(GateReason::HostMissing);
    }
    let sent = match (uri.authority(), field) {
        (Some(authority), _) if authority.as_str().contains('@') => return Err(GateReason::UserInfo),
        (Some(authority), _) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_invalid| GateReason::HostInvalid)?
        }
        (None, Some(field)) => field,
        // Old health checks; only a catch-all host serves them.
        (None, None) if version == Version::HTTP_10 => return Ok(HostName::none()),
        (None, None) => return Err(GateReason::HostMissing),
    };
    HostName::parse(sent).ok_or(GateReason::HostInvalid)
}

fn target(uri: Uri) -> Result<Target, GateReason> {
    let has_authority = uri.authority().is_some();
    let has_scheme = uri.scheme().is_some();
    match uri.into_parts().path_and_query {
        // `GET name:port`: the authority form belongs to CONNECT.
        _ if has_authority && !has_scheme => Err(GateReason::TargetForm),
        // `http://name?query`: the path is the root.
        Some(target) if target.as_str().starts_with('?') => {
            let text = format!("/{target}");
            Target::parse(PathAndQuery::try_from(text).map_err(|_invalid| GateReason::TargetBytes)?)
        }
        Some(target) => Target::parse(target),
        None if has_scheme => Target::parse(PathAndQuery::from_static("/")),
        None => Err(GateReason::TargetForm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: request::Builder, expected: Result<&str, GateReason>) {
        let shown = format!("{request:?}");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let seen =
            admit(parts, FieldNames::Plain, HeadLimits::default()).map(|head| head.host.name().to_owned());
        assert_eq!(seen.as_deref().map_err(|reason| *reason), expected, "{shown}");
    }

    fn get(uri: &str) -> request::Builder {
        http::Request::builder().uri(uri)
    }

    #[test]
    fn there_is_exactly_one_host_and_the_target_wins() {
        check(get("/").header("host", "A.example:80"), Ok("a.example"));
        check(get("/"), Err(GateReason::HostMissing));
        check(get("/").header("host", "a").header("host", "a"), Err(GateReason::HostRepeated));
        check(get("/").header("host", "a, b"), Err(GateReason::HostInvalid));
        check(get("/").header("host", ""), Err(GateReason::HostInvalid));
        check(get("http://b.example/").header("host", "a"), Ok("b.example"));
        check(get("http://b.example").header("host", "a"), Ok("b.example"));
        check(get("http://b.example?q").header("host", "a"), Ok("b.example"));
        check(get("http://u@b.example/").header("host", "a"), Err(GateReason::UserInfo));
        check(get("ftp://b.example/").header("host", "a"), Err(GateReason::Scheme));
        check(get("/").version(Version::HTTP_10), Ok(""));
        check(get("https://b.example/").version(Version::HTTP_2), Ok("b.example"));
        check(get("/").version(Version::HTTP_2), Err(GateReason::HostMissing));
        check(
            get("/").version(Version::HTTP_2).header("host", "a").header("host", "a"),
            Err(GateReason::HostRepeated),
        );
    }

    #[test]
    fn methods_and_target_forms_are_judged() {
        check(get("/").method("TRACE").header("host", "a"), Err(GateReason::MethodNotAllowed));
        check(get("a:80").method("CONNECT").header("host", "a"), Err(GateReason::MethodNotAllowed));
        check(get("/").method("get").header("host", "a"), Err(GateReason::Method));
        check(get("/").method("PROPFIND").header("host", "a"), Ok("a"));
        check(get("a").header("host", "a"), Err(GateReason::TargetForm));
        check(get("*").method("OPTIONS").header("host", "a"), Err(GateReason::TargetForm));
        let long = format!("/{}", "a".repeat(HeadLimits::default().line));
        check(get(&long).header("host", "a"), Err(GateReason::TargetTooLong));
    }

    #[test]
    fn framing_is_one_length_or_chunked_alone() {
        let post = || get("/").method("POST").header("host", "a");
        check(post().header("content-length", "3"), Ok("a"));
        check(post().header("content-length", "3").header("content-length", "3"), Err(GateReason::Framing));
        check(post().header("content-length", "+3"), Err(GateReason::Framing));
        check(post().header("transfer-encoding", "chunked"), Ok("a"));
        check(post().header("transfer-encoding", "identity, chunked"), Err(GateReason::Framing));
        check(
            post().header("transfer-encoding", "chunked").header("transfer-encoding", "chunked"),
            Err(GateReason::Framing),
        );
        check(
            post().header("transfer-encoding", "chunked").header("content-length", "3"),
            Err(GateReason::Framing),
        );
    }

    #[test]
    fn headers_are_bounded_and_underscores_dropped() {
        let mut many = get("/").header("host", "a");
        for number in 0..MOST_HEADERS {
            many = many.header(format!("x-{number}"), "1");
        }
        check(many, Err(GateReason::HeadersTooLarge));
        check(
            get("/").header("host", "a").header("x", "a".repeat(HeadLimits::default().line)),
            Err(GateReason::HeadersTooLarge),
        );
        let (parts, ()) = get("/")
            .header("host", "a")
            .header("x_real_ip", "1")
            .header("y", " v ")
            .body(())
            .unwrap()
            .into_parts();
        let head = admit(parts, FieldNames::Plain, HeadLimits::default()).unwrap();
        assert!(head.headers.get(&HeaderName::from_static("x_real_ip")).is_none());
        assert_eq!(head.headers.text(&HeaderName::from_static("y")), Some("v"));
    }
}
