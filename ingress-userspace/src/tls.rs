//! Certificates by server name, and the server side of TLS.

pub mod ciphers;
pub mod client;
pub mod client_certificate;
pub mod direct;
pub mod identity;
pub mod resolver;
pub mod self_signed;
pub mod server;
pub mod subject;
pub mod version_one;
