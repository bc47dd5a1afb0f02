//! `enable-opentelemetry`: a request goes upstream with a W3C trace context (`traceparent`): the client's where it is
//! trusted and well-formed, else a fresh one. Spans are not exported, so a context that came goes on unchanged: a span of
//! our own that nobody sees would tear the trace apart.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use http::HeaderValue;
use http::header::HeaderName;

use super::{Filter, Outcome};
use crate::model::policy::trace::Trace;
use crate::proxy::context::RequestCtx;
use crate::proxy::head::Request;

/// <https://www.w3.org/TR/trace-context/>
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Gives requests a trace context.
#[derive(Debug)]
pub struct TraceContext(Trace);

impl TraceContext {
    /// From the policy.
    pub fn from_policy(policy: Trace) -> Self {
        Self(policy)
    }
}

impl Filter for TraceContext {
    const NAME: &'static str = "trace";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let headers = &mut request.head.headers;
        let sent = headers.text(&TRACEPARENT).filter(|text| self.0.trusts_client && ids(text).is_some());
        if sent.is_none() {
            let random = [ctx.worker.random(), ctx.worker.random(), ctx.worker.random()];
            let is_recorded = ctx.worker.random() % 1_000_000 < u64::from(self.0.recorded_per_million);
            headers.set(TRACEPARENT, fresh(random, is_recorded));
            headers.remove(&TRACESTATE);
        }
        ControlFlow::Continue(())
    }
}

fn fresh([high, low, span]: [u64; 3], is_recorded: bool) -> HeaderValue {
    let mut text = String::with_capacity(55);
    // Writing into a String cannot fail. Ids of zeros alone are invalid.
    let _ = write!(text, "00-{high:016x}{:016x}-{:016x}-0{}", low | 1, span | 1, u8::from(is_recorded));
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Trace id and span id of a well-formed context.
pub fn ids(traceparent: &str) -> Option<(&str, &str)> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    // Later versions may have more parts; 00 has none.
    let is_complete = version != "00" || parts.next().is_none();
    let is_valid =
        is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    (is_valid && is_complete && !is_zero(trace) && !is_zero(span)).then_some((trace, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_strictly() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(ids(&good), Some((trace, "00f067aa0ba902b7")));
        assert!(ids(&format!("cc-{trace}-00f067aa0ba902b7-01-what-else")).is_some());
        for bad in [
            "",
            "00",
            &format!("00-{trace}-00f067aa0ba902b7"),
            &format!("00-{trace}-00f067aa0ba902b7-01-x"),
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{trace}-0000000000000000-01"),
        ] {
            assert_eq!(ids(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_fresh_context_is_well_formed() {
        for random in [[0, 0, 0], [u64::MAX; 3]] {
            let value = fresh(random, true);
            assert!(ids(value.to_str().unwrap()).is_some() && value.as_bytes().ends_with(b"-01"));
        }
        assert!(fresh([1, 2, 3], false).as_bytes().ends_with(b"-00"));
    }
}
