//! How connections of `tcp-services`, datagrams of `udp-services` and TLS that is passed through are carried.

use std::time::Duration;

use super::Reader;
use super::registry::{annotations, config_keys};
use super::value::{self, time};
use crate::model::stream::Streams;

annotations! { "TLS passthrough";
    /// TLS connections whose server name is a host of this Ingress go to its backend as they are, if the flag
    /// `--enable-ssl-passthrough` is given. The backend of the path `/` is used; other paths and all other annotations say
    /// nothing about these connections. Requests in cleartext are served as usual, over TLS
    /// towards that backend. A connection without a server name, or
    /// with one that is not passed through, gets our own TLS. Unlike in ingress-nginx connections go to the endpoints and
    /// not to the address of the Service, and end after `proxy-stream-timeout` of silence.
    SSL_PASSTHROUGH: bool = "ssl-passthrough", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Differs;
}

config_keys! { "TCP and UDP services";
    /// The longest silence of a TCP connection, a session of datagrams or a TLS connection that is passed through.
    PROXY_STREAM_TIMEOUT: Duration = "proxy-stream-timeout", parse: time::span, values: "a time such as 600s",
    default: "600s", on_invalid: Warn, support: Same;
    /// Whether another endpoint is tried when one cannot be reached.
    PROXY_STREAM_NEXT_UPSTREAM: bool = "proxy-stream-next-upstream", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, support: Same;
    /// How long other endpoints are tried; 0: without limit.
    PROXY_STREAM_NEXT_UPSTREAM_TIMEOUT: Duration = "proxy-stream-next-upstream-timeout", parse: span_from_zero,
    values: "a time such as 600s, or 0", default: "600s", on_invalid: Warn, support: Same;
    /// How many endpoints are tried; 0: all of them.
    PROXY_STREAM_NEXT_UPSTREAM_TRIES: u32 = "proxy-stream-next-upstream-tries", parse: value::integer,
    values: "a bare whole number", default: "3", on_invalid: Warn, support: Same;
    /// Datagrams that answer one of the client's; with them, its session ends. 0: none is waited for.
    PROXY_STREAM_RESPONSES: u32 = "proxy-stream-responses", parse: value::integer, values: "a bare whole number",
    default: "1", on_invalid: Warn, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Streams {
    Streams {
        connect: Streams::default().connect,
        idle: reader.value(&PROXY_STREAM_TIMEOUT),
        tries_next: reader.value(&PROXY_STREAM_NEXT_UPSTREAM),
        tries: reader.value(&PROXY_STREAM_NEXT_UPSTREAM_TRIES),
        tries_within: reader.value(&PROXY_STREAM_NEXT_UPSTREAM_TIMEOUT),
        responses: reader.value(&PROXY_STREAM_RESPONSES),
    }
}

fn span_from_zero(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => time::span(text),
    }
}
