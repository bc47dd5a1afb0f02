//! The retry budget of a backend: a share of its requests, so that an outage does not multiply its own load.
//!
//! A request puts a share of a token in, a retry takes a whole one out. A full reserve is there from the start, so that
//! single failures are always retried.

use std::sync::atomic::{AtomicU32, Ordering};

/// A retry costs this; a request brings the configured percent.
const RETRY: u32 = 100;
/// Retries that are allowed in one go.
const RESERVE: u32 = 100 * RETRY;

/// How much was spent of a backend's reserve; shared by all workers.
#[derive(Debug, Default)]
pub struct Budget {
    spent: AtomicU32,
}

impl Budget {
    /// A request came.
    pub fn earn(&self, percent: u32) {
        // Almost always nothing is spent, and workers only read the same line.
        if self.spent.load(Ordering::Relaxed) > 0 {
            let paid = |spent: u32| Some(spent.saturating_sub(percent));
            let _ = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
        }
    }

    /// Whether a retry may begin; 0 percent is no limit.
    pub fn spend(&self, percent: u32) -> bool {
        let taken = |spent: u32| spent.checked_add(RETRY).filter(|spent| *spent <= RESERVE);
        percent == 0 || self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests_once_the_reserve_is_gone() {
        let budget = Budget::default();
        assert_eq!((0..1000).filter(|_| budget.spend(20)).count(), 100);
        (0..50).for_each(|_| budget.earn(20));
        assert_eq!((0..1000).filter(|_| budget.spend(20)).count(), 10);
        assert!((0..1000).all(|_| budget.spend(0)));
    }

    #[test]
    fn the_default_covers_three_tries_of_every_request() {
        let budget = Budget::default();
        for _ in 0..10_000 {
            budget.earn(200);
            assert!(budget.spend(200) && budget.spend(200));
        }
    }
}
