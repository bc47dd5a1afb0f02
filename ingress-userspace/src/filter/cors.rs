//! `enable-cors`: preflight requests are answered, and answers say which origins may read them.
//!
//! `OPTIONS` from an allowed origin gets 204 here, before redirects, limits, source lists and authentication. The origin is
//! echoed when it is on the list; with `*` every answer says `*`. Our own errors carry the headers, too, so that a script
//! can read why it was refused. Unlike in ingress-nginx the whole origin is compared, its beginning as well.

use std::ops::ControlFlow;

use http::header::{self, HeaderName};
use http::{HeaderValue, Method, StatusCode};

use super::{Filter, Outcome, Stop};
use crate::model::policy::cors::{self, OriginPattern};
use crate::proxy::body::Body;
use crate::proxy::context::RequestCtx;
use crate::proxy::head::{Request, Response};

/// Cross-origin rules of a route.
#[derive(Debug)]
pub struct Cors {
    /// `None`: everybody.
    origins: Option<Vec<OriginPattern>>,
    lines: Vec<(HeaderName, HeaderValue)>,
}

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the value {0:?} of a CORS header cannot be sent")]
pub struct CorsError(String);

impl Cors {
    /// From the model.
    pub fn from_policy(policy: &cors::Cors) -> Result<Self, CorsError> {
        let cors::Cors { origins, methods, headers, exposed, with_credentials, max_age } = policy;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_invalid| CorsError(text.to_owned()));
        let mut lines = Vec::new();
        if *with_credentials {
            lines.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        lines.push((header::ACCESS_CONTROL_ALLOW_METHODS, value(methods)?));
        lines.push((header::ACCESS_CONTROL_ALLOW_HEADERS, value(headers)?));
        if let Some(exposed) = exposed {
            lines.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, value(exposed)?));
        }
        lines.push((header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(*max_age)));
        let origins = match origins {
            cors::Origins::Any => None,
            cors::Origins::List(list) => Some(list.clone()),
        };
        Ok(Self { origins, lines })
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(list) => origin.filter(|origin| list.iter().any(|known| takes(known, origin))).cloned(),
        }
    }
}

impl Filter for Cors {
    const NAME: &'static str = "cors";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        ctx.cors_origin = self.allowed(request.head.headers.get(&header::ORIGIN));
        if ctx.cors_origin.is_none() || request.head.method != Method::OPTIONS {
            return ControlFlow::Continue(());
        }
        let mut response = Response::text(StatusCode::NO_CONTENT);
        response.head.headers.remove(&header::CONTENT_TYPE);
        response.body = Body::empty();
        ControlFlow::Break(Stop::Respond(response))
    }

    fn on_response(&self, ctx: &mut RequestCtx, response: &mut Response) {
        let Some(origin) = ctx.cors_origin.take() else { return };
        response.head.headers.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        for (name, value) in &self.lines {
            response.head.headers.set(name.clone(), value.clone());
        }
    }
}

/// Whether a pattern takes an origin. The wildcard is one label.
fn takes(pattern: &OriginPattern, origin: &HeaderValue) -> bool {
    let origin = origin.as_bytes();
    let Some(end) = &pattern.end else { return origin.eq_ignore_ascii_case(pattern.start.as_bytes()) };
    let Some(middle) = origin.len().checked_sub(pattern.start.len() + end.len()) else { return false };
    let Some((start, rest)) = origin.split_at_checked(pattern.start.len()) else { return false };
    let Some((label, tail)) = rest.split_at_checked(middle) else { return false };
    start.eq_ignore_ascii_case(pattern.start.as_bytes())
        && tail.eq_ignore_ascii_case(end.as_bytes())
        && !label.is_empty()
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_whole_and_a_wildcard_is_one_label() {
        let check = |start: &str, end: Option<&str>, origin: &'static str| {
            let pattern = OriginPattern { start: start.into(), end: end.map(Into::into) };
            takes(&pattern, &HeaderValue::from_static(origin))
        };
        assert!(check("https://a.example", None, "https://A.example"));
        for other in
            ["https://a.example.evil", "https://a.example:8443", "http://a.example", "xhttps://a.example"]
        {
            assert!(!check("https://a.example", None, other), "{other}");
        }
        let wild = |origin| check("https://", Some(".a.example:8443"), origin);
        assert!(wild("https://x-1.a.example:8443"));
        for other in [
            "https://x.y.a.example:8443",
            "https://.a.example:8443",
            "https://x.a.example",
            "https://evil.example/.a.example:8443",
            "https://a.example:8443",
        ] {
            assert!(!wild(other), "{other}");
        }
    }
}
