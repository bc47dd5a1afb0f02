//! How many requests of a client are in flight: one count per limit and client, shared by all workers.
//!
//! A fixed table of atomics, without a lock. A count and the hash that it belongs to share one word, so that a place which
//! is free for a moment cannot be counted for two clients. A client may, by a race, hold two places: they are added up,
//! so that the limit is never exceeded.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::buckets::Buckets;

/// Words of the table, made when the first request is counted.
const SLOTS: usize = 64 * 1024;
/// Words that one client may be in, from where its hash points.
const WINDOW: usize = 64;
/// Low bits of a word: the count. The others are the hash.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// State of the limits per client.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Of rates.
    pub buckets: Arc<Buckets>,
    /// Of requests in flight.
    pub in_flight: Arc<InFlight>,
}

/// All counts of a process.
#[derive(Debug, Default)]
pub struct InFlight {
    keys: RandomState,
    slots: OnceLock<Box<[AtomicU64]>>,
}

/// A place in a limit; free again when it is dropped.
#[derive(Debug)]
pub struct Held {
    table: Arc<InFlight>,
    slot: usize,
}

impl InFlight {
    /// A place for one more request of `client`; `None` when it has `most` already.
    pub fn enter(self: &Arc<Self>, identity: &str, client: impl Hash, most: u32) -> Option<Held> {
        let hash = self.keys.hash_one((identity, client));
        let first = usize::try_from(hash % SLOTS as u64).unwrap_or_default();
        let tag = (hash >> COUNT_BITS).max(1);
        let most = u64::from(most).min(COUNT_MASK);
        let slots = self.slots.get_or_init(|| (0..SLOTS + WINDOW).map(|_| AtomicU64::new(0)).collect());
        let window = slots.get(first..first + WINDOW)?;
        if sum(window, tag) >= most {
            return None;
        }
        // As in nginx a table without room for a newcomer refuses it.
        let at = claim(window, tag)?;
        let held = Held { table: Arc::clone(self), slot: first + at };
        // Others may have come in between; then this one leaves again.
        (sum(window, tag) <= most).then_some(held)
    }

    fn leave(&self, slot: usize) {
        let Some(slot) = self.slots.get().and_then(|slots| slots.get(slot)) else { return };
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let next = if seen & COUNT_MASK <= 1 { 0 } else { seen - 1 };
            match slot.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => seen = current,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.table.leave(self.slot);
    }
}

fn sum(window: &[AtomicU64], tag: u64) -> u64 {
    let words = window.iter().map(|slot| slot.load(Ordering::SeqCst));
    words.filter(|word| word >> COUNT_BITS == tag).map(|word| word & COUNT_MASK).sum()
}

/// Counts one in the place of this tag, else in the first free one.
fn claim(window: &[AtomicU64], tag: u64) -> Option<usize> {
    loop {
        let words = || window.iter().map(|slot| slot.load(Ordering::SeqCst)).enumerate();
        let own = words().find(|(_, word)| word >> COUNT_BITS == tag && word & COUNT_MASK < COUNT_MASK);
        let (at, seen) = own.or_else(|| words().find(|(_, word)| *word == 0))?;
        let next = if seen == 0 { tag << COUNT_BITS | 1 } else { seen + 1 };
        let slot = window.get(at)?;
        if slot.compare_exchange(seen, next, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn places_are_counted_per_limit_and_client_and_come_back() {
        let table = Arc::new(InFlight::default());
        let first = table.enter("a", 1, 2).unwrap();
        let second = table.enter("a", 1, 2).unwrap();
        assert!(table.enter("a", 1, 2).is_none());
        let others = (table.enter("a", 2, 2).unwrap(), table.enter("b", 1, 2).unwrap());
        drop(first);
        let third = table.enter("a", 1, 2).unwrap();
        assert!(table.enter("a", 1, 2).is_none());
        drop((second, third, others));
        let words = table.slots.get().unwrap();
        assert!(words.iter().all(|word| word.load(Ordering::SeqCst) == 0));
    }

    #[test]
    fn workers_that_race_never_exceed_the_limit() {
        let table = Arc::new(InFlight::default());
        let (now, highest) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(held) = table.enter("x", 1, 3) {
                            highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            now.fetch_sub(1, Ordering::SeqCst);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&highest.into_inner()));
        assert!(table.enter("x", 1, 1).is_some());
    }
}
