//! Tier `proxy`: a proxy in this process, scripted backends, real sockets on loopback. No root.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

mod access_log;
mod admin;
mod affinity;
mod allow_list;
mod answer;
mod answer_rewrite;
mod auth_basic;
mod auth_cache;
mod auth_digest;
mod auth_external;
mod backend_protocol;
mod balance;
mod bandwidth;
mod block;
mod body_limit;
mod canary;
mod client_certificate;
mod compression;
mod connection_limit;
mod connections;
mod cors;
mod deny;
mod deny_list;
mod error_page;
mod explain;
mod external_name;
mod forwarded;
mod gate;
mod handover;
mod headers;
mod health_check;
mod keepalive;
mod lifecycle;
mod liveness;
mod mirror;
mod next_upstream;
mod oauth2_proxy;
mod order;
mod proxy_protocol;
mod proxy_ssl;
mod quota;
mod rate_limit;
mod redirect;
mod request_buffer;
mod response_buffer;
mod rewrite;
mod routing;
mod satisfy;
mod service_upstream;
mod shared_limits;
mod snippet;
mod stream;
mod stream_log;
mod telemetry;
mod tls;
mod trace;
mod upstream;
mod version_one;
mod websocket;
