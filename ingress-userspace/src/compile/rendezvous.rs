//! The table of a pool: for every slot, which nodes may own its flows, best first.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; the weights as Schindelhauer and Schomaker 2005): each node
//! draws a number per slot, −log₂(u) ⁄ weight of a uniform u, and the lowest come first. A node more or less moves its own
//! share and nothing else, and the order of those that stay is the same before and after. Integers only: every node of
//! a cluster, whatever its processor, makes the same table.

use ingress_common::steer::{CANDIDATES, NOBODY, TABLE_SLOTS, slot};

/// A node in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number on this node.
    pub id: u16,
    /// Its name, the same on every node.
    pub name: String,
    /// Its share, at least 1.
    pub weight: u16,
}

/// A pool's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The slots, as in the kernel map.
    pub slots: Vec<u64>,
    /// The same on every node that made the same table, whatever numbers it has for the nodes.
    pub fingerprint: u64,
}

/// Makes the table; the order of the nodes does not matter.
pub fn table(nodes: &[Candidate]) -> Table {
    let logarithm = Logarithm::new();
    let nodes: Vec<Drawn> = nodes.iter().map(Drawn::new).collect();
    let mut slots = Vec::with_capacity(TABLE_SLOTS as usize);
    let mut fingerprint = 0;
    for number in 0..u64::from(TABLE_SLOTS) {
        let mut best = [(u64::MAX, u64::MAX, NOBODY); CANDIDATES];
        for node in &nodes {
            insert(&mut best, (node.draw(number, &logarithm), node.name, node.id));
        }
        for (_, name, id) in best {
            if id != NOBODY {
                fingerprint = mix(fingerprint ^ name);
            }
        }
        slots.push(slot(best.map(|(_, _, id)| id)));
    }
    Table { slots, fingerprint }
}

struct Drawn {
    /// Hash of its name.
    name: u64,
    id: u16,
    /// 2²⁴ divided by the weight.
    per_weight: u64,
}

impl Drawn {
    fn new(candidate: &Candidate) -> Self {
        let name =
            candidate.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| mix(hash ^ u64::from(byte)));
        let per_weight = (1 << 24) / u64::from(candidate.weight.max(1));
        Self { name, id: candidate.id, per_weight }
    }

    fn draw(&self, slot: u64, logarithm: &Logarithm) -> u64 {
        logarithm.negative(mix(self.name ^ slot.wrapping_mul(0x9e37_79b9_7f4a_7c15))) * self.per_weight
    }
}

