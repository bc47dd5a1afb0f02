//! What a client's connection may hold and for how long.

use std::time::Duration;

use super::registry::config_keys;
use super::value::plain;
use super::{Reader, value};
use crate::model::connections::{Connections, HeadLimits};

config_keys! { "Connections of clients";
    /// Seconds that a connection may wait for its next request; `0` ends it after each. HTTP/2 connections hear GOAWAY.
    KEEP_ALIVE: Duration = "keep-alive", parse: plain::seconds_or_none, values: "a bare number of seconds",
    default: "75", on_invalid: Warn, support: Same;
    /// Requests that an HTTP/1 connection may carry. Unlike in ingress-nginx, HTTP/2 connections have no such limit: a
    /// GOAWAY in the middle of a page costs more than it saves.
    KEEP_ALIVE_REQUESTS: u32 = "keep-alive-requests", parse: value::positive, values: "a number of at least 1",
    default: "1000", on_invalid: Warn, support: Differs;
    /// Seconds from the first byte of a request's head to its last, and from the beginning of a connection to its first
    /// byte; then it is closed.
    CLIENT_HEADER_TIMEOUT: Duration = "client-header-timeout", parse: value::seconds, values: "a bare number of seconds",
    default: "60", on_invalid: Warn, support: Same;
    /// How large heads may be: the size is that of one line, number times size that of all. A target that is longer gets
    /// 414. Unlike in ingress-nginx, headers that are longer get 431, not 400.
    LARGE_CLIENT_HEADER_BUFFERS: (usize, usize) = "large-client-header-buffers", parse: plain::buffers,
    values: "number and size, as 4 8k", default: "4 8k", on_invalid: Warn, support: Differs;
    /// A line of a head may be this long, if that is more than `large-client-header-buffers` allows. Buffers grow with
    /// what comes, so that a smaller value changes nothing.
    CLIENT_HEADER_BUFFER_SIZE: Option<u64> = "client-header-buffer-size", parse: value::size,
    values: "a size as nginx writes it", default: "1k", on_invalid: Warn, support: Same;
    /// Requests in flight on an HTTP/2 connection.
    HTTP2_MAX_CONCURRENT_STREAMS: u32 = "http2-max-concurrent-streams", parse: value::positive,
    values: "a number of at least 1", default: "128", on_invalid: Warn, support: Same;
    /// Open connections of one worker; more are closed at once. `0`: no limit (ingress-nginx: as many as files may be
    /// open). Unlike there, connections to backends are not counted.
    MAX_WORKER_CONNECTIONS: u32 = "max-worker-connections", parse: value::integer, values: "a bare number",
    default: "16384", on_invalid: Warn, support: Differs;
    /// Open connections of one client address (all of an IPv6 /64 are one) at a node, those of TCP services included; more are
    /// closed at once. `0`: no limit. Where `use-proxy-protocol`, `use-forwarded-headers` or `enable-real-ip` says that proxies
    /// are before this one, connections from `proxy-real-ip-cidr` are not counted.
    MAX_CONNECTIONS_PER_CLIENT: u32 = "max-connections-per-client", parse: value::integer, values: "a bare number",
    default: "0", on_invalid: Warn, support: Own;
    /// Accepted, and nothing is done: nginx has dropped it, and `large-client-header-buffers` holds for HTTP/2 as well.
    HTTP2_MAX_FIELD_SIZE: String = "http2-max-field-size", parse: plain::text, values: "a size", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: nginx has dropped it, and `large-client-header-buffers` holds for HTTP/2 as well.
    HTTP2_MAX_HEADER_SIZE: String = "http2-max-header-size", parse: plain::text, values: "a size", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: nginx has dropped it for `keep-alive-requests`.
    HTTP2_MAX_REQUESTS: String = "http2-max-requests", parse: plain::text, values: "a number", default: "0",
    on_invalid: Note, support: Ignored;
}

/// The limits of the whole proxy.
pub(super) fn parse(reader: &mut Reader<'_>) -> Connections {
    let (count, size) = reader.value(&LARGE_CLIENT_HEADER_BUFFERS);
    let first = reader.value(&CLIENT_HEADER_BUFFER_SIZE).and_then(|bytes| usize::try_from(bytes).ok());
    // A line that fits into the first buffer needs no large one.
    let line = size.max(first.unwrap_or_default().min(1 << 20));
    let most = reader.value(&MAX_WORKER_CONNECTIONS);
    let most_per_client = reader.value(&MAX_CONNECTIONS_PER_CLIENT);
    Connections {
        idle: reader.value(&KEEP_ALIVE),
        requests: u64::from(reader.value(&KEEP_ALIVE_REQUESTS)),
        head_time: reader.value(&CLIENT_HEADER_TIMEOUT),
        head: HeadLimits { line, all: count.saturating_mul(size).max(line) },
        streams: reader.value(&HTTP2_MAX_CONCURRENT_STREAMS),
        most: (most > 0).then_some(u64::from(most)),
        most_per_client: (most_per_client > 0).then_some(most_per_client),
    }
}
