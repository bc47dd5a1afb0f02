//! The generic cell rate algorithm: one `u64` per source or address, its *theoretical arrival time*.
//!
//! Integer arithmetic, no clock inside: the kernel passes its coarse monotonic clock, userspace any monotonic clock. The
//! state is replaced by compare-and-swap, so that two CPUs cannot both spend the same token. A state is a time and not a
//! number of tokens, so it survives a changed rate.

use crate::maps::Limit;

/// The coarse clock of the kernel stands still for up to one tick (4 ms at 250 Hz). Without this tolerance a source that
/// keeps exactly to its rate would be refused now and then.
pub const CLOCK_TICK_NS: u64 = 4_000_000;

/// Fewer bytes per second cannot be limited: the time of a packet would not fit its number.
pub const LEAST_BYTES_PER_SECOND: u64 = 64;

/// Sources of which a node takes note in one second: each costs an entry of `buckets` that another one loses.
pub const NEW_SOURCES: Limit = limit(0, 10_000, 10_000);

const SECOND_NS: u64 = 1_000_000_000;

/// Longer than any packet, also one that the kernel put together of many.
const LONGEST_PACKET: u64 = 1 << 19;

/// The limit of `per_second` connections, of which `burst` may arrive at once. Zeros count as 1.
pub const fn limit(bucket: u32, per_second: u32, burst: u32) -> Limit {
    Limit { kind: Limit::CONNECTIONS, bucket, ..units(per_second as u64, burst as u64) }
}

/// A limit of `per_second` connections or packets, of which `burst` may arrive at once. Zeros count as 1.
pub const fn units(per_second: u64, burst: u64) -> Limit {
    let rate_ns = match SECOND_NS.checked_div(per_second) {
        None => SECOND_NS,
        Some(0) => 1,
        Some(ns) => ns,
    };
    let burst_ns = burst.saturating_sub(1).saturating_mul(rate_ns).saturating_add(tolerance(rate_ns));
    Limit { rate_ns, burst_ns, ..NOTHING }
}

/// A limit of `per_second` bytes, [`LEAST_BYTES_PER_SECOND`] at least, of which `burst` may arrive at once. The packet that
/// exceeds the burst still gets through, whatever its length; the next one waits for it.
pub const fn bytes(per_second: u64, burst: u64) -> Limit {
    let per_second = if per_second < LEAST_BYTES_PER_SECOND { LEAST_BYTES_PER_SECOND } else { per_second };
    // At most 2^44, so that the time of the longest packet fits. Never 0: that would be no limit.
    let rate_q20 = (SECOND_NS << 20) / per_second;
    let burst_ns = burst as u128 * SECOND_NS as u128 / per_second as u128;
    let burst_ns = if burst_ns > (u64::MAX >> 1) as u128 { u64::MAX >> 1 } else { burst_ns as u64 };
    Limit {
        rate_q20: if rate_q20 == 0 { 1 } else { rate_q20 },
        burst_ns: burst_ns + CLOCK_TICK_NS - 1,
        ..NOTHING
    }
}

/// A limit that costs nothing. (`Default` is not `const`.)
const NOTHING: Limit = Limit {
    kind: 0,
    per: Limit::SOURCE,
    bucket: 0,
    ban_after: 0,
    rate_ns: 0,
    rate_q20: 0,
    burst_ns: 0,
    ban_within_ns: 0,
    policy: 0,
    pad: 0,
};

/// One tick, but less than one connection: a slow limit is exact.
const fn tolerance(rate_ns: u64) -> u64 {
    if rate_ns > CLOCK_TICK_NS { CLOCK_TICK_NS } else { CLOCK_TICK_NS.saturating_sub(1) }
}

/// Charges one connection at `now` against the state `tat` (0 for a source not seen before).
/// `Some` is the new state; `None`: over the limit, and the state stays.
#[inline(always)]
pub const fn charge(tat: u64, now: u64, limit: &Limit) -> Option<u64> {
    charge_packet(tat, now, limit, 0)
}

