//! `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.

use std::time::Duration;

use super::registry::annotations;
use super::{Reader, value};
use crate::model::policy::Timeouts;

annotations! { "Timeouts towards the backend";
    /// Seconds to establish a connection to an endpoint; then 504.
    PROXY_CONNECT_TIMEOUT: Duration = "proxy-connect-timeout", parse: value::seconds,
    values: "a bare number of seconds", default: "5", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Seconds between two writes of the request, not for all of it; then 504.
    PROXY_SEND_TIMEOUT: Duration = "proxy-send-timeout", parse: value::seconds,
    values: "a bare number of seconds", default: "60", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Seconds between two reads of the response, not for all of it; then 504. Also ends idle WebSockets.
    PROXY_READ_TIMEOUT: Duration = "proxy-read-timeout", parse: value::seconds,
    values: "a bare number of seconds", default: "60", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Timeouts {
    Timeouts {
        connect: reader.value(&PROXY_CONNECT_TIMEOUT),
        send: reader.value(&PROXY_SEND_TIMEOUT),
        read: reader.value(&PROXY_READ_TIMEOUT),
    }
}
