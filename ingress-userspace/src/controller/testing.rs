//! A scripted API server for unit tests: every request is recorded and answered by a function.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use serde_json::Value;

/// One request as the API server saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path with query.
    pub(crate) path: String,
    pub(crate) body: Value,
}

pub(crate) type Log = Arc<Mutex<Vec<Seen>>>;

/// A client whose requests `answer` is asked for.
pub(crate) fn client(
    answer: impl Fn(&Seen) -> (StatusCode, Value) + Send + Sync + 'static,
) -> (kube::Client, Log) {
    let log = Log::default();
    let answer = Arc::new(answer);
    let seen_by = Arc::clone(&log);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, answer) = (Arc::clone(&seen_by), Arc::clone(&answer));
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let seen = Seen { method: head.method, path: head.uri.to_string(), body };
            let (status, value) = answer(&seen);
            log.lock().expect("no test panics while it holds the log").push(seen);
            let mut response = Response::new(Full::new(bytes::Bytes::from(value.to_string())));
            *response.status_mut() = status;
            Ok::<_, kube::Error>(response)
        }
    });
    (kube::Client::new(service, "default"), log)
}

/// The answer of an API server that refuses.
pub(crate) fn refuse(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16(),
    });
    (code, status)
}
