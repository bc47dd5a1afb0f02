//! `use-gzip`, `enable-brotli`, `enable-zstd`: responses are compressed for clients that accept it.
//!
//! As in nginx: status 200, 403 or 404, a listed media type, long enough, not coded yet, HTTP/1.1 or later, and a coding that
//! the client names (`*` is none). A response that could be compressed says `Vary: Accept-Encoding` in any case. Its length
//! is unknown then, ranges of it cannot be asked for, a strong entity tag becomes a weak one, and one without quotes is
//! dropped. HEAD is answered as GET would be. Unlike in nginx `Cache-Control: no-transform` is honoured.
//!
//! It holds for the whole proxy, so it is no part of a route's chain; where it is off nothing is looked at.

use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Version, request};
use regex::Regex;

use crate::model::bodies::{Bodies, Coding, CodingPolicy};
use crate::proxy::body::Body;
use crate::proxy::context::RequestCtx;
use crate::proxy::head::{Headers, Response};

/// What is compressed, and how.
#[derive(Debug)]
pub struct Compression {
    /// The preferred one first.
    codings: Vec<CodingPolicy>,
    gzip_except: Option<Regex>,
}

/// What a client accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Accepted {
    zstd: f32,
    brotli: f32,
    gzip: f32,
    /// Given explicitly, above which another coding is unwanted.
    identity: f32,
    /// There is no body to compress.
    is_head: bool,
}

impl Compression {
    /// From the model; `None`: nothing is compressed.
    pub fn new(bodies: &Bodies) -> Option<Self> {
        let build = |text: &String| {
            regex::RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build().ok()
        };
        let gzip_except = bodies.gzip_except.as_ref().and_then(build);
        (!bodies.codings.is_empty()).then(|| Self { codings: bodies.codings.clone(), gzip_except })
    }

