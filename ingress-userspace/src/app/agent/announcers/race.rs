//! What a node knows of the Leases of pools, and what it should do next. No clock and no API server inside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::Seat;
use crate::k8s::pool_lease::DURATION;

/// Between two renewals.
pub(super) const RENEW: Duration = Duration::from_millis(500);
/// A holder that probes call down, and that did not renew for this long, is dead.
const DOWN: Duration = Duration::from_millis(1200);
/// After a write that failed.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// The Leases as this node sees them.
#[derive(Debug, Default)]
pub(super) struct Race {
    node: String,
    leases: BTreeMap<String, Seen>,
    /// Pools whose Lease this node holds, or held until it sees another holder.
    announced: BTreeSet<String>,
    /// When this node may write the Lease of a pool again.
    next: BTreeMap<String, Instant>,
}

/// A Lease, and when it last changed.
#[derive(Debug)]
struct Seen {
    lease: Lease,
    changed: Instant,
}

/// What to write.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// There is no Lease of this pool yet.
    Create(String),
    /// Take it, or renew it, on top of what was read.
    Hold(String, Lease),
    /// Leave it without a holder.
    Release(String, Lease),
}

impl Race {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), ..Self::default() }
    }

    /// Takes over what a watch says, which may come late: what is older than what is known says nothing.
    pub(super) fn hear(&mut self, pool: &str, lease: Lease, now: Instant) {
        if self.leases.get(pool).is_none_or(|seen| order(&lease) >= order(&seen.lease)) {
            self.note(pool, lease, now);
        }
    }

    /// Takes over what the API server answered.
    pub(super) fn note(&mut self, pool: &str, lease: Lease, now: Instant) {
        if let Some(seen) = self.leases.get_mut(pool) {
            if seen.lease.spec != lease.spec {
                seen.changed = now;
            }
            seen.lease = lease;
        } else {
            self.leases.insert(pool.to_owned(), Seen { lease, changed: now });
        }
        match self.holder(pool) {
            Some(holder) if holder == self.node => drop(self.announced.insert(pool.to_owned())),
            Some(_) => drop(self.announced.remove(pool)),
            None => {}
        }
    }

    /// The Lease is gone. Who held it makes it again.
    pub(super) fn forget(&mut self, pool: &str) {
        self.leases.remove(pool);
    }

    /// Only these Leases are there.
    pub(super) fn keep(&mut self, pools: &BTreeSet<String>) {
        self.leases.retain(|pool, _| pools.contains(pool));
    }

    /// The API server could not be asked: nobody could renew, so everybody gets the whole duration again.
    pub(super) fn was_away(&mut self, now: Instant) {
        for seen in self.leases.values_mut() {
            seen.changed = now;
        }
    }

    /// A write failed.
    pub(super) fn failed(&mut self, pool: &str, now: Instant) {
        self.next.insert(pool.to_owned(), now + TRY_AGAIN);
    }

    /// A write worked.
    pub(super) fn wrote(&mut self, pool: &str, at: Instant) {
        self.next.insert(pool.to_owned(), at + RENEW);
    }

    /// What this node announces.
    pub(super) fn announced(&self) -> &BTreeSet<String> {
        &self.announced
    }

    /// Who holds which Lease.
    pub(super) fn holders(&self) -> BTreeMap<String, String> {
        let held = self.leases.keys().filter_map(|pool| Some((pool.clone(), self.holder(pool)?.to_owned())));
        held.collect()
    }

    /// What is to be written now.
    pub(super) fn steps(&mut self, seats: &[Seat], down: &BTreeSet<String>, now: Instant) -> Vec<Step> {
        let may: BTreeSet<&String> =
            seats.iter().filter(|seat| seat.is_eligible).map(|seat| &seat.pool).collect();
        self.announced.retain(|pool| may.contains(pool));
        let due = |pool: &String| self.next.get(pool).is_none_or(|next| *next <= now);
        let mut steps = Vec::new();
        for seat in seats.iter().filter(|seat| seat.is_eligible && due(&seat.pool)) {
            let Some(Seen { lease, changed }) = self.leases.get(&seat.pool) else {
                steps.push(Step::Create(seat.pool.clone()));
                continue;
            };
            let still = now.duration_since(*changed);
            let is_free = match self.holder(&seat.pool) {
                Some(holder) if holder == self.node => true,
                Some(holder) => {
                    let is_dead = down.contains(holder) && still >= DOWN + seat.wait;
                    is_dead || still >= DURATION + seat.wait
                }
                None => still >= seat.wait,
            };
            if is_free {
                steps.push(Step::Hold(seat.pool.clone(), lease.clone()));
            }
        }
        let given_up = self.leases.iter().filter(|(pool, _)| !may.contains(*pool) && due(pool));
        let is_mine = |pool: &String| self.holder(pool) == Some(self.node.as_str());
        let given_up = given_up.filter(|(pool, _)| is_mine(pool));
        steps.extend(given_up.map(|(pool, seen)| Step::Release(pool.clone(), seen.lease.clone())));
        steps
    }

    fn holder(&self, pool: &str) -> Option<&str> {
        let spec = self.leases.get(pool)?.lease.spec.as_ref()?;
        spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }
}

