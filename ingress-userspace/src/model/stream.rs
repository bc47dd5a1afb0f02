//! Connections and datagrams that go to a backend as they are: nothing of them is read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backend::BackendId;

/// Where a listener for TCP or UDP sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRoute {
    /// The backend.
    pub backend: BackendId,
    /// Clients begin with a PROXY header. TCP only.
    pub accepts_proxy_protocol: bool,
    /// Endpoints get a PROXY header. TCP only.
    pub sends_proxy_protocol: bool,
}

/// How connections and datagrams are carried, of all listeners for TCP and UDP and of TLS that is passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Until an endpoint has accepted a connection.
    pub connect: Duration,
    /// The longest silence of both sides.
    pub idle: Duration,
    /// Whether another endpoint is tried when one cannot be reached.
    pub tries_next: bool,
    /// How many are tried; 0: all.
    pub tries: u32,
    /// How long others are tried; zero: without limit.
    pub tries_within: Duration,
    /// Datagrams that answer one of the client's; with them, its session ends.
    pub responses: u32,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(600),
            tries_next: true,
            tries: 3,
            tries_within: Duration::from_secs(600),
            responses: 1,
        }
    }
}
