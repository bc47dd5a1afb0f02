//! `proxy-request-buffering`, `client-body-buffer-size`, `client-body-timeout`.

use std::time::Duration;

use super::registry::{annotations, config_keys};
use super::{Reader, value};
use crate::model::policy::RequestBuffer;

annotations! { "Request buffering";
    /// Read the body of a request whole before the backend is asked: a slow client holds no backend, a body that is too
    /// large never reaches it, and a request that may be repeated can be sent to another endpoint. `off`: the body is
    /// passed on as it comes. Bodies of gRPC requests always are.
    PROXY_REQUEST_BUFFERING: bool = "proxy-request-buffering", parse: value::on_off, values: "on or off", default: "on",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Bytes of a request's body that are held in memory while it is read whole; what is more goes to a temporary file. A
    /// body that comes at once stays in memory in any case.
    CLIENT_BODY_BUFFER_SIZE: u64 = "client-body-buffer-size", parse: value::buffer_size, values: "a size such as 8k",
    default: "8k", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

config_keys! { "Request bodies, cluster-wide";
    /// Seconds between two reads of a request's body, not for all of it; then 408.
    CLIENT_BODY_TIMEOUT: Duration = "client-body-timeout", parse: value::seconds, values: "a bare number of seconds",
    default: "60", on_invalid: Warn, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<RequestBuffer> {
    let memory = reader.value(&CLIENT_BODY_BUFFER_SIZE);
    reader.value(&PROXY_REQUEST_BUFFERING).then_some(RequestBuffer { memory })
}

pub(super) fn parse_timeout(reader: &mut Reader<'_>) -> Duration {
    reader.value(&CLIENT_BODY_TIMEOUT)
}
