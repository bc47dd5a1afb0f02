//! Pure choices of an endpoint, one file per algorithm.

pub mod round_robin;
