//! The state of rate limits: one bucket per limit and client, shared by all workers, kept across snapshots.
//!
//! A fixed table of atomics in sets of eight: it cannot grow under attack and takes no lock. A client that finds its set
//! full of busy buckets takes the place of the one that is nearest to empty, so that overflow forgets the least. Keys
//! are keyed hashes, which clients cannot aim at each other. The arithmetic is the kernel's (`ingress_common::bucket`).

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use ingress_common::bucket::{capped, charge};
use ingress_common::maps::Limit;

/// Buckets per set.
const WAYS: usize = 8;
/// Sets; 64 Ki buckets of 16 bytes, made when the first client is counted.
const SETS: usize = 8192;

/// All buckets of a process.
#[derive(Debug)]
pub struct Buckets {
    keys: RandomState,
    slots: OnceLock<Box<[[Slot; WAYS]]>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Hash of limit and client, 0 when free.
    key: AtomicU64,
    /// When the bucket is empty again, nanoseconds of [`now`].
    empty_at: AtomicU64,
}

/// Nanoseconds on a monotonic clock that began before the process looked at it first.
pub fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new()
    }
}

impl Buckets {
    /// An empty table.
    pub fn new() -> Self {
        Self { keys: RandomState::new(), slots: OnceLock::new() }
    }

    /// Takes one token from the bucket of `client` in the set of buckets `identity`; false when it has none left.
    pub fn admit(&self, identity: &(impl Hash + ?Sized), client: impl Hash, limit: &Limit, now: u64) -> bool {
        let Some(slot) = self.slot(self.keys.hash_one((HashRef(identity), client)), now) else { return true };
        take(slot, limit, now).is_some()
    }

    /// Takes one token from a bucket of each of `limits`, or from none; the buckets are told apart by `rate_ns`. Says how
    /// the tightest one stands.
    pub fn take(
        &self,
        identity: &str,
        client: impl Hash,
        limits: &[Limit],
        now: u64,
    ) -> Result<Level, Level> {
        let hash = self.keys.hash_one((identity, client));
        let slots = || limits.iter().filter_map(|limit| Some((self.slot(hash ^ spread(limit), now)?, limit)));
        let level =
            |limit: &Limit, empty_at: u64| Level { limit: *limit, backlog_ns: empty_at.saturating_sub(now) };
        let full = slots().filter_map(|(slot, limit)| {
            let empty_at = slot.empty_at.load(Ordering::Relaxed);
            charge(empty_at, now, limit).is_none().then(|| level(limit, empty_at))
        });
        if let Some(longest) = full.max_by_key(Level::wait_ns) {
            return Err(longest);
        }
        let mut tightest: Option<Level> = None;
        for (taken, (slot, limit)) in slots().enumerate() {
            let Some(empty_at) = take(slot, limit, now) else {
                // Another worker took the last token in between.
                slots().take(taken).for_each(|(slot, limit)| give_back(slot, limit));
                return Err(level(limit, slot.empty_at.load(Ordering::Relaxed)));
            };
            let found = level(limit, empty_at);
            if tightest.is_none_or(|known| found.remaining() < known.remaining()) {
                tightest = Some(found);
            }
        }
        Ok(tightest.unwrap_or(Level { limit: Limit { rate_ns: 1, ..Limit::default() }, backlog_ns: 0 }))
    }

    /// Whether the bucket of `client` is not empty yet. Takes nothing.
    pub fn is_busy(&self, identity: &str, client: impl Hash, now: u64) -> bool {
        let hash = self.keys.hash_one((identity, client)).max(1);
        let set = usize::try_from(hash % SETS as u64).unwrap_or_default();
        let slots = self.slots.get().and_then(|sets| sets.get(set)).into_iter().flatten();
        slots
            .filter(|slot| slot.key.load(Ordering::Relaxed) == hash)
            .any(|slot| slot.empty_at.load(Ordering::Relaxed) > now)
    }

    /// Fills the bucket of `client`, so that it is empty no sooner than `empty_at`.
    pub fn fill(&self, identity: &str, client: impl Hash, empty_at: u64, now: u64) {
        if let Some(slot) = self.slot(self.keys.hash_one((identity, client)), now) {
            slot.empty_at.fetch_max(empty_at, Ordering::Relaxed);
        }
    }

    /// How many are not empty yet. Looks at all of them.
    pub fn busy(&self, now: u64) -> usize {
        let slots = self.slots.get().into_iter().flatten().flatten();
        slots.filter(|slot| slot.empty_at.load(Ordering::Relaxed) > now).count()
    }

    /// Fills the bucket of `client` for one of its limits, so that it is empty no sooner than `empty_at`.
    pub fn raise(&self, identity: &str, client: impl Hash, limit: &Limit, empty_at: u64) {
        let hash = self.keys.hash_one((identity, client)) ^ spread(limit);
        if let Some(slot) = self.slot(hash, now()) {
            slot.empty_at.fetch_max(empty_at, Ordering::Relaxed);
        }
    }

    fn slot(&self, hash: u64, now: u64) -> Option<&Slot> {
        // The low bits choose the set; 0 means free.
        let set = usize::try_from(hash % SETS as u64).unwrap_or_default();
        let slots = self.slots.get_or_init(|| (0..SETS).map(|_| Default::default()).collect());
        slots.get(set).map(|set| find(set, hash.max(1), now))
    }
}

