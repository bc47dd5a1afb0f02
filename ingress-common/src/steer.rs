//! Which node takes a packet: a table that is the same on every node, and a decision that needs no flow state.
//!
//! A slot of the table names up to four nodes, best first (weighted rendezvous hashing, so that a node more or less moves
//! only its own share). A packet goes to the first that is up. What opens a connection stays there; what continues one
//! is looked for from candidate to candidate, at most [`MAX_HOPS`] times, as long as one of them came, went or leaves:
//! the connection may have been opened while another was first. After GLB (GitHub, 2018) and Unimog (Cloudflare, 2020),
//! with more candidates. Pure.

/// Nodes named in a slot.
pub const CANDIDATES: usize = 4;

/// Slots of a table; a prime, and a hundred times as many as nodes.
pub const TABLE_SLOTS: u32 = 65_537;

/// How often a packet goes from one candidate to the next; the last one keeps it.
pub const MAX_HOPS: u8 = 3;

/// No node.
pub const NOBODY: u16 = 0;

/// The hash by which all nodes find the slot of a flow. Keyed, so that nobody outside aims at one node.
///
/// Multiply and fold word by word, with the multiplier of MurmurHash3's finaliser.
#[inline(always)]
pub const fn flow_hash(source: &[u32; 4], destination: &[u32; 4], ports: u32, proto: u8, seed: u64) -> u64 {
    let mut hash = seed;
    hash = fold(hash, source[0] as u64 | (source[1] as u64) << 32);
    hash = fold(hash, source[2] as u64 | (source[3] as u64) << 32);
    hash = fold(hash, destination[0] as u64 | (destination[1] as u64) << 32);
    hash = fold(hash, destination[2] as u64 | (destination[3] as u64) << 32);
    hash = fold(hash, ports as u64 | (proto as u64) << 32);
    fold(hash, 0)
}

/// A step of a keyed hash.
#[inline(always)]
pub(crate) const fn fold(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 32)
}

/// The slot of a hash.
#[inline(always)]
pub const fn slot_of(hash: u64) -> u32 {
    (((hash >> 32) * TABLE_SLOTS as u64) >> 32) as u32
}

/// The `at`-th candidate of a slot of the table.
#[inline(always)]
pub const fn candidate(slot: u64, at: usize) -> u16 {
    (slot >> (16 * at)) as u16
}

/// A slot of the table from its candidates, best first.
pub const fn slot(candidates: [u16; CANDIDATES]) -> u64 {
    let [a, b, c, d] = candidates;
    a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Not in the table of nodes, or it does not answer.
    Down,
    /// Keeps its connections and takes no new ones.
    Draining,
    /// Came, came back or changed its share lately: connections that it should own may live elsewhere.
    Recent,
    /// Up for long.
    Settled,
}

/// What a packet does to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opens a connection.
    Opens,
    /// Belongs to a connection that a node holds.
    Continues,
    /// A datagram: belongs to no connection that a node could be asked for.
    Datagram,
}

/// Who takes the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This node.
    Here,
    /// Another node.
    Node {
        /// Its number.
        id: u16,
        /// How many candidates had their turn before it.
        hops: u8,
    },
}

