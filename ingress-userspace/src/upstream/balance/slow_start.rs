//! Slow start: an endpoint that has just come takes less than its share, so that it can warm up.

use std::time::Duration;

/// The least share, so that it gets requests from the first moment on.
const LEAST: f64 = 0.1;

/// Which part of its share an endpoint takes that came at `since` (nanoseconds; 0: it was always there).
pub fn share(since: u64, now: u64, window: Duration) -> f64 {
    if since == 0 || window.is_zero() {
        return 1.0;
    }
    let age = Duration::from_nanos(now.saturating_sub(since));
    (age.as_secs_f64() / window.as_secs_f64()).clamp(LEAST, 1.0)
}

/// Whether an endpoint takes a request whose turn is on it.
pub fn accepts(since: u64, now: u64, window: Duration, random: u64) -> bool {
    let share = share(since, now, window);
    // 53 bits are what a float holds.
    share >= 1.0 || (random >> 11) as f64 / (1_u64 << 53) as f64 <= share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_to_the_whole() {
        let second = 1_000_000_000;
        let window = Duration::from_secs(10);
        for (since, now, expected) in [
            (0, 5, 1.0),
            (second, second, 0.1),
            (second, 6 * second, 0.5),
            (second, 11 * second, 1.0),
            (second, 90 * second, 1.0),
        ] {
            assert!((share(since, now, window) - expected).abs() < 1e-9, "{since} {now}");
        }
        assert!(accepts(second, 6 * second, window, u64::MAX / 3));
        assert!(!accepts(second, 6 * second, window, u64::MAX / 3 * 2));
        assert!(accepts(second, 2 * second, Duration::ZERO, u64::MAX));
    }
}
