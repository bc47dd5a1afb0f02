//! One endpoint after the other; all workers take turns on the same counter. Backends of a route by weight.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::snapshot::Target;

/// The next turn.
pub fn next(turn: &AtomicUsize) -> usize {
    turn.fetch_add(1, Ordering::Relaxed)
}

/// The endpoint whose turn it is. One that does not take the request leaves it to the one behind it; when none does, it
/// is taken nevertheless.
pub fn pick(len: usize, turn: usize, mut accepts: impl FnMut(usize) -> bool) -> Option<usize> {
    let first = turn.checked_rem(len)?;
    let mut order = (first..len).chain(0..first);
    Some(order.find(|index| accepts(*index)).unwrap_or(first))
}

/// A backend by weight. The common single backend costs no random number.
pub fn weighted(targets: &[Target], total: u32, random: impl FnOnce() -> u64) -> Option<&Target> {
    match targets {
        [only] if only.weight > 0 => Some(only),
        _ => {
            let mut rest = random().checked_rem(u64::from(total))?;
            targets.iter().find(|target| match rest.checked_sub(u64::from(target.weight)) {
                Some(left) => {
                    rest = left;
                    false
                }
                None => true,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::labels::RouteLabels;
    use crate::upstream::backend::{BackendCell, EndpointSet};

    #[test]
    fn every_endpoint_gets_its_turn() {
        let turn = AtomicUsize::new(5);
        let seen: Vec<_> = (0..6).map(|_| pick(3, next(&turn), |_| true).unwrap()).collect();
        assert!((0..3).all(|index| seen.iter().filter(|found| **found == index).count() == 2), "{seen:?}");
        assert_ne!(pick(3, 7, |_| true), pick(3, 8, |_| true));
        assert_eq!(pick(0, 1, |_| true), None);
    }

    #[test]
    fn an_endpoint_may_leave_its_turn_to_others() {
        assert_eq!(pick(3, 1, |index| index != 1), Some(2));
        assert_eq!(pick(3, 2, |index| index != 2), Some(0));
        assert_eq!(pick(3, 2, |_| false), Some(2));
    }

    #[test]
    fn weights_are_shares_and_zero_takes_nothing() {
        let target = |weight| Target {
            backend: Arc::new(BackendCell::new(String::new(), EndpointSet::default())),
            weight,
            labels: Arc::new(RouteLabels::default()),
        };
        let targets = [target(1), target(0), target(3)];
        let mut seen = [0; 3];
        for number in 0..4 {
            let chosen = weighted(&targets, 4, || number).unwrap();
            seen[targets.iter().position(|t| std::ptr::eq(t, chosen)).unwrap()] += 1;
        }
        assert_eq!(seen, [1, 0, 3]);
        assert!(weighted(&[target(0)], 0, || 7).is_none());
        assert!(weighted(&[], 0, || 7).is_none());
    }
}
