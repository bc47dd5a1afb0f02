//! Bans: sources that may not send anything for a while, and what leads to one.
//!
//! The program counts what limits refuse of a source and asks for a ban; the agent decides, and alone writes `bans`. The
//! program looks at the expiry itself, so that a ban ends in time whether there is an agent or not.

use crate::flow::Addr;

/// Value of `bans`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ban {
    /// Monotonic clock in ns when it ends.
    pub expires_ns: u64,
    /// Monotonic clock in ns when it began.
    pub since_ns: u64,
    /// The policy that it comes from, see `Limit::policy`.
    pub policy: u32,
    /// What the source sent too much of, see `Limit::kind`.
    pub kind: u32,
    /// Name of the policy, filled with zeros; a longer one is cut. For people: whoever lists bans need not know the policies.
    pub name: [u8; 32],
}
const _: () = assert!(size_of::<Ban>() == 8 + 8 + 4 + 4 + 32);

/// Value of `strikes`: what limits of a policy refused of a source lately.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strikes {
    /// Monotonic clock in ns at the first of them.
    pub since_ns: u64,
    /// Monotonic clock in ns when a ban was last asked for; 0: never.
    pub asked_ns: u64,
    /// How many packets.
    pub drops: u32,
    /// Always 0.
    pub pad: u32,
}
const _: () = assert!(size_of::<Strikes>() == 8 + 8 + 4 + 4);

impl Strikes {
    /// For so long a source is not named again, in ns: the agent has it.
    pub const ASK_AGAIN_NS: u64 = 5_000_000_000;

    /// With one more drop at `now`, where drops count together for `within_ns`.
    #[inline(always)]
    pub const fn with_one(self, now: u64, within_ns: u64) -> Self {
        if now.saturating_sub(self.since_ns) > within_ns {
            Self { since_ns: now, drops: 1, ..self }
        } else {
            Self { drops: self.drops.saturating_add(1), ..self }
        }
    }

    /// Whether a ban is to be asked for, when so many drops lead to one.
    #[inline(always)]
    pub const fn asks(&self, now: u64, after: u32) -> bool {
        let is_new = self.asked_ns == 0 || now.saturating_sub(self.asked_ns) > Self::ASK_AGAIN_NS;
        after != 0 && self.drops >= after && is_new
    }
}

/// What `ban_asks` holds: a source that a ban is asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BanAsk {
    /// The source, as in `SrcKey`.
    pub source: Addr,
    /// The policy whose limits refused it, see `Limit::policy`.
    pub policy: u32,
    /// What it sent too much of, see `Limit::kind`.
    pub kind: u32,
}
const _: () = assert!(size_of::<BanAsk>() == 16 + 4 + 4);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn drops_within_the_time_count_together_and_later_ones_anew() {
        let mut strikes = Strikes::default().with_one(100 * SECOND, 10 * SECOND);
        assert_eq!((strikes.since_ns, strikes.drops), (100 * SECOND, 1));
        strikes = strikes.with_one(110 * SECOND, 10 * SECOND);
        assert_eq!((strikes.since_ns, strikes.drops), (100 * SECOND, 2));
        strikes = strikes.with_one(110 * SECOND + 1, 10 * SECOND);
        assert_eq!(strikes.drops, 1);
    }

    #[test]
    fn a_ban_is_asked_for_once_and_again_when_nobody_heard() {
        let strikes = Strikes { since_ns: SECOND, asked_ns: 0, drops: 3, pad: 0 };
        assert!(!strikes.asks(2 * SECOND, 4), "too few");
        assert!(!strikes.asks(2 * SECOND, 0), "a limit that bans nobody");
        assert!(strikes.asks(2 * SECOND, 3));
        let asked = Strikes { asked_ns: 2 * SECOND, ..strikes };
        assert!(!asked.asks(7 * SECOND, 3));
        assert!(asked.asks(7 * SECOND + 1, 3));
    }

    proptest::proptest! {
        /// Whatever stands in a map, nothing overflows, and a source without `after` drops is never named.
        #[test]
        fn a_source_is_named_after_so_many_drops_at_least(since_ns: u64, asked_ns: u64, drops: u32, now: u64, within: u64, after in 1_u32..) {
            let strikes = Strikes { since_ns, asked_ns, drops, pad: 0 }.with_one(now, within);
            proptest::prop_assert!(!strikes.asks(now, after) || strikes.drops >= after);
        }
    }
}