/// How a bucket stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Of which limit.
    pub limit: Limit,
    /// Until it is empty.
    pub backlog_ns: u64,
}

impl Level {
    /// Requests that would still be admitted now.
    pub fn remaining(&self) -> u64 {
        let room = self.limit.burst_ns.checked_sub(self.backlog_ns);
        room.map_or(0, |room| room.checked_div(self.limit.rate_ns).unwrap_or_default().saturating_add(1))
    }

    /// Until the next request would be admitted.
    pub fn wait_ns(&self) -> u64 {
        self.backlog_ns.saturating_sub(self.limit.burst_ns)
    }
}

/// Tells the buckets of one client apart: each rate in another set.
fn spread(limit: &Limit) -> u64 {
    limit.rate_ns.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The new state, if there was a token.
fn take(slot: &Slot, limit: &Limit, now: u64) -> Option<u64> {
    let mut seen = slot.empty_at.load(Ordering::Relaxed);
    loop {
        let Some(next) = charge(seen, now, limit) else {
            if let Some(capped) = capped(seen, now, limit) {
                // Of a slower limit. Lost to another worker: it has put it right itself.
                let _ = slot.empty_at.compare_exchange(seen, capped, Ordering::Relaxed, Ordering::Relaxed);
            }
            return None;
        };
        match slot.empty_at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(next),
            Err(current) => seen = current,
        }
    }
}

fn give_back(slot: &Slot, limit: &Limit) {
    // Relative, so that charges of other workers in between stay.
    slot.empty_at.fetch_sub(limit.rate_ns, Ordering::Relaxed);
}

struct HashRef<'a, T: ?Sized>(&'a T);

impl<T: Hash + ?Sized> Hash for HashRef<'_, T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

fn find(set: &[Slot; WAYS], key: u64, now: u64) -> &Slot {
    let [first, rest @ ..] = set;
    loop {
        if let Some(slot) = set.iter().find(|slot| slot.key.load(Ordering::Relaxed) == key) {
            return slot;
        }
        let mut oldest = (first, first.empty_at.load(Ordering::Relaxed));
        for slot in rest {
            let empty_at = slot.empty_at.load(Ordering::Relaxed);
            if empty_at < oldest.1 {
                oldest = (slot, empty_at);
            }
        }
        let (slot, empty_at) = oldest;
        let before = slot.key.load(Ordering::Relaxed);
        if slot.key.compare_exchange(before, key, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            if empty_at > now {
                // A busy bucket of another client: its state must not count against this one. A charge of this client
                // that another worker made in between wins over the reset.
                let _ = slot.empty_at.compare_exchange(empty_at, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
            return slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(per_second: u64, burst: u64) -> Limit {
        Limit { rate_ns: SECOND / per_second, burst_ns: burst * SECOND / per_second, ..Limit::default() }
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([198, 18, 0, last])
    }

    #[test]
    fn clients_and_limits_have_buckets_of_their_own() {
        let buckets = Buckets::new();
        let limit = limit(1, 2);
        let admitted = |identity: &str, last| {
            (0..10).filter(|_| buckets.admit(identity, client(last), &limit, SECOND)).count()
        };
        assert_eq!(admitted("a/web", 1), 3);
        assert_eq!(admitted("a/web", 2), 3);
        assert_eq!(admitted("a/api", 1), 3);
        assert_eq!(admitted("a/web", 1), 0);
        assert!(buckets.admit("a/web", client(1), &limit, 2 * SECOND + 1));
    }

    #[test]
    fn a_request_over_one_limit_is_charged_to_none() {
        let buckets = Buckets::new();
        // One per second, one more at once; and six per minute, two more at once.
        let limits = [limit(1, 1), Limit { rate_ns: 10 * SECOND, burst_ns: 20 * SECOND, ..Limit::default() }];
        let take = |now| buckets.take("x", client(1), &limits, now);
        assert_eq!(take(SECOND).map(|level| level.remaining()), Ok(1));
        assert_eq!(take(SECOND).map(|level| level.remaining()), Ok(0));
        for _ in 0..10 {
            assert_eq!(take(SECOND).map_err(|level| level.wait_ns()), Err(SECOND));
        }
        assert!(take(2 * SECOND).is_ok(), "the slow limit was not charged for what the fast one refused");
        let waits = take(3 * SECOND).map_err(|level| (level.limit.rate_ns, level.wait_ns()));
        assert_eq!(waits, Err((10 * SECOND, 8 * SECOND)));
    }

    #[test]
    fn workers_that_race_spend_no_token_twice() {
        let buckets = Buckets::new();
        let limit = limit(1, 99);
        let admitted = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope
                        .spawn(|| (0..1000).filter(|_| buckets.admit("x", client(1), &limit, SECOND)).count())
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
        });
        assert_eq!(admitted, 100);
    }

    #[test]
    fn a_full_table_forgets_and_never_refuses_a_newcomer() {
        let buckets = Buckets::new();
        let limit = limit(1, 0);
        for number in 0..200_000_u32 {
            assert!(buckets.admit("x", IpAddr::from(number.to_be_bytes()), &limit, SECOND), "{number}");
        }
    }
}
