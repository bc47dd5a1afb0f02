//! Stage 6: desired kernel state → the kernel. The only module that knows aya.

pub mod interfaces;
pub mod netlink;
pub mod object;
pub mod routes;
