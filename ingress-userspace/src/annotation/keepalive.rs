//! `upstream-keepalive-*`: idle connections to endpoints.

use std::time::Duration;

use super::Reader;
use super::registry::{annotations, config_keys};
use super::value::{self, time};
use crate::model::policy::delivery::Keepalive;

annotations! { "Connections to endpoints";
    /// In the ConfigMap: idle connections that a worker keeps open, to all endpoints. On an Ingress, where ingress-nginx does
    /// not know it: idle connections that a worker keeps open to each endpoint of its paths. 0: a connection per request.
    UPSTREAM_KEEPALIVE_CONNECTIONS: u32 = "upstream-keepalive-connections", parse: value::integer,
    values: "a bare whole number", default: "320", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Own;
}

config_keys! { "Connections to endpoints, cluster-wide";
    /// Seconds for which a connection may be idle.
    UPSTREAM_KEEPALIVE_TIMEOUT: Duration = "upstream-keepalive-timeout", parse: value::seconds,
    values: "a bare number of seconds", default: "60", on_invalid: Warn, support: Same;
    /// Requests that a connection carries before it is closed.
    UPSTREAM_KEEPALIVE_REQUESTS: u32 = "upstream-keepalive-requests", parse: value::positive,
    values: "a bare whole number from 1", default: "10000", on_invalid: Warn, support: Same;
    /// How long a connection is used before it is closed.
    UPSTREAM_KEEPALIVE_TIME: Duration = "upstream-keepalive-time", parse: time::span, values: "a time such as 1h",
    default: "1h", on_invalid: Warn, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Keepalive {
    let per_endpoint = reader.value(&UPSTREAM_KEEPALIVE_CONNECTIONS);
    Keepalive {
        connections: reader.configured(&UPSTREAM_KEEPALIVE_CONNECTIONS),
        per_endpoint,
        timeout: reader.value(&UPSTREAM_KEEPALIVE_TIMEOUT),
        requests: reader.value(&UPSTREAM_KEEPALIVE_REQUESTS),
        time: reader.value(&UPSTREAM_KEEPALIVE_TIME),
    }
}
