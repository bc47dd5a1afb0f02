//! When packets go by IP in IP after the pools changed to it or from it.

use ingress_common::maps::Cluster;

/// Nodes hear of a change one after the other, and those that still send the old way, or already the new one, must be
/// understood. Times are of the monotonic clock, in ns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ipip {
    sent_from_ns: u64,
    taken_until_ns: u64,
}

impl Ipip {
    /// Until then others have heard of a change.
    const HEARD_NS: u64 = 3_000_000_000;
    /// Until then the last packet of before has arrived.
    const LATE_NS: u64 = 60_000_000_000;

    /// The pools changed to IP in IP, or to UDP.
    pub(super) fn change(&mut self, to_ipip: bool, now: u64) {
        if to_ipip {
            self.sent_from_ns = now.saturating_add(Self::HEARD_NS);
        } else {
            self.taken_until_ns = now.saturating_add(Self::LATE_NS);
        }
    }

    /// Bits of [`Cluster`].
    pub(super) fn flags(self, is_ipip: bool, now: u64) -> u32 {
        let sent = if is_ipip && now >= self.sent_from_ns { Cluster::IPIP } else { 0 };
        let taken = if is_ipip || now < self.taken_until_ns { Cluster::TAKES_IPIP } else { 0 };
        sent | taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_before_anybody_sends_it_and_for_a_while_after_that() {
        const SECOND: u64 = 1_000_000_000;
        let both = Cluster::IPIP | Cluster::TAKES_IPIP;
        assert_eq!(Ipip::default().flags(false, SECOND), 0, "without a key nobody is understood");
        assert_eq!(Ipip::default().flags(true, SECOND), both, "so from the start");
        let mut ipip = Ipip::default();
        ipip.change(true, 10 * SECOND);
        assert_eq!(ipip.flags(true, 11 * SECOND), Cluster::TAKES_IPIP);
        assert_eq!(ipip.flags(true, 13 * SECOND), both);
        ipip.change(false, 20 * SECOND);
        assert_eq!(ipip.flags(false, 79 * SECOND), Cluster::TAKES_IPIP);
        assert_eq!(ipip.flags(false, 80 * SECOND), 0);
    }
}
