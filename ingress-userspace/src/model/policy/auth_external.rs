//! A service that is asked about every request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::Condition;
use crate::model::template::Template;
use crate::model::url::Url;

/// A sub-request decides: 2xx lets the request pass, 401 and 403 are its answer, everything else is 500.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthExternal {
    /// Who decides.
    pub url: Url,
    /// Method of the sub-request when one was asked for: then the service also learns URI and scheme of the request.
    pub method: Option<String>,
    /// Where a client goes that has to sign in, instead of 401; complete, with the way back.
    pub signin: Option<Template>,
    /// What the service is told about the way back; `None`: the request's URI.
    pub request_redirect: Option<Template>,
    /// Headers of the answer that go to the backend, lower case; absent in the answer means removed.
    pub response_headers: Vec<String>,
    /// Headers of the answer that other settings of the route quote, lower case.
    pub quoted_headers: Vec<String>,
    /// Further headers of the sub-request.
    pub request_headers: Vec<(String, Template)>,
    /// Whether verdicts are kept for a while.
    pub cache: Option<AuthCache>,
    /// Cookies of the answer go to the client whatever the status; else only with those that nginx adds headers to.
    pub sets_cookies_always: bool,
    /// Verdicts for which nobody is asked: the first whose conditions hold.
    pub stated: Vec<StatedVerdict>,
}

/// A verdict that depends on the request alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedVerdict {
    /// All of them; none: always.
    pub conditions: Vec<Condition>,
    /// As if the service had answered with this status, without any header.
    pub status: u16,
}

/// How long verdicts are kept, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthCache {
    /// Requests that share a verdict have the same text here, beside the rule's host and path, method and credentials.
    pub key: Template,
    /// The first that names a status gives its time.
    pub durations: Vec<CacheDuration>,
}

/// The time for some statuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDuration {
    /// Which; empty: all.
    pub statuses: Vec<u16>,
    /// How long.
    pub time: Duration,
}

impl CacheDuration {
    /// Whether it is about this status.
    pub fn covers(&self, status: u16) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }
}

impl std::fmt::Display for AuthExternal {
    /// For the stable text form of the model.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            url,
            method,
            signin,
            request_redirect,
            response_headers,
            quoted_headers,
            request_headers,
            cache,
            sets_cookies_always,
            stated,
        } = self;
        write!(f, "{} {url}", method.as_deref().unwrap_or("asks"))?;
        if let Some(signin) = signin {
            write!(f, ", sign in at {signin}")?;
        }
        if let Some(redirect) = request_redirect {
            write!(f, ", redirect {redirect}")?;
        }
        if !response_headers.is_empty() {
            write!(f, ", headers to the backend {}", response_headers.join(" "))?;
        }
        if !quoted_headers.is_empty() {
            write!(f, ", quoted {}", quoted_headers.join(" "))?;
        }
        for (name, value) in request_headers {
            write!(f, ", with {name}: {value}")?;
        }
        if let Some(AuthCache { key, durations }) = cache {
            write!(f, ", kept by {key}")?;
            for CacheDuration { statuses, time } in durations {
                write!(f, " {statuses:?} {time:?}")?;
            }
        }
        for StatedVerdict { conditions, status } in stated {
            write!(f, ", {status} unasked")?;
            for Condition { subject, test } in conditions {
                write!(f, " where {subject} {test:?}")?;
            }
        }
        f.write_str(if *sets_cookies_always { ", cookies always" } else { "" })
    }
}
