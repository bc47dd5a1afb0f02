//! One endpoint after the other; all workers take turns on the same counter. Backends of a route by weight.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::snapshot::Target;

/// The next turn.
pub fn next(turn: &AtomicUsize) -> usize {
    turn.fetch_add(1, Ordering::Relaxed)
}

/// The endpoint of a turn; later tries of a request go to the ones behind it.
pub fn pick(endpoints: &[SocketAddr], turn: usize, tries: usize) -> Option<SocketAddr> {
    let index = turn.wrapping_add(tries).checked_rem(endpoints.len())?;
    endpoints.get(index).copied()
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
    fn every_endpoint_gets_its_turn_and_retries_go_on() {
        let endpoints: Vec<SocketAddr> = (1..4).map(|port| ([198, 18, 0, 1], port).into()).collect();
        let turn = AtomicUsize::new(usize::MAX);
        let seen: Vec<_> = (0..6).map(|_| pick(&endpoints, next(&turn), 0).unwrap().port()).collect();
        assert_eq!(seen.iter().filter(|port| **port == 2).count(), 2, "{seen:?}");
        assert_ne!(pick(&endpoints, 7, 0), pick(&endpoints, 7, 1));
        assert_eq!(pick(&[], 1, 0), None);
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