    /// Looks at a request.
    pub fn accepted(&self, parts: &request::Parts) -> Accepted {
        if parts.version < Version::HTTP_11 {
            return Accepted::default();
        }
        let lines = parts.headers.get_all(header::ACCEPT_ENCODING).iter();
        let mut accepted = Accepted::parse(lines.filter_map(|value| value.to_str().ok()));
        if let Some(except) = &self.gzip_except
            && let Some(agent) = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok())
            && except.is_match(agent)
        {
            accepted.gzip = 0.0;
        }
        accepted.is_head = parts.method == Method::HEAD;
        accepted
    }

    /// The codings that are meant for a response, to HEAD as to GET.
    fn meant_for<'a>(
        &'a self,
        response: &Response,
        is_head: bool,
    ) -> impl Iterator<Item = &'a CodingPolicy> + use<'a> {
        let headers = &response.head.headers;
        let has_status =
            matches!(response.head.status, StatusCode::OK | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        let is_open = has_status
            && headers.get(&header::CONTENT_ENCODING).is_none()
            && headers.get(&header::CONTENT_RANGE).is_none()
            && !has_no_transform(headers);
        let media_type = headers.text(&header::CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let length = headers.text(&header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        // The body of a backend's answer to HEAD is empty, and says nothing of the length.
        let announced = response.body.announced().filter(|length| !is_head || *length > 0);
        let length = length.or(announced);
        self.codings.iter().filter(move |policy| {
            is_open
                && length.is_none_or(|length| length >= policy.min_length && length > 0)
                && is_listed(policy, &media_type)
        })
    }
}

/// Compresses the response of a request, if it should be.
pub fn apply(ctx: &RequestCtx, response: &mut Response) {
    let Some(compression) = &ctx.snapshot.globals.compression else { return };
    let Some(accepted) = ctx.accepted else { return };
    let mut codings = compression.meant_for(response, accepted.is_head).peekable();
    if codings.peek().is_none() {
        return;
    }
    let headers = &mut response.head.headers;
    vary(headers);
    let Some(CodingPolicy { coding, level, .. }) = accepted.best(codings) else { return };
    headers.set(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(&header::CONTENT_LENGTH);
    headers.remove(&header::ACCEPT_RANGES);
    weaken(headers);
    if accepted.is_head {
        return;
    }
    let body = std::mem::replace(&mut response.body, Body::empty());
    response.body = body.compressed(*coding, *level);
}

fn is_listed(policy: &CodingPolicy, media_type: &str) -> bool {
    let is_text = media_type == "text/html";
    // gRPC has a compression of its own.
    let is_any = || policy.types.iter().any(|known| known == "*" || known == media_type);
    is_text || (!media_type.is_empty() && !media_type.starts_with("application/grpc") && is_any())
}

fn has_no_transform(headers: &Headers) -> bool {
    let lines = headers.all(&header::CACHE_CONTROL).filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case("no-transform"))
}

fn vary(headers: &mut Headers) {
    let lines = headers.all(&header::VARY).filter_map(|value| value.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    let is_said = names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding"));
    drop(names);
    if !is_said {
        headers.add(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

fn weaken(headers: &mut Headers) {
    let Some(tag) = headers.get(&header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    let weak = tag.as_bytes().starts_with(b"\"").then(|| [b"W/", tag.as_bytes()].concat());
    match weak.and_then(|weak| HeaderValue::from_bytes(&weak).ok()) {
        Some(weak) => headers.set(header::ETAG, weak),
        None => drop(headers.remove(&header::ETAG)),
    }
}

impl Accepted {
    /// Reads the lines of `Accept-Encoding`.
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut accepted = Self::default();
        for entry in lines.flat_map(|line| line.split(',')) {
            let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let weight = parameters.split(';').find_map(|parameter| {
                let (key, value) = parameter.split_once('=')?;
                key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().unwrap_or(0.0))
            });
            let weight: f32 = weight.unwrap_or(1.0).clamp(0.0, 1.0);
            match name.trim().to_ascii_lowercase().as_str() {
                "zstd" => accepted.zstd = weight,
                "br" => accepted.brotli = weight,
                "gzip" => accepted.gzip = weight,
                "identity" => accepted.identity = weight,
                _ => {}
            }
        }
        accepted
    }

    fn weight(&self, coding: Coding) -> f32 {
        match coding {
            Coding::Zstd => self.zstd,
            Coding::Brotli => self.brotli,
            Coding::Gzip => self.gzip,
        }
    }

    /// The one that the client likes best, of several the first.
    fn best<'a>(&self, codings: impl Iterator<Item = &'a CodingPolicy>) -> Option<&'a CodingPolicy> {
        let wanted = codings.filter(|policy| {
            let weight = self.weight(policy.coding);
            weight > 0.0 && weight >= self.identity
        });
        wanted.reduce(
            |best, next| {
                if self.weight(next.coding) > self.weight(best.coding) { next } else { best }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(coding: Coding) -> CodingPolicy {
        CodingPolicy { coding, level: 1, min_length: 20, types: vec!["text/css".into()] }
    }

    fn best(accept: &str) -> &'static str {
        let codings = [policy(Coding::Zstd), policy(Coding::Brotli), policy(Coding::Gzip)];
        Accepted::parse([accept].into_iter()).best(codings.iter()).map_or("", |policy| policy.coding.name())
    }

    #[test]
    fn the_client_decides_and_then_the_order() {
        for (accept, coding) in [
            ("", ""),
            ("gzip", "gzip"),
            ("gzip, deflate, br", "br"),
            ("gzip, br, zstd", "zstd"),
            ("br;q=0.5, gzip;q=0.8", "gzip"),
            ("GZIP;Q=0", ""),
            ("x-gzip", ""),
            ("*", ""),
            ("*, br;q=0.2, zstd;q=0", "br"),
            ("gzip;q=0.5, identity", ""),
            ("gzip;q=nan-sense", ""),
            ("deflate", ""),
        ] {
            assert_eq!(best(accept), coding, "{accept:?}");
        }
    }

    #[test]
    fn only_fitting_responses_are_meant() {
        let compression = Compression { codings: vec![policy(Coding::Gzip)], gzip_except: None };
        let meant = |status: u16, lines: &[(&'static str, &'static str)]| {
            let mut response = Response::text(StatusCode::from_u16(status).unwrap());
            response
                .head
                .headers
                .set(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
            response.body = Body::full(vec![b'x'; 50]);
            for (name, value) in lines {
                response.head.headers.set(name.parse().unwrap(), HeaderValue::from_static(value));
            }
            compression.meant_for(&response, false).next().is_some()
        };
        assert!(meant(200, &[]) && meant(404, &[]) && meant(200, &[("content-type", "Text/HTML")]));
        for (status, lines) in [
            (206, &[][..]),
            (204, &[]),
            (304, &[]),
            (500, &[]),
            (200, &[("content-encoding", "br")]),
            (200, &[("content-type", "image/png")]),
            (200, &[("content-length", "19")]),
            (200, &[("cache-control", "public, no-transform")]),
        ] {
            assert!(!meant(status, lines), "{status} {lines:?}");
        }
    }

    #[test]
    fn entity_tags_become_weak_and_vary_is_said_once() {
        let mut headers = Headers::default();
        headers.set(header::ETAG, HeaderValue::from_static("\"a\""));
        headers.set(header::VARY, HeaderValue::from_static("Cookie"));
        for _twice in 0..2 {
            weaken(&mut headers);
            vary(&mut headers);
        }
        assert_eq!(headers.text(&header::ETAG), Some("W/\"a\""));
        assert_eq!(headers.all(&header::VARY).collect::<Vec<_>>(), ["Cookie", "Accept-Encoding"]);
    }
}
