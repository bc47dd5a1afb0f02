//! Sockets: bind them, hand them over, accept from them.

pub mod accept;
pub mod bind;
pub mod client_hello;
pub mod peek;
pub mod proxy_protocol;
