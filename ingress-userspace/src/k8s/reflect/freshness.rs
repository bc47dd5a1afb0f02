//! Whether what is known of the cluster is followed, or only what was known when the API server went away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Watches that do not work, by the order in which they were started, each with the time since when.
#[derive(Clone, Debug, Default)]
pub struct Freshness(Arc<Mutex<BTreeMap<usize, Instant>>>);

impl Freshness {
    /// For how long something has not been followed; `None` while all is.
    pub fn stale_for(&self) -> Option<Duration> {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.values().min().map(Instant::elapsed)
    }

    /// The watch does not work.
    pub(super) fn lose(&self, watch: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(watch).or_insert_with(Instant::now);
    }

    /// The watch works.
    pub(super) fn regain(&self, watch: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&watch);
    }
}
