//! The health service of gRPC, `grpc.health.v1.Health`: one unary call, whose two messages have one field each.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{AGENT, answer};

/// The answer has two bytes behind five of its frame; unknown fields may follow one day.
const LONGEST_ANSWER: usize = 4096;
/// Field 1 of the answer, a number.
const STATUS_FIELD: u8 = 0x08;
/// Its value for a service that takes requests.
const SERVING: u8 = 1;

/// Asks about a service, or about the server if it is empty; `None`: nothing came of it.
pub(super) async fn ask<T>(stream: T, (endpoint, scheme): (SocketAddr, &str), service: &str) -> Option<bool>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = Request::new(Full::new(question(service)?));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("{scheme}://{endpoint}/grpc.health.v1.Health/Check").parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    let sent = sender.send_request(request);
    answer(connection, async move { Ok(is_serving(sent.await?).await) }).await?
}

/// A message that holds the name as field 1, in its frame.
fn question(service: &str) -> Option<Bytes> {
    let mut message = Vec::with_capacity(service.len() + 7);
    message.extend_from_slice(&[0; 5]);
    if !service.is_empty() {
        // Names are shorter than 128 bytes, so that one byte holds the length.
        message.extend_from_slice(&[0x0A, u8::try_from(service.len()).ok().filter(|length| *length < 128)?]);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len().checked_sub(5)?).ok()?;
    message.get_mut(1..5)?.copy_from_slice(&length.to_be_bytes());
    Some(message.into())
}

async fn is_serving(response: Response<Incoming>) -> Option<bool> {
    let (parts, body) = response.into_parts();
    let collected = Limited::new(body, LONGEST_ANSWER).collect().await.ok()?;
    let has_succeeded =
        |headers: &HeaderMap| headers.get("grpc-status").is_some_and(|status| status.as_bytes() == b"0");
    let is_well = parts.status == StatusCode::OK
        && (collected.trailers().is_some_and(has_succeeded) || has_succeeded(&parts.headers));
    let bytes = collected.to_bytes();
    // Uncompressed, four bytes of length, and the only field that there is.
    Some(is_well && matches!(&*bytes, [0, _, _, _, _, STATUS_FIELD, SERVING, ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_framed_message() {
        assert_eq!(&*question("").unwrap(), [0, 0, 0, 0, 0]);
        assert_eq!(&*question("a.B").unwrap(), [0, 0, 0, 0, 5, 0x0A, 3, b'a', b'.', b'B']);
        assert!(question(&"x".repeat(128)).is_none());
    }
}
