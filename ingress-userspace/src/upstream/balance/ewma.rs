//! Peak EWMA: the better of two random endpoints, by an average of latency that follows every rise at once and forgets it
//! within seconds, times the requests in flight. All workers of the node share what they measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::super::backend::Endpoint;
use crate::snapshot::buckets::now;

/// After this time a measurement counts for a third.
const DECAY: f64 = 10.0;
/// Cost of an endpoint that has requests and has answered none yet.
const UNKNOWN: f64 = 1e12;

/// What was measured of an endpoint.
#[derive(Debug, Default)]
pub struct Load {
    /// Low half: the average in microseconds; high half: when, in milliseconds that wrap.
    average: AtomicU64,
    in_flight: AtomicU32,
}

impl Load {
    /// A request was answered after `latency`. Two workers at the same moment may lose one of their measurements.
    pub fn observe(&self, latency: Duration, now: u64) {
        let latency = latency.as_micros() as f64;
        let (average, age) = self.read(now);
        let weight = (-age / DECAY).exp();
        let average = if latency > average { latency } else { average * weight + latency * (1.0 - weight) };
        let micros = (average as u64).clamp(1, u64::from(u32::MAX));
        self.average.store(millis(now) << 32 | micros, Ordering::Relaxed);
    }

    /// What one more request costs here: low is good.
    pub fn cost(&self, now: u64) -> f64 {
        let in_flight = f64::from(self.in_flight.load(Ordering::Relaxed));
        let (average, age) = self.read(now);
        match average {
            // Nothing is known: the first request may try it, others wait for what comes of it.
            0.0 if in_flight > 0.0 => UNKNOWN + in_flight,
            average => average * (-age / DECAY).exp() * (in_flight + 1.0),
        }
    }

    /// The average as it was, and its age in seconds.
    fn read(&self, now: u64) -> (f64, f64) {
        let packed = self.average.load(Ordering::Relaxed);
        let age = millis(now).wrapping_sub(packed >> 32) & u64::from(u32::MAX);
        ((packed & u64::from(u32::MAX)) as f64, age as f64 / 1000.0)
    }
}

fn millis(now: u64) -> u64 {
    (now / 1_000_000) & u64::from(u32::MAX)
}

/// A request that an endpoint has not answered to the end yet.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    /// Begins.
    pub fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }

    /// The head of the answer came, or a failure that took as long.
    pub fn answered(&self, latency: Duration) {
        self.0.load.observe(latency, now());
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Draws two endpoints of those that did not fail for this request, and takes the one that costs less.
pub fn better_of_two(
    len: usize,
    is_failed: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> f64,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    let mut draw = |from: usize, except: Option<usize>| {
        let start = usize::try_from(random() >> 1).unwrap_or_default().checked_rem(from)?;
        let order = (start..len).chain(0..start);
        order.filter(|index| except != Some(*index)).find(|index| !is_failed(*index))
    };
    // When all failed, any will do: so it is with a single endpoint.
    let Some(first) = draw(len, None) else {
        return usize::try_from(random() >> 1).unwrap_or_default().checked_rem(len);
    };
    match draw(len, Some(first)) {
        Some(second) if cost(second) < cost(first) => Some(second),
        _ => Some(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_rise_counts_at_once_and_is_forgotten_slowly() {
        let load = Load::default();
        load.observe(Duration::from_millis(10), SECOND);
        let before = load.cost(SECOND);
        load.observe(Duration::from_millis(500), SECOND);
        assert!((load.cost(SECOND) / before - 50.0).abs() < 0.1);
        load.observe(Duration::from_millis(10), 2 * SECOND);
        let after = load.cost(2 * SECOND);
        assert!(after > 40.0 * before && after < 50.0 * before, "{before} {after}");
        assert!(load.cost(60 * SECOND) < before);
    }

    #[test]
    fn requests_in_flight_cost() {
        let endpoint = Arc::new(Endpoint::new(([198, 18, 0, 1], 80).into(), 0));
        assert!(endpoint.load.cost(SECOND) < 1.0);
        let first = InFlight::begin(&endpoint);
        assert!(endpoint.load.cost(SECOND) > UNKNOWN / 2.0);
        endpoint.load.observe(Duration::from_millis(1), SECOND);
        let one = endpoint.load.cost(SECOND);
        let second = InFlight::begin(&endpoint);
        assert!(endpoint.load.cost(SECOND) > one);
        drop((first, second));
        assert!(endpoint.load.cost(SECOND) < one);
    }

    #[test]
    fn the_better_of_two_is_taken_and_failed_ones_are_left_out() {
        let costs = [3.0, 1.0, 2.0];
        let mut seen = [0; 3];
        for random in 0..3000_u64 {
            let mut state = random;
            let draw = || {
                state = state.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                state
            };
            seen[better_of_two(3, |_| false, |index| costs[index], draw).unwrap()] += 1;
        }
        assert!(seen[0] == 0 && seen[1] > seen[2] && seen[2] > 0, "{seen:?}");
        assert_eq!(better_of_two(3, |index| index != 0, |_| 1.0, || 4), Some(0));
        assert_eq!(better_of_two(1, |_| true, |_| 1.0, || 4), Some(0));
        assert_eq!(better_of_two(0, |_| false, |_| 1.0, || 4), None);
    }
}
