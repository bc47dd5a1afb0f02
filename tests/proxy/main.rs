//! Tier `proxy`: a proxy in this process, scripted backends, real sockets on loopback. No root.

mod filters;
mod gate;
mod headers;
mod lifecycle;
mod routing;
mod telemetry;
mod tls;
mod upstream;
mod websocket;
