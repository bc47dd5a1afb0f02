//! What operators see: the access log, the process log, metrics.
//!
//! Nothing here runs on the request path beyond adding to counters and appending to a buffer that belongs to the worker.

pub mod access_log;
pub mod drops;
pub mod labels;
pub mod logging;
pub mod metrics;
pub mod shard;
