//! Whether a node answers neighbours that ask for a VIP. Pure.
//!
//! The node that announces the address does, as long as its agent lives: another node takes over when it does not. The
//! others keep quiet, since the stack, for which a VIP is a local address, would answer on every node. Of an address
//! that none of our nodes announces (BGP or another announcer does) nothing is answered and nothing is kept back.

use crate::maps::{Meta, VipVal};

/// What a node does when it is asked for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It answers.
    Answers,
    /// It keeps the question from the stack.
    KeepsQuiet,
    /// The question goes to the stack.
    StaysOut,
}

/// Decides by the flags of the address's entry in `vips` and the agent's last sign of life. One that ended in order may be
/// on its way back: until it has been silent for as long as one that was killed, the address does not move for it.
#[inline(always)]
pub const fn part(flags: u32, meta: &Meta, now_ns: u64) -> Part {
    if flags & VipVal::PORTS_ONLY != 0 || flags & (VipVal::ANNOUNCE | VipVal::QUIET) == 0 {
        return Part::StaysOut;
    }
    if flags & VipVal::ANNOUNCE != 0 && meta.is_alive(now_ns) { Part::Answers } else { Part::KeepsQuiet }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::SILENCE_NS;
    use Part::{Answers, KeepsQuiet, StaysOut};

    const ANNOUNCE: u32 = VipVal::ANNOUNCE | VipVal::QUIET;

    #[test]
    fn the_node_that_announces_answers_while_its_agent_lives() {
        let now = 1_000 * SILENCE_NS;
        for (name, flags, heartbeat, expected) in [
            ("announces", ANNOUNCE, now - 1, Answers),
            ("announces, and the clock is behind", ANNOUNCE, now + 5, Answers),
            ("announces, silent for just as long as may be", ANNOUNCE, now - SILENCE_NS + 1, Answers),
            ("announces, silent for too long", ANNOUNCE, now - SILENCE_NS, KeepsQuiet),
            ("announces, no agent yet", ANNOUNCE, 0, KeepsQuiet),
            ("another node announces", VipVal::QUIET, now, KeepsQuiet),
            ("nobody of ours announces", VipVal::LIMIT, now, StaysOut),
            ("an address of the node", VipVal::PORTS_ONLY | ANNOUNCE, now, StaysOut),
        ] {
            for meta_flags in [0, Meta::ENDED] {
                let meta = Meta { heartbeat_ns: heartbeat, flags: meta_flags, ..Meta::default() };
                assert_eq!(part(flags, &meta, now), expected, "{name}");
            }
        }
    }
}
