//! How a route gives its requests to endpoints, ready to be asked per request.

use http::header::HeaderName;
use regex::bytes::Regex;

use super::Target;
use crate::model::policy::delivery::{Affinity, Balance, Keepalive, Retry};

/// All of it.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Which endpoint.
    pub balance: Balance,
    /// Sessions that stay with their endpoint.
    pub affinity: Option<Affinity>,
    /// Another backend that takes a part of the requests.
    pub canary: Option<Box<Canary>>,
    /// When another endpoint is asked.
    pub retry: Retry,
    /// Idle connections.
    pub keepalive: Keepalive,
}

/// Another backend that takes a part of the requests.
#[derive(Debug)]
pub struct Canary {
    /// Which.
    pub target: Target,
    /// How its endpoints are chosen.
    pub balance: Balance,
    /// Sessions of the canary.
    pub affinity: Option<Affinity>,
    /// Sessions stay on the side that they were given to.
    pub is_sticky: bool,
    /// By a header, which clients may write with `-` or, where such names are let in, with `_`.
    pub header: Option<([HeaderName; 2], Rule)>,
    /// By a cookie of this name.
    pub cookie: Option<String>,
    /// Its share of the rest.
    pub weight: u32,
    /// What `weight` is a share of; at least 1.
    pub weight_total: u32,
}

/// What a header says to choose the canary.
#[derive(Debug)]
pub enum Rule {
    /// `always` or `never`.
    Switch,
    /// Exactly this.
    Value(String),
    /// What this expression finds something in.
    Pattern(Regex),
    /// The expression cannot be used: the header chooses the main backend.
    Main,
}
