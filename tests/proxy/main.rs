//! Tier `proxy`: a proxy in this process, scripted backends, real sockets on loopback. No root.

mod routing;