/// Which of two states of a Lease came first. Where a clock went back this is wrong for a while: then reading tells.
fn order(lease: &Lease) -> (i32, Option<Timestamp>) {
    let spec = lease.spec.as_ref();
    let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    // The clocks of two holders are not compared: a new holder counts up.
    (transitions, spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::pool_lease;

    fn seat(is_eligible: bool, wait: u64) -> Seat {
        Seat { pool: "edge".into(), is_eligible, nodes: vec![], wait: Duration::from_millis(wait) }
    }

    fn held(by: &str, at: i64) -> Lease {
        let before = Lease::default();
        pool_lease::held("edge", by, &before, Timestamp::from_second(at).unwrap())
    }

    fn after(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_lease_is_taken_when_its_holder_was_silent_for_its_duration() {
        let (mut race, start) = (Race::new("b"), Instant::now());
        let none = BTreeSet::new();
        let seats = [seat(true, 100)];
        assert_eq!(race.steps(&seats, &none, start), [Step::Create("edge".into())]);
        race.note("edge", held("a", 1), start);
        assert_eq!(race.steps(&seats, &none, start + after(2050)), [], "others may come first");
        race.note("edge", held("a", 2), start + after(2000));
        assert_eq!(race.steps(&seats, &none, start + after(4000)), []);
        let taken = race.steps(&seats, &none, start + after(4100));
        assert_eq!(taken, [Step::Hold("edge".into(), held("a", 2))]);
        // A holder that the probes call down is not waited for that long.
        let down = BTreeSet::from(["a".to_owned()]);
        assert_eq!(race.steps(&seats, &down, start + after(3300)).len(), 1);
    }

    #[test]
    fn a_holder_renews_and_goes_on_until_it_sees_another() {
        let (mut race, start) = (Race::new("a"), Instant::now());
        let (none, seats) = (BTreeSet::new(), [seat(true, 0)]);
        race.note("edge", held("a", 1), start);
        race.wrote("edge", start);
        assert!(race.announced().contains("edge"));
        assert_eq!(race.steps(&seats, &none, start + after(400)), []);
        assert_eq!(race.steps(&seats, &none, start + after(500)).len(), 1);
        race.failed("edge", start + after(500));
        race.was_away(start + after(60_000));
        assert!(race.announced().contains("edge"), "nobody else was seen");
        let before = held("a", 1);
        let other = pool_lease::held("edge", "b", &before, Timestamp::from_second(0).unwrap());
        race.note("edge", other, start + after(61_000));
        assert!(race.announced().is_empty());
        race.hear("edge", held("a", 1), start + after(61_100));
        assert!(race.announced().is_empty(), "an old word changes nothing");
    }

    #[test]
    fn who_may_not_any_more_gives_it_away() {
        let (mut race, start) = (Race::new("a"), Instant::now());
        let none = BTreeSet::new();
        race.note("edge", held("a", 1), start);
        let steps = race.steps(&[seat(false, 0)], &none, start + after(600));
        assert_eq!(steps, [Step::Release("edge".into(), held("a", 1))]);
        assert!(race.announced().is_empty());
        race.note("edge", pool_lease::released("edge", &held("a", 1)), start + after(700));
        assert_eq!(race.steps(&[seat(false, 0)], &none, start + after(1800)), []);
    }

    #[test]
    fn after_the_api_server_was_away_a_holder_has_its_time() {
        let (mut race, start) = (Race::new("b"), Instant::now());
        let (none, seats) = (BTreeSet::new(), [seat(true, 0)]);
        race.note("edge", held("a", 1), start);
        race.was_away(start + after(60_000));
        assert_eq!(race.steps(&seats, &none, start + after(61_000)), []);
        assert_eq!(race.steps(&seats, &none, start + after(62_000)).len(), 1);
    }
}
