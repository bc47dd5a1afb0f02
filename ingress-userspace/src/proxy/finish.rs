//! A response on its last step: how its connection goes on, and the log record that goes with its body.
//!
//! An answer of our own with nginx's status 444 is none: the connection (of HTTP/2: the stream) is closed without a word.

use http::{HeaderValue, Version, header};

use super::body::{Body, Carried, Progress};
use super::context::{ActiveRequest, RequestCtx};
use super::head::{Headers, Response};
use super::worker::Phase;

/// A status that is no answer.
const NO_ANSWER: u16 = 444;

/// The client gets no answer, as the route says.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as the route says")]
pub struct HungUp;

/// Hands the response to the engine.
pub(super) fn finish(
    ctx: RequestCtx,
    active: ActiveRequest,
    response: Response,
    version: Version,
    is_head: bool,
    progress: &Progress,
) -> Result<http::Response<Body>, HungUp> {
    let RequestCtx { connection, mut record, worker, in_flight, snapshot, is_from_backend, is_page, .. } =
        ctx;
    let limits = &snapshot.globals.connections;
    let Response { mut head, mut body } = response;
    if head.status.as_u16() == NO_ANSWER && !is_from_backend && !is_page {
        record.answered(head.status, &http::HeaderMap::new());
        record.received(progress.bytes.get());
        return Err(HungUp);
    }
    let is_http1 = version < Version::HTTP_2;
    let is_worn = connection.requests.get() >= limits.requests || limits.idle.is_zero();
    let is_over = is_worn || worker.phase() >= Phase::Draining;
    if is_http1 {
        if is_over && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
            head.headers.set(header::CONNECTION, HeaderValue::from_static("close"));
        }
    } else {
        head.headers.remove(&header::CONNECTION);
        if is_head {
            body = without_bytes(body, &mut head.headers);
        }
    }
    if !progress.is_received.get() {
        connection.linger();
    }
    let headers = head.headers.into_engine();
    record.answered(head.status, &headers);
    record.received(progress.bytes.get());
    body.carry(Carried { record, active, in_flight });
    let mut engine = http::Response::new(body);
    *engine.status_mut() = head.status;
    *engine.headers_mut() = headers;
    Ok(engine)
}

/// What HEAD gets of an answer that has a body, as our own have and pages that were asked for with GET: its length. The
/// engine leaves the bytes out in HTTP/1 alone, and in HTTP/2 they would break the stream.
fn without_bytes(body: Body, headers: &mut Headers) -> Body {
    match body.announced() {
        Some(length @ 1..) => {
            headers.set(header::CONTENT_LENGTH, HeaderValue::from(length));
            Body::empty()
        }
        Some(0) => body,
        None => Body::empty(),
    }
}
