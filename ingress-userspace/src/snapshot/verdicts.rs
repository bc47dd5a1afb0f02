//! Verdicts of authentication services that are kept for a while, shared by all workers, kept across snapshots.
//!
//! The table is bounded in entries and in bytes per entry; what is asked for least goes first. A look takes the lock of one
//! of many shards for the time of a hash lookup, never across an await: the alternative, a table per worker, would ask the
//! service once per worker and keep a revoked login as many times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

/// Verdicts of a process.
const MOST: usize = 16 * 1024;
/// Bytes of the headers of one verdict.
const LARGEST: usize = 8 * 1024;

/// A verdict.
#[derive(Debug)]
pub struct Verdict {
    /// Status of the service's answer.
    pub status: StatusCode,
    /// Those of its headers that count.
    pub headers: HeaderMap,
    /// Request headers that the answer depends on (`Vary`), with what they were.
    varies: Vec<(HeaderName, Option<HeaderValue>)>,
    until: Instant,
}

/// What tells requests apart: a digest, since keys hold credentials.
pub type Key = [u8; 32];

/// All verdicts.
#[derive(Debug)]
pub struct Verdicts(Cache<Key, Arc<Verdict>>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Verdicts {
    /// The verdict for a request with these headers, if one is kept.
    pub fn find(&self, key: &Key, request: &HeaderMap) -> Option<Arc<Verdict>> {
        let verdict = self.0.get(key)?;
        let is_same = verdict.varies.iter().all(|(name, value)| request.get(name) == value.as_ref());
        (verdict.until > Instant::now() && is_same).then_some(verdict)
    }

    /// Keeps the verdict of an answer, if it may be kept; `headers` are those of it that count.
    pub fn keep(&self, key: Key, answer: &Answered<'_>, time: Duration, headers: HeaderMap) {
        let Some(time) = answer.time(time) else { return };
        let Some(varies) = answer.varies() else { return };
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let Some(until) = Instant::now().checked_add(time).filter(|_| bytes <= LARGEST) else { return };
        self.0.insert(key, Arc::new(Verdict { status: answer.status, headers, varies, until }));
    }
}

/// An answer, as far as it says whether it may be kept.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The headers of the request that it answers.
    pub request: &'a HeaderMap,
}

impl Answered<'_> {
    /// How long it may be kept, as nginx's `proxy_cache` decides: never with cookies, by `Cache-Control` or `Expires` if the
    /// service says something, else as configured.
    fn time(&self, configured: Duration) -> Option<Duration> {
        if self.headers.contains_key(http::header::SET_COOKIE) {
            return None;
        }
        let lines = self.headers.get_all(http::header::CACHE_CONTROL);
        let directives: Vec<String> = lines
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(|directive| directive.trim().to_ascii_lowercase())
            .collect();
        if directives
            .iter()
            .any(|directive| ["no-cache", "no-store", "private"].contains(&directive.as_str()))
        {
            return None;
        }
        let seconds = |name: &str| {
            let found =
                directives.iter().find_map(|directive| directive.strip_prefix(name)?.strip_prefix('='));
            found.map(|seconds| seconds.trim_matches('"').parse::<u64>().unwrap_or(0))
        };
        match seconds("s-maxage").or_else(|| seconds("max-age")) {
            Some(0) => return None,
            Some(seconds) => return Some(Duration::from_secs(seconds)),
            None => {}
        }
        // A service that dates its answers means a moment that we would have to trust its clock for.
        let is_dated = self.headers.contains_key(http::header::EXPIRES);
        (!is_dated && !configured.is_zero()).then_some(configured)
    }

    /// What it depends on; `None`: on more than can be told.
    fn varies(&self) -> Option<Vec<(HeaderName, Option<HeaderValue>)>> {
        let mut varies = Vec::new();
        let lines = self.headers.get_all(http::header::VARY);
        for name in lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')) {
            // `*` would be a name, too.
            let name: HeaderName = Some(name.trim()).filter(|name| *name != "*")?.parse().ok()?;
            if self.request.get_all(&name).iter().nth(1).is_some() {
                return None;
            }
            let value = self.request.get(&name).cloned();
            varies.push((name, value));
        }
        Some(varies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_the_service_forbids_is_not_kept() {
        let minute = Duration::from_secs(60);
        for (answer, expected) in [
            (vec![], Some(60)),
            (vec![("set-cookie", "a=b")], None),
            (vec![("cache-control", "No-Store")], None),
            (vec![("cache-control", "max-age=5, private")], None),
            (vec![("cache-control", "max-age=5")], Some(5)),
            (vec![("cache-control", "max-age=5, s-maxage=7")], Some(7)),
            (vec![("cache-control", "max-age=0")], None),
            (vec![("cache-control", "max-age=x")], None),
            (vec![("expires", "0")], None),
            (vec![("cache-control", "public")], Some(60)),
        ] {
            let headers = map(&answer);
            let answered = Answered { status: StatusCode::OK, headers: &headers, request: &HeaderMap::new() };
            assert_eq!(answered.time(minute), expected.map(Duration::from_secs), "{answer:?}");
        }
    }

    #[test]
    fn a_verdict_holds_for_what_it_varies_by() {
        let verdicts = Verdicts::default();
        let (headers, request) = (map(&[("vary", "Origin")]), map(&[("origin", "https://a")]));
        let answered = Answered { status: StatusCode::OK, headers: &headers, request: &request };
        verdicts.keep([1; 32], &answered, Duration::from_secs(60), HeaderMap::new());
        assert!(verdicts.find(&[1; 32], &request).is_some());
        assert!(verdicts.find(&[1; 32], &map(&[("origin", "https://b")])).is_none());
        assert!(verdicts.find(&[2; 32], &request).is_none());
        let everything = map(&[("vary", "*")]);
        let answered = Answered { status: StatusCode::OK, headers: &everything, request: &request };
        verdicts.keep([3; 32], &answered, Duration::from_secs(60), HeaderMap::new());
        assert!(verdicts.find(&[3; 32], &request).is_none());
    }
}