/// The same for a packet of so many bytes.
#[inline(always)]
pub const fn charge_packet(tat: u64, now: u64, limit: &Limit, len: u64) -> Option<u64> {
    let base = if tat > now { tat } else { now };
    if base - now > limit.burst_ns {
        return None;
    }
    Some(base.wrapping_add(cost(limit, len)))
}

/// The state to put in place of one that this limit never leaves behind: that of a slower limit, which would keep a source
/// waiting for far longer than its burst. `None`: the state is its own.
#[inline(always)]
pub const fn capped(tat: u64, now: u64, limit: &Limit) -> Option<u64> {
    let most = now.wrapping_add(limit.burst_ns).wrapping_add(cost(limit, LONGEST_PACKET));
    if tat > most && most >= now { Some(most) } else { None }
}

/// The time of one packet or connection.
#[inline(always)]
const fn cost(limit: &Limit, len: u64) -> u64 {
    limit.rate_ns.wrapping_add(len.wrapping_mul(limit.rate_q20) >> 20)
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
    fn bytes_are_limited_to_their_rate_and_burst() {
        for (per_second, burst, len) in [
            (12_500_000, 25_000_000, 1_500),
            (64, 1, 60),
            (1_000, 5_000, 1_000),
            (125_000_000_000, 1_000_000, 9_000),
        ] {
            let limit = bytes(per_second, burst);
            let (mut tat, mut at_once) = (0, 0);
            while let Some(next) = charge_packet(tat, SECOND_NS, &limit, len) {
                tat = next;
                at_once += len;
            }
            // The last packet may exceed the burst, a tick is given, and times are whole nanoseconds.
            let most = burst + 2 * len + per_second * CLOCK_TICK_NS / SECOND_NS;
            assert!(
                at_once >= burst && at_once <= most + most / 50,
                "{per_second} B/s, burst {burst}: {at_once}"
            );
            // Ten seconds at twice the rate.
            let mut through = 0_u64;
            let gap = len * SECOND_NS / per_second / 2;
            let mut now = SECOND_NS;
            while gap > 0 && now < 11 * SECOND_NS {
                now += gap;
                if let Some(next) = charge_packet(tat, now, &limit, len) {
                    tat = next;
                    through += len;
                }
            }
            let expected = per_second * 10;
            assert!(
                gap == 0 || through.abs_diff(expected) <= expected / 50 + 2 * len,
                "{per_second}: {through}"
            );
        }
    }

    #[test]
    fn a_packet_larger_than_the_burst_is_not_refused_for_ever() {
        let limit = bytes(1_000, 100);
        let tat = charge_packet(0, SECOND_NS, &limit, 1_500).expect("after a rest");
        assert_eq!(charge_packet(tat, SECOND_NS, &limit, 1_500), None);
        assert!(charge_packet(tat, 3 * SECOND_NS, &limit, 1_500).is_some(), "once its time has passed");
    }

    #[test]
    fn the_state_of_a_slower_limit_makes_nobody_wait_longer_than_the_new_one() {
        let slow = limit(0, 1, 3_600);
        let mut tat = 0;
        while let Some(next) = charge(tat, SECOND_NS, &slow) {
            tat = next;
        }
        assert_eq!(capped(tat, SECOND_NS, &slow), None, "its own state");
        let fast = limit(0, 1_000, 10);
        let capped = capped(tat, SECOND_NS, &fast).expect("an hour is too long");
        assert_eq!(charge(capped, SECOND_NS, &fast), None, "still over the limit");
        assert!(charge(capped, SECOND_NS + 10_000_000, &fast).is_some());
        assert!(super::capped(u64::MAX, 5, &bytes(64, 1)).is_some());
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
        fn any_state_is_survived(tat: u64, now: u64, rate_ns: u64, rate_q20: u64, burst_ns: u64, len: u64) {
            let limit = Limit { rate_ns, burst_ns, rate_q20, ..units(1, 1) };
            let _ = charge_packet(tat, now, &limit, len);
            let _ = capped(tat, now, &limit);
        }
    }
}
