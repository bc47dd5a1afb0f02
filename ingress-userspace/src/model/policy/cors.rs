//! Cross-origin requests.

use serde::{Deserialize, Serialize};

/// Answers preflight requests and tells browsers which origins may read the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Whose requests.
    pub origins: Origins,
    /// `Access-Control-Allow-Methods`.
    pub methods: String,
    /// `Access-Control-Allow-Headers`.
    pub headers: String,
    /// `Access-Control-Expose-Headers`.
    pub exposed: Option<String>,
    /// `Access-Control-Allow-Credentials: true`.
    pub with_credentials: bool,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: i64,
}

/// Origins of scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origins {
    /// Everybody's, with or without an `Origin`.
    Any,
    /// These; an empty list is nobody's.
    List(Vec<OriginPattern>),
}

/// `scheme://*.name:port`, without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OriginPattern {
    /// What stands before the wildcard, or all of it.
    pub start: String,
    /// What stands behind it: then exactly one label stands between the two.
    pub end: Option<String>,
}
