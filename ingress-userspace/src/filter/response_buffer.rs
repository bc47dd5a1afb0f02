//! `proxy-buffering` with its sizes: how the backend's response is taken.
//!
//! The head may have `proxy-buffer-size` bytes, else the answer is 502, as in nginx. With buffering on the body is read as fast
//! as the backend sends it; off, as the client takes it. `X-Accel-Buffering` of the response chooses for itself. Headers
//! `X-Accel-*` never reach the client; unlike in nginx they have no other effect.

use std::ops::ControlFlow;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::{Filter, Outcome};
use crate::model::policy;
use crate::proxy::body::{Body, Room};
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::{Request, Response};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// What nginx's header fields of this kind are called.
const X_ACCEL: &str = "x-accel-";
/// `HTTP/1.1 200 OK`, its end, and that of the head.
const STATUS_LINE: usize = 19;

/// How responses are taken.
#[derive(Debug)]
pub struct ResponseBuffer {
    is_on: bool,
    head: usize,
    room: Room,
}

impl ResponseBuffer {
    /// From the model.
    pub fn from_policy(policy: &policy::ResponseBuffer) -> Self {
        let policy::ResponseBuffer { is_on, head, memory, file } = *policy;
        let head = usize::try_from(head).unwrap_or(usize::MAX);
        Self { is_on, head, room: Room { memory, file } }
    }

    /// Refuses a response whose head is too large.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ProxyError> {
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if fields + STATUS_LINE > self.head { Err(ProxyError::ResponseHeadTooLarge) } else { Ok(()) }
    }
}

impl Filter for ResponseBuffer {
    const NAME: &'static str = "response_buffer";

    async fn on_request(&self, _ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        ControlFlow::Continue(())
    }

    fn on_response(&self, ctx: &mut RequestCtx, response: &mut Response) {
        let headers = &mut response.head.headers;
        let mut is_on = self.is_on;
        let accelerated: Vec<HeaderName> = headers
            .iter()
            .map(|(name, _)| name)
            .filter(|name| name.as_str().starts_with(X_ACCEL))
            .cloned()
            .collect();
        for name in accelerated {
            let value = headers.remove(&name);
            if name == X_ACCEL_BUFFERING {
                is_on = asked(value.as_ref()).unwrap_or(is_on);
            }
        }
        if is_on {
            let body = std::mem::replace(&mut response.body, Body::empty());
            response.body = body.spooled(self.room, &ctx.worker.temp);
        }
    }
}

fn asked(value: Option<&HeaderValue>) -> Option<bool> {
    match value?.as_bytes() {
        value if value.eq_ignore_ascii_case(b"yes") => Some(true),
        value if value.eq_ignore_ascii_case(b"no") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_may_have_as_many_bytes_as_configured() {
        let buffer = ResponseBuffer::from_policy(&policy::ResponseBuffer { head: 100, ..Default::default() });
        let mut headers = HeaderMap::new();
        // "x-long: …\r\n" and the status line.
        headers.insert("x-long", HeaderValue::try_from("v".repeat(100 - 19 - 10)).unwrap());
        assert!(buffer.check(&headers).is_ok());
        headers.insert("x-long", HeaderValue::try_from("v".repeat(100 - 19 - 9)).unwrap());
        assert!(buffer.check(&headers).is_err());
    }
}
