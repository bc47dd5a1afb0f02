//! Whether a node answers neighbours that ask for a VIP. Pure.
//!
//! The node that announces the address does, as long as its agent lives: another node takes over when it does not. The
//! others keep quiet, since the stack, for which a VIP is a local address, would answer on every node. Of an address
//! that none of our nodes announces (BGP or another announcer does) nothing is answered and nothing is kept back.

use crate::maps::VipVal;

/// An agent that has been silent for longer announces nothing any more, in ns.
pub const SILENCE_NS: u64 = 10_000_000_000;

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

/// Decides by the flags of the address's entry in `vips`, the agent's last sign of life (0: it ended in order) and the
/// clock of both.
#[inline(always)]
pub const fn part(flags: u32, heartbeat_ns: u64, now_ns: u64) -> Part {
    if flags & VipVal::PORTS_ONLY != 0 || flags & (VipVal::ANNOUNCE | VipVal::QUIET) == 0 {
        return Part::StaysOut;
    }
    // The kernel's coarse clock may be behind the one that the agent read.
    let is_alive = heartbeat_ns != 0 && now_ns.saturating_sub(heartbeat_ns) <= SILENCE_NS;
    if flags & VipVal::ANNOUNCE != 0 && is_alive { Part::Answers } else { Part::KeepsQuiet }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Part::{Answers, KeepsQuiet, StaysOut};

    const ANNOUNCE: u32 = VipVal::ANNOUNCE | VipVal::QUIET;

    #[test]
    fn the_node_that_announces_answers_while_its_agent_lives() {
        let now = 1_000 * SILENCE_NS;
        for (name, flags, heartbeat, expected) in [
            ("announces", ANNOUNCE, now - 1, Answers),
            ("announces, and the clock is behind", ANNOUNCE, now + 5, Answers),
            ("announces, silent for just as long as may be", ANNOUNCE, now - SILENCE_NS, Answers),
            ("announces, silent for too long", ANNOUNCE, now - SILENCE_NS - 1, KeepsQuiet),
            ("announces, its agent ended", ANNOUNCE, 0, KeepsQuiet),
            ("another node announces", VipVal::QUIET, now, KeepsQuiet),
            ("nobody of ours announces", VipVal::LIMIT, now, StaysOut),
            ("an address of the node", VipVal::PORTS_ONLY | ANNOUNCE, now, StaysOut),
        ] {
            assert_eq!(part(flags, heartbeat, now), expected, "{name}");
        }
    }
}
