//! Host and path → route.
//!
//! A host is one lookup (exact, then wildcard, then any), whatever the number of hosts. Within a host the model gives
//! an order of precedence; the first route that matches serves. Exact and prefix matches are found by lookup as well;
//! only text prefixes and regular expressions are walked through, and only those that stand before the best match so far.

use std::collections::HashMap;
use std::sync::Arc;

use regex::bytes::Regex;

use super::Route;

/// The hosts of one listener.
#[derive(Debug, Default)]
pub struct Router {
    /// Lower case, without port.
    pub exact: HashMap<Box<str>, Arc<HostRoutes>>,
    /// By the suffix after `*.`.
    pub wildcard: HashMap<Box<str>, Arc<HostRoutes>>,
    /// For all other names.
    pub any: Option<Arc<HostRoutes>>,
}

impl Router {
    /// The route of a request: its normal host (lower case, no port, no trailing dot) and its normal path.
    /// A host that is served does not fall back to a less specific one.
    pub fn route(&self, host: &str, path: &[u8]) -> Option<&Arc<Route>> {
        self.host(host)?.route(path)
    }

    /// Whether a rule names exactly this host.
    pub fn names(&self, host: &str) -> bool {
        self.exact.contains_key(host)
    }

    /// Whether there are rules for this name, and not only for all.
    pub fn has_rule(&self, host: &str) -> bool {
        self.named(host).is_some()
    }

    fn host(&self, host: &str) -> Option<&HostRoutes> {
        self.named(host).or(self.any.as_deref())
    }

    fn named(&self, host: &str) -> Option<&HostRoutes> {
        if let Some(routes) = self.exact.get(host) {
            return Some(routes);
        }
        if let Some((label, suffix)) = host.split_once('.')
            && !label.is_empty()
            && let Some(routes) = self.wildcard.get(suffix)
        {
            return Some(routes);
        }
        None
    }
}

/// The routes of one host.
#[derive(Debug, Default)]
pub struct HostRoutes {
    routes: Vec<Arc<Route>>,
    exact: HashMap<Box<[u8]>, usize>,
    prefix: HashMap<Box<[u8]>, usize>,
    longest_prefix: usize,
    scanned: Vec<(usize, Scanned)>,
}

/// A match that no lookup can find.
#[derive(Debug)]
enum Scanned {
    StartsWith(Box<[u8]>),
    Regex(Regex),
}

/// A compiled path match.
#[derive(Debug)]
pub enum PathMatcher {
    /// Equality.
    Exact(String),
    /// Per path element; without trailing slash, the root as the empty string.
    Prefix(String),
    /// Text prefix.
    StartsWith(String),
    /// Anchored at the start by its own text.
    Regex(Regex),
}

impl PathMatcher {
    /// Whether it takes a normal path.
    pub fn takes(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == path,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
            Self::StartsWith(text) => path.starts_with(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

impl HostRoutes {
    /// Adds a route behind all others. Of two equal matches the earlier stays.
    pub fn push(&mut self, matcher: PathMatcher, route: Arc<Route>) {
        let index = self.routes.len();
        self.routes.push(route);
        match matcher {
            PathMatcher::Exact(path) => {
                self.exact.entry(path.into_bytes().into()).or_insert(index);
            }
            PathMatcher::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                self.prefix.entry(path.into_bytes().into()).or_insert(index);
            }
            PathMatcher::StartsWith(text) => {
                self.scanned.push((index, Scanned::StartsWith(text.into_bytes().into())));
            }
            PathMatcher::Regex(regex) => self.scanned.push((index, Scanned::Regex(regex))),
        }
    }

    /// The first route that takes the path.
    pub fn route(&self, path: &[u8]) -> Option<&Arc<Route>> {
        let mut best = self.exact.get(path).copied().unwrap_or(usize::MAX);
        if !self.prefix.is_empty() {
            // Element boundaries: before each slash, and the end. Nothing is looked up that is longer than any entry,
            // so that a path of thousands of slashes costs no more than the longest prefix.
            let boundaries = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            for at in boundaries.chain([path.len()]).take_while(|at| *at <= self.longest_prefix) {
                if let Some(index) = path.get(..at).and_then(|head| self.prefix.get(head)) {
                    best = best.min(*index);
                }
            }
        }
        for (index, scanned) in self.scanned.iter().take_while(|(index, _)| *index < best) {
            let matches = match scanned {
                Scanned::StartsWith(text) => path.starts_with(text),
                Scanned::Regex(regex) => regex.is_match(path),
            };
            if matches {
                best = *index;
                break;
            }
        }
        self.routes.get(best)
    }
}

#[cfg(test)]
mod tests;