/// Puts a draw in its place; the last one falls out.
fn insert(best: &mut [(u64, u64, u16); CANDIDATES], mut drawn: (u64, u64, u16)) {
    for place in best {
        if drawn < *place {
            std::mem::swap(place, &mut drawn);
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// −log₂ of a fraction of 2⁶⁴, in 32.32 fixed point: at most 64, so that 2²⁴ of it fit into 64 bits.
struct Logarithm(Vec<u64>);

/// Bits that choose an entry of the table; the rest is interpolated.
const ENTRY_BITS: u32 = 10;

impl Logarithm {
    fn new() -> Self {
        Self((0..=1 << ENTRY_BITS).map(log2_of_one_and).collect())
    }

    fn negative(&self, fraction: u64) -> u64 {
        let fraction = fraction | 1;
        let zeros = fraction.leading_zeros();
        // After the leading one.
        let rest = (fraction << zeros) << 1;
        let entry = (rest >> (64 - ENTRY_BITS)) as usize;
        let between = (rest << ENTRY_BITS) >> 40;
        let (low, high) = (self.at(entry), self.at(entry + 1));
        let log2 = low + (((high - low) * between) >> 24);
        (u64::from(zeros + 1) << 32) - log2
    }

    fn at(&self, entry: usize) -> u64 {
        self.0.get(entry).copied().unwrap_or(1 << 32)
    }
}

/// log₂(1 + entry ⁄ 2¹⁰) in 32 bits after the point, by squaring: each squaring that passes 2 is a one bit.
fn log2_of_one_and(entry: u64) -> u64 {
    if entry >> ENTRY_BITS != 0 {
        return 1 << 32;
    }
    let mut value: u128 = u128::from((1 << ENTRY_BITS) + entry) << (62 - ENTRY_BITS);
    let mut log2 = 0;
    for _ in 0..32 {
        value = (value * value) >> 62;
        log2 <<= 1;
        if value >> 63 != 0 {
            log2 |= 1;
            value >>= 1;
        }
    }
    log2
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingress_common::steer::candidate;

    fn nodes(names: &[(&str, u16)]) -> Vec<Candidate> {
        let numbered = names.iter().zip(1..);
        numbered
            .map(|((name, weight), id)| Candidate { id, name: (*name).to_owned(), weight: *weight })
            .collect()
    }

    fn many(count: u16) -> Vec<Candidate> {
        (1..=count).map(|id| Candidate { id, name: format!("node-{id}"), weight: 100 }).collect()
    }

    /// Slots whose first candidate each node is.
    fn shares(table: &Table, count: usize) -> Vec<u32> {
        let mut shares = vec![0; count + 1];
        for slot in &table.slots {
            shares[usize::from(candidate(*slot, 0))] += 1;
        }
        shares.split_off(1)
    }

    #[test]
    fn equal_nodes_have_equal_shares() {
        for count in [2, 5, 30] {
            let shares = shares(&table(&many(count)), count.into());
            let even = TABLE_SLOTS / u32::from(count);
            for share in &shares {
                assert!(share.abs_diff(even) < even / 10 + 100, "{shares:?}");
            }
        }
    }

    #[test]
    fn a_share_follows_the_weight() {
        let shares = shares(&table(&nodes(&[("a", 100), ("b", 300)])), 2);
        assert!(shares[0].abs_diff(TABLE_SLOTS / 4) < 600, "{shares:?}");
    }

    #[test]
    fn a_node_that_joins_takes_its_share_and_moves_nothing_else() {
        let (before, after) = (table(&many(9)), table(&many(10)));
        let mut moved = 0;
        for (old, new) in before.slots.iter().zip(&after.slots) {
            if candidate(*old, 0) == candidate(*new, 0) {
                continue;
            }
            assert_eq!(candidate(*new, 0), 10);
            assert_eq!(candidate(*new, 1), candidate(*old, 0), "the owner before is the next to be asked");
            moved += 1;
        }
        assert!((6_000..7_100).contains(&moved), "{moved}");
    }

    #[test]
    fn candidates_of_a_slot_are_different_nodes() {
        for slot in table(&many(4)).slots {
            let mut ids = [0, 1, 2, 3].map(|at| candidate(slot, at));
            ids.sort_unstable();
            assert_eq!(ids, [1, 2, 3, 4]);
        }
        assert_eq!(table(&many(1)).slots[0], slot([1, 0, 0, 0]));
    }

    #[test]
    fn nodes_agree_whatever_numbers_they_use() {
        let here = nodes(&[("a", 100), ("b", 50), ("c", 100)]);
        let mut there = nodes(&[("c", 100), ("b", 50), ("a", 100)]);
        assert_eq!(table(&here).fingerprint, table(&there).fingerprint);
        there[0].weight = 99;
        assert_ne!(table(&here).fingerprint, table(&there).fingerprint);
    }

    /// Another result means that nodes of two versions disagree about every flow.
    #[test]
    fn the_table_is_the_same_in_every_version() {
        let table = table(&nodes(&[("node-a", 100), ("node-b", 100), ("node-c", 200)]));
        assert_eq!(table.fingerprint, 17_914_263_522_984_041_407);
    }

    #[test]
    fn the_logarithm_is_right_to_six_digits() {
        let logarithm = Logarithm::new();
        for fraction in [1_u64 << 63, 1 << 40, 0xffff_ffff_ffff_ffff, 0x1234_5678_9abc_def1, 12_345] {
            let exact = 64.0 - ((fraction | 1) as f64).log2();
            let ours = logarithm.negative(fraction) as f64 / (1_u64 << 32) as f64;
            assert!((exact - ours).abs() < 1e-6, "{fraction}: {exact} {ours}");
        }
    }
}
