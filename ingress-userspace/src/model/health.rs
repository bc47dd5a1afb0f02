//! Active checks of a backend's endpoints.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::upstream::Upstream;

/// How the endpoints of a backend are checked. One that fails takes no requests, unless all do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub question: Question,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Failures in a row that make an endpoint unhealthy; at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy again; at least 1.
    pub healthy_threshold: u32,
    /// How the endpoints are spoken to.
    pub upstream: Upstream,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// This path, by GET. An answer below 400 is a success.
    Get(String),
    /// `grpc.health.v1.Health/Check` about this service, or about the server if it is empty. `SERVING` is a success.
    Grpc(String),
}