/// Decides. `me` is this node; `hops` is how many candidates had their turn before it, `None` for a packet that came from
/// the network. `holds` is asked at most once, only when this node's turn came: whether it has a listener for what opens
/// a connection, or the connection itself.
#[inline(always)]
pub fn owner(
    slot: u64,
    me: u16,
    hops: Option<u8>,
    step: Step,
    state: impl Fn(u16) -> NodeState,
    holds: impl FnOnce() -> bool,
) -> Owner {
    let mut mine = CANDIDATES;
    let mut is_unsettled = false;
    let mut at = 0;
    let mut first = NOBODY;
    let mut next = NOBODY;
    while at < CANDIDATES {
        let id = candidate(slot, at);
        if id != NOBODY {
            let state = state(id);
            is_unsettled |= !matches!(state, NodeState::Settled);
            let is_usable = match state {
                NodeState::Down => false,
                NodeState::Draining => matches!(step, Step::Continues),
                NodeState::Recent | NodeState::Settled => true,
            };
            if id == me {
                mine = at;
            }
            if is_usable && first == NOBODY {
                first = id;
            }
            // The first usable one after this node; before its own place is known, everybody is.
            if id == me {
                next = NOBODY;
            } else if is_usable && next == NOBODY {
                next = id;
            }
        }
        at += 1;
    }
    let hops = match hops {
        Some(hops) => hops,
        None if first == me => 0,
        None if first == NOBODY => return Owner::Here,
        None => return Owner::Node { id: first, hops: 0 },
    };
    let is_certain = match step {
        Step::Opens => false,
        Step::Continues => mine == 0 && !is_unsettled,
        Step::Datagram => true,
    };
    if is_certain || next == NOBODY || hops >= MAX_HOPS || holds() {
        Owner::Here
    } else {
        Owner::Node { id: next, hops: hops + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NodeState::{Down, Draining, Recent, Settled};
    use Step::{Continues, Datagram, Opens};

    const SLOT: u64 = slot([3, 1, 4, 2]);

    fn ask(me: u16, hops: Option<u8>, step: Step, states: &[(u16, NodeState)], holds: bool) -> Option<u16> {
        let state = |id| states.iter().find(|(of, _)| *of == id).map_or(Settled, |(_, state)| *state);
        match owner(SLOT, me, hops, step, state, || holds) {
            Owner::Here => None,
            Owner::Node { id, .. } => Some(id),
        }
    }

    #[test]
    fn the_first_that_is_up_takes_what_comes_from_the_network() {
        for step in [Opens, Continues, Datagram] {
            assert_eq!(ask(1, None, step, &[], false), Some(3));
            assert_eq!(ask(4, None, step, &[(3, Down)], false), Some(1));
            assert_eq!(ask(9, None, step, &[(3, Down), (1, Down)], false), Some(4));
            assert_eq!(ask(9, None, step, &[(3, Down), (1, Down), (4, Down), (2, Down)], false), None);
        }
    }

    #[test]
    fn a_draining_node_takes_nothing_new_and_keeps_the_old() {
        let drains = [(3, Draining)];
        assert_eq!(ask(2, None, Opens, &drains, true), Some(1));
        assert_eq!(ask(2, None, Datagram, &drains, true), Some(1));
        assert_eq!(ask(2, None, Continues, &drains, true), Some(3));
        assert_eq!(ask(3, None, Opens, &drains, true), Some(1));
        assert_eq!(ask(3, Some(0), Continues, &drains, true), None);
        assert_eq!(ask(3, Some(0), Continues, &drains, false), Some(1));
    }

    #[test]
    fn a_connection_is_looked_for_only_while_a_candidate_is_unsettled() {
        let never = |_: &str| -> bool { panic!("asked") };
        let here = owner(SLOT, 3, None, Continues, |_| Settled, || never("settled"));
        assert_eq!(here, Owner::Here);
        for unsettled in [Down, Draining, Recent] {
            assert_eq!(ask(3, None, Continues, &[(4, unsettled)], true), None);
            assert_eq!(ask(3, Some(0), Continues, &[(4, unsettled)], false), Some(1));
        }
    }

    #[test]
    fn each_candidate_has_its_turn_and_the_last_keeps_the_packet() {
        let joined = [(3, Recent)];
        assert_eq!(ask(3, None, Continues, &joined, false), Some(1));
        assert_eq!(ask(1, Some(0), Continues, &joined, false), Some(4));
        assert_eq!(ask(4, Some(1), Continues, &joined, false), Some(2));
        assert_eq!(ask(2, Some(2), Continues, &joined, false), None);
        assert_eq!(ask(1, Some(3), Continues, &joined, false), None, "no more hops, whoever is left");
    }

    #[test]
    fn a_connection_without_a_listener_opens_at_the_next() {
        assert_eq!(ask(3, None, Opens, &[], true), None);
        assert_eq!(ask(3, None, Opens, &[], false), Some(1));
        assert_eq!(ask(1, Some(0), Opens, &[(4, Draining)], false), Some(2));
        assert_eq!(ask(2, Some(2), Opens, &[], false), None);
    }

    #[test]
    fn a_node_of_another_table_asks_from_the_start() {
        assert_eq!(ask(7, Some(0), Continues, &[], true), None);
        assert_eq!(ask(7, Some(0), Continues, &[], false), Some(3));
        assert_eq!(ask(7, Some(0), Datagram, &[], false), None);
    }

    proptest::proptest! {
        /// Wherever a packet starts and whatever is up, it comes to rest within the hops, and where a candidate that is
        /// up holds the connection, it rests there.
        #[test]
        fn a_packet_reaches_the_node_that_holds_its_connection(
            slot: [u16; 4],
            states in proptest::array::uniform5(0_u8..4),
            receiver in 1_u16..6,
            holder in 1_u16..6,
        ) {
            let of = |id: u16| match states[usize::from(id - 1)] {
                0 => Down,
                1 => Draining,
                2 => Recent,
                _ => Settled,
            };
            let mut candidates = slot.map(|id| id % 6);
            for at in 0..4 {
                if candidates[..at].contains(&candidates[at]) {
                    candidates[at] = NOBODY;
                }
            }
            let table = super::slot(candidates);
            let (mut at, mut hops) = (receiver, None);
            while let Owner::Node { id: next, hops: turn } =
                owner(table, at, hops, Continues, of, || at == holder)
            {
                proptest::prop_assert!(next != at && of(next) != Down);
                proptest::prop_assert!(turn <= MAX_HOPS && hops.is_none_or(|hops: u8| hops < turn));
                at = next;
                hops = Some(turn);
            }
            let is_reachable = candidates.contains(&holder) && of(holder) != Down;
            let is_unsettled = candidates.iter().any(|id| *id != NOBODY && of(*id) != Settled);
            if is_reachable && is_unsettled {
                proptest::prop_assert_eq!(at, holder);
            }
        }
    }

    #[test]
    fn flows_spread_evenly_over_the_slots() {
        let mut counts = [0_u32; 64];
        for port in 0..64_000_u32 {
            let hash = flow_hash(&[0, 0, 0xffff_0000, 7], &[0, 0, 0xffff_0000, 9], port, 6, 42);
            let slot = slot_of(hash);
            assert!(slot < TABLE_SLOTS);
            counts[(slot / 1025) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_slot_holds_its_candidates() {
        let slot = slot([1, 0, 65_535, 7]);
        assert_eq!([0, 1, 2, 3].map(|at| candidate(slot, at)), [1, 0, 65_535, 7]);
    }
}
