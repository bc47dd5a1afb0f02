//! Trace context towards backends.

use serde::{Deserialize, Serialize};

/// A request without a trace context gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// What the client sent is kept; otherwise it is replaced.
    pub trusts_client: bool,
    /// Of a million fresh contexts so many say that their trace is recorded.
    pub recorded_per_million: u32,
}
