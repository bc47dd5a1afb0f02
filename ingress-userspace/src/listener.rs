//! Sockets: bind, hand over, accept.
