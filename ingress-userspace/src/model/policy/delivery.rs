//! How a route gives its requests to endpoints: which one, which ones after a failure, and over which connections.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::backend::BackendId;
use crate::model::template::Template;

/// All of it. The default is what happens without any setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which endpoint.
    pub balance: Balance,
    /// Sessions that stay with their endpoint. Goes before `balance`.
    pub affinity: Option<Affinity>,
    /// Another backend that takes a part of the requests.
    pub canary: Option<Canary>,
    /// When another endpoint is asked.
    pub retry: Retry,
    /// Idle connections.
    pub keepalive: Keepalive,
}

/// Which endpoint of a backend takes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// How it is chosen.
    pub algorithm: Algorithm,
    /// How long an endpoint that appears takes less than its share.
    pub slow_start: Option<Duration>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// In turn.
    #[default]
    RoundRobin,
    /// The better of two by recent latency and requests in flight.
    PeakEwma,
    /// The same text, the same endpoint.
    Hash {
        /// Text of a request.
        key: Template,
        /// The text chooses a group of that many endpoints, and each request any of them. At least 1.
        group: u32,
    },
}

/// Sessions by cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// How a session finds its endpoint.
    pub mode: AffinityMode,
    /// Whether a session moves for good when its endpoint fails; else it is tried again.
    pub moves_on_failure: bool,
    /// The cookie that names the session.
    pub cookie: SessionCookie,
}

/// How a session finds its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AffinityMode {
    /// By hashing: when endpoints come or go, some sessions move.
    #[default]
    Balanced,
    /// It stays with its endpoint until that is gone.
    Persistent,
}

/// The attributes of a session's cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCookie {
    /// Its name.
    pub name: String,
    /// `Max-Age`.
    pub max_age: Option<i64>,
    /// `Expires`, as seconds from now.
    pub expires: Option<i64>,
    /// `Path`.
    pub path: String,
    /// `Domain`.
    pub domain: Option<String>,
    /// `Secure`; `None`: when the client came by HTTPS.
    pub secure: Option<bool>,
    /// `SameSite`.
    pub same_site: Option<SameSite>,
    /// Browsers that misread `SameSite=None` get none.
    pub is_none_conditional: bool,
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the attribute's values")]
pub enum SameSite {
    None,
    Lax,
    Strict,
}

/// Another backend that takes a part of the requests. The header decides before the cookie, the cookie before the weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Which.
    pub backend: BackendId,
    /// How its endpoints are chosen.
    pub balance: Balance,
    /// Sessions of the canary.
    pub affinity: Option<Affinity>,
    /// Sessions stay on the side that they were given to, whatever the rules say.
    pub is_sticky: bool,
    /// By a header.
    pub header: Option<CanaryHeader>,
    /// By a cookie of this name: `always` or `never`.
    pub cookie: Option<String>,
    /// Its share of the rest.
    pub weight: u32,
    /// What `weight` is a share of; at least 1.
    pub weight_total: u32,
}

/// How a header chooses the canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryHeader {
    /// Its name, lower case.
    pub name: String,
    /// What it must say.
    pub rule: CanaryRule,
}

/// What a header says to choose the canary; else the next rule decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CanaryRule {
    /// `always`, and `never` for the main backend.
    Switch,
    /// Exactly this.
    Value(String),
    /// What this expression finds something in.
    Pattern(String),
    /// The expression cannot be used: requests with the header go to the main backend.
    Main,
}

/// When another endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// After which failures.
    pub on: RetryOn,
    /// Attempts of one request, the first included; 0: no limit.
    pub tries: u32,
    /// No further attempt begins after this time.
    pub timeout: Option<Duration>,
    /// Retries per hundred requests that a backend may see in the long run; 0: no limit.
    pub budget_percent: u32,
}

/// After which failures another endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryOn {
    /// No connection, or it broke.
    pub error: bool,
    /// No answer in time.
    pub timeout: bool,
    /// The answer is not HTTP.
    pub invalid_header: bool,
    /// Also requests whose repetition may change something.
    pub non_idempotent: bool,
    /// Answers with one of these, in order.
    pub statuses: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { on: RetryOn::default(), tries: 3, timeout: None, budget_percent: 200 }
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { error: true, timeout: true, ..Self::never() }
    }
}

impl RetryOn {
    /// After none.
    pub fn never() -> Self {
        Self {
            error: false,
            timeout: false,
            invalid_header: false,
            non_idempotent: false,
            statuses: Vec::new(),
        }
    }
}

/// Idle connections to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// Of a worker, to all endpoints.
    pub connections: u32,
    /// Of a worker, to one endpoint; 0: each connection carries one request.
    pub per_endpoint: u32,
    /// How long one may be idle.
    pub timeout: Duration,
    /// Requests that one may carry.
    pub requests: u32,
    /// How long one may be used.
    pub time: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            connections: 320,
            per_endpoint: 320,
            timeout: Duration::from_secs(60),
            requests: 10_000,
            time: Duration::from_secs(3600),
        }
    }
}
