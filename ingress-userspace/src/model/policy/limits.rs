//! How much a client may ask for: rates, requests in flight, bandwidth.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::template::Template;

/// Leaky buckets per client, shared by all routes with the same `bucket` and by all workers of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Identity of the set of buckets, such as one per Ingress (`namespace/name`).
    pub bucket: String,
    /// All must pass; a request over one of them is charged to none.
    pub rates: Vec<Rate>,
    /// Who is counted.
    pub key: LimitKey,
    /// Sources that are not counted.
    pub exempt: Vec<IpNet>,
    /// Status of a refused request.
    pub status: u16,
    /// What clients are told about the limit.
    pub disclosure: Disclosure,
}

/// Requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// At least 1.
    pub requests: u32,
    /// In which so many may come.
    pub period: Duration,
    /// Requests above the rate that are let through at once: nginx's `burst`.
    pub burst: u32,
}

/// What tells one client from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitKey {
    /// Its text is the key.
    pub template: Template,
    /// A variable without value stands for the address of the client. Otherwise a request with an empty key is not counted.
    pub falls_back: bool,
}

/// What clients are told about a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disclosure {
    /// Nothing but the status.
    Nothing,
    /// `Retry-After` when they are refused.
    RetryAfter,
    /// That, and `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` on every answer.
    All,
}

/// Requests in flight per client, shared by all routes with the same `bucket` and by all workers of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionLimit {
    /// Identity of the set of counts.
    pub bucket: String,
    /// At least 1.
    pub most: u32,
    /// Who is counted.
    pub key: LimitKey,
    /// Sources that are not counted.
    pub exempt: Vec<IpNet>,
    /// Status of a refused request.
    pub status: u16,
}

/// How fast a response may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// At least 1.
    pub bytes_per_second: u64,
    /// So much of a response goes out as fast as it can.
    pub after: u64,
}

impl LimitKey {
    /// Each address on its own.
    pub fn address() -> Self {
        use crate::model::template::{Part, Variable};
        Self { template: Template(vec![Part::Variable(Variable::RemoteAddr)]), falls_back: false }
    }

    /// Whether it is the client's address and nothing else.
    pub fn is_address(&self) -> bool {
        use crate::model::template::{Part, Variable};
        matches!(
            self.template.0.as_slice(),
            [Part::Variable(Variable::RemoteAddr | Variable::BinaryRemoteAddr)]
        )
    }
}
