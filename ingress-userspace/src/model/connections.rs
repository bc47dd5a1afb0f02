//! What a client's connection may hold and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of the connections of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How long a connection may wait for its next request; zero: it ends after each.
    pub idle: Duration,
    /// Requests that an HTTP/1 connection may carry.
    pub requests: u64,
    /// From the first byte of a request's head to its last.
    pub head_time: Duration,
    /// Size of heads.
    pub head: HeadLimits,
    /// Requests in flight on an HTTP/2 connection.
    pub streams: u32,
    /// Open connections of one worker; more are closed at once.
    pub most: Option<u64>,
    /// Open connections of one client, over all workers; more are closed at once.
    pub most_per_client: Option<u32>,
}

/// How large the head of a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadLimits {
    /// Bytes of the request line, and of each header line.
    pub line: usize,
    /// Bytes of all header lines.
    pub all: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(75),
            requests: 1000,
            head_time: Duration::from_secs(60),
            head: HeadLimits::default(),
            streams: 128,
            most: Some(16_384),
            most_per_client: None,
        }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { line: 8 * 1024, all: 32 * 1024 }
    }
}
