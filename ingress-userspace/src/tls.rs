//! Certificates by server name, and the server side of TLS.

pub mod ciphers;
pub mod client;
pub mod resolver;
pub mod self_signed;
pub mod server;
