//! How bodies pass through.

use serde::{Deserialize, Serialize};

/// Read the request's body whole before the backend is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBuffer {
    /// Bytes of it that are held in memory; what is more goes to a temporary file.
    pub memory: u64,
}

/// How the backend's response is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseBuffer {
    /// Read the body as fast as the backend sends it, unless the response says otherwise.
    pub is_on: bool,
    /// The largest head, in bytes.
    pub head: u64,
    /// Bytes of the body that wait for the client in memory.
    pub memory: u64,
    /// Bytes of the body that wait for the client in a temporary file.
    pub file: u64,
}

impl Default for ResponseBuffer {
    fn default() -> Self {
        Self { is_on: false, head: 4 << 10, memory: 16 << 10, file: 1 << 30 }
    }
}
