//! `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.

use std::time::Duration;

use super::config_map::Defaults;
use super::registry::annotations;
use super::{Reader, value};
use crate::model::policy::Timeouts;

annotations! { "Timeouts towards the backend";
    /// Seconds to establish a connection to an endpoint; then 504.
    PROXY_CONNECT_TIMEOUT: Duration = "proxy-connect-timeout", parse: value::seconds,
    values: "a bare number of seconds", default: "5", on_invalid: Warn, scope: "path", twins: [];
    /// Seconds between two writes of the request, not for all of it; then 504.
    PROXY_SEND_TIMEOUT: Duration = "proxy-send-timeout", parse: value::seconds,
    values: "a bare number of seconds", default: "60", on_invalid: Warn, scope: "path", twins: [];
    /// Seconds between two reads of the response, not for all of it; then 504. Also ends idle WebSockets.
    PROXY_READ_TIMEOUT: Duration = "proxy-read-timeout", parse: value::seconds,
    values: "a bare number of seconds", default: "60", on_invalid: Warn, scope: "path", twins: [];
}

pub(super) fn parse(reader: &mut Reader<'_>, defaults: &Defaults) -> Timeouts {
    Timeouts {
        connect: reader.get(&PROXY_CONNECT_TIMEOUT).or(defaults.timeouts.connect),
        send: reader.get(&PROXY_SEND_TIMEOUT).or(defaults.timeouts.send),
        read: reader.get(&PROXY_READ_TIMEOUT).or(defaults.timeouts.read),
    }
}
