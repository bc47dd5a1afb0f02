//! The clock of the kernel programs: what stands in the maps is compared with it, and never with the time of day, which
//! jumps.

use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// How far the monotonic clock of this process is ahead of the kernel's, in ns: it has one of its own in a time namespace.
static AHEAD_NS: LazyLock<i64> = LazyLock::new(|| {
    // Kernels without time namespaces have no such file.
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let ahead = ahead_ns(&offsets);
    if ahead != 0 {
        let seconds = ahead / 1_000_000_000;
        warn!(
            seconds,
            "this process runs in a time namespace, its clock is corrected for the kernel programs"
        );
    }
    ahead
});

/// Now, by the clock of the kernel programs.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Monotonic time is never negative.
    let now = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    now.saturating_add_signed(AHEAD_NS.saturating_neg())
}

/// The offset of the monotonic clock in a file such as `/proc/self/timens_offsets`.
fn ahead_ns(offsets: &str) -> i64 {
    let words = |line: &str| -> Option<i64> {
        let mut words = line.strip_prefix("monotonic")?.split_whitespace();
        let (seconds, ns): (i64, i64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        seconds.checked_mul(1_000_000_000)?.checked_add(ns)
    };
    offsets.lines().find_map(words).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_says_how_far_it_is_off() {
        for (text, expected) in [
            ("monotonic           0         0\nboottime            0         0\n", 0),
            ("monotonic      100000         5\nboottime           -7         0\n", 100_000_000_000_005),
            ("monotonic         -20 500000000\nboottime            0         0\n", -19_500_000_000),
            ("", 0),
        ] {
            assert_eq!(ahead_ns(text), expected, "{text}");
        }
    }
}
