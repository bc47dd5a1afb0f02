//! Sockets: bind them, hand them over, accept from them.

pub mod accept;
pub mod bind;
