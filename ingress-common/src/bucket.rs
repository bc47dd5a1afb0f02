//! The generic cell rate algorithm: one `u64` per source, the *theoretical arrival time* of its next connection.
//!
//! Integer arithmetic, no clock inside: the kernel passes its coarse monotonic clock, userspace any monotonic clock. The
//! state is replaced by compare-and-swap, so that two CPUs cannot both spend the same token.

use crate::maps::Limit;

/// The coarse clock of the kernel stands still for up to one tick (4 ms at 250 Hz). Without this tolerance a source that
/// keeps exactly to its rate would be refused now and then.
pub const CLOCK_TICK_NS: u64 = 4_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// The limit of `per_second` connections, of which `burst` may arrive at once. Zeros count as 1.
pub const fn limit(bucket: u32, per_second: u32, burst: u32) -> Limit {
    let rate_ns = match SECOND_NS.checked_div(per_second as u64) {
        None => SECOND_NS,
        Some(0) => 1,
        Some(ns) => ns,
    };
    let extra = burst.saturating_sub(1) as u64;
    let burst_ns = extra.saturating_mul(rate_ns).saturating_add(tolerance(rate_ns));
    Limit { kind: Limit::CONNECTIONS, bucket, rate_ns, burst_ns }
}

/// One tick, but less than one connection: a slow limit is exact.
const fn tolerance(rate_ns: u64) -> u64 {
    if rate_ns > CLOCK_TICK_NS { CLOCK_TICK_NS } else { CLOCK_TICK_NS.saturating_sub(1) }
}

/// Charges one connection at `now` against the state `tat` (0 for a source not seen before).
/// `Some` is the new state; `None`: over the limit, and the state stays.
#[inline(always)]
pub const fn charge(tat: u64, now: u64, limit: &Limit) -> Option<u64> {
    let base = if tat > now { tat } else { now };
    if base - now > limit.burst_ns {
        return None;
    }
    Some(base.wrapping_add(limit.rate_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `attempts` connections, `gap_ns` apart, get through.
    fn admitted(limit: &Limit, attempts: u32, gap_ns: u64) -> u32 {
        let mut tat = 0;
        let mut count = 0;
        for attempt in 0..u64::from(attempts) {
            if let Some(next) = charge(tat, SECOND_NS + attempt * gap_ns, limit) {
                tat = next;
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_burst_is_as_large_as_configured() {
        for (per_second, burst) in [(1, 1), (1, 5), (50, 100), (100, 1), (200, 20)] {
            assert_eq!(
                admitted(&limit(0, per_second, burst), 1000, 0),
                burst,
                "{per_second}/s, burst {burst}"
            );
        }
    }

    #[test]
    fn a_fast_limit_adds_no_more_than_a_tick_of_connections() {
        assert_eq!(admitted(&limit(0, 1000, 1), 1000, 0), 4);
        assert_eq!(admitted(&limit(0, 10_000, 100), 1000, 0), 100 + 39);
    }

    #[test]
    fn a_source_that_keeps_to_its_rate_is_never_refused() {
        assert_eq!(admitted(&limit(0, 50, 1), 500, SECOND_NS / 50), 500);
    }

    #[test]
    fn a_stalled_clock_does_not_refuse_a_source_at_its_rate() {
        let limit = limit(0, 100, 1);
        let mut tat = 0;
        for attempt in 0..500_u64 {
            let true_time = SECOND_NS + attempt * 10_000_000;
            let coarse = true_time - true_time % CLOCK_TICK_NS;
            tat = charge(tat, coarse, &limit).unwrap_or_else(|| panic!("attempt {attempt} was refused"));
        }
    }

    #[test]
    fn over_the_limit_the_rate_still_gets_through() {
        // 10 s at 1000/s against 50/s and a burst of 10.
        let count = admitted(&limit(0, 50, 10), 10_000, 1_000_000);
        assert!((500..=511).contains(&count), "{count}");
    }

    #[test]
    fn a_rest_refills_the_burst_and_no_more() {
        let limit = limit(0, 10, 5);
        let mut tat = 0;
        for _ in 0..5 {
            tat = charge(tat, SECOND_NS, &limit).unwrap();
        }
        assert_eq!(charge(tat, SECOND_NS, &limit), None);
        let later = 3600 * SECOND_NS;
        for _ in 0..5 {
            tat = charge(tat, later, &limit).unwrap();
        }
        assert_eq!(charge(tat, later, &limit), None);
    }

    #[test]
    fn extreme_settings_neither_overflow_nor_block() {
        assert_eq!(admitted(&limit(0, 0, 0), 10, 0), 1);
        assert!(charge(u64::MAX, 0, &limit(0, 1, u32::MAX)).is_none());
        assert!(charge(0, u64::MAX, &limit(0, u32::MAX, u32::MAX)).is_some());
    }

    proptest::proptest! {
        /// Whatever a source does, in any window it gets the burst, what the rate gives in that time, and one tick.
        #[test]
        fn no_window_admits_more_than_rate_and_burst(
            per_second in 1_u32..5_000,
            burst in 1_u32..200,
            gaps_ns in proptest::collection::vec(0_u64..20_000_000, 1..400),
        ) {
            let limit = limit(0, per_second, burst);
            let (mut now, mut tat) = (SECOND_NS, 0);
            let mut admitted_at = Vec::new();
            for gap in gaps_ns {
                now += gap;
                if let Some(next) = charge(tat, now, &limit) {
                    proptest::prop_assert!(next > tat);
                    tat = next;
                    admitted_at.push(now);
                }
            }
            for (nth, first) in admitted_at.iter().enumerate() {
                let window = now - first;
                let ceiling = u64::from(burst) + (window + CLOCK_TICK_NS) / limit.rate_ns + 1;
                proptest::prop_assert!((admitted_at.len() - nth) as u64 <= ceiling);
            }
        }

        /// No state that user space or another version could have left behind makes the program panic or overflow.
        #[test]
        fn any_state_is_survived(tat: u64, now: u64, rate_ns: u64, burst_ns: u64) {
            let limit = Limit { kind: Limit::CONNECTIONS, bucket: 0, rate_ns, burst_ns };
            let _ = charge(tat, now, &limit);
        }
    }
}
