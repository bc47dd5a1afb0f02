//! The bits before the tries of lists: most sources have no entry, and a bit that is not set says so at the cost of a read
//! in an array, where a trie of 50,000 prefixes takes twenty times an empty program.
//!
//! IPv4: a bit for every /24, and before it one for its /16: these bits are few, so that a flood of random sources finds them
//! in the cache. IPv6: bits by a hash of the /48 and, for prefixes shorter than that, of the /32; one more bit
//! says that there are prefixes shorter than a /32, and every IPv6 source goes to the trie. A bit holds for all scopes.

use crate::source::{Acl4Key, Acl6Key, SCOPE_BITS};
use crate::steer::fold;

/// Words of `acl4_bits`: a bit for every /24, then one for every /16.
pub const WORDS4: u32 = WORDS24 + (1 << 10);
/// Those of the /24s.
pub const WORDS24: u32 = 1 << 18;
/// The first bit of the /16s.
const BITS16: u32 = 1 << 24;
/// Words of `acl6_bits`.
pub const WORDS6: u32 = (1 << 18) + 1;

/// The bit of IPv6 prefixes shorter than a /32.
const WIDE: u32 = 1 << 24;

/// Whether an IPv4 source (host byte order) may have an entry; `word` reads `acl4_bits`.
#[inline(always)]
pub fn may_list4(source: u32, word: impl Fn(u32) -> u64) -> bool {
    is_set(BITS16 | source >> 16, &word) && is_set(source >> 8, &word)
}

/// Whether an IPv6 source (words as on the wire) may have an entry; `word` reads `acl6_bits`.
#[inline(always)]
pub fn may_list6(source: &[u32; 4], word: impl Fn(u32) -> u64) -> bool {
    let [a, b, ..] = *source;
    is_set(WIDE, &word) || is_set(bit48(a, b), &word) || is_set(bit32(a), &word)
}

#[inline(always)]
fn is_set(bit: u32, word: &impl Fn(u32) -> u64) -> bool {
    word(bit >> 6) & 1 << (bit & 63) != 0
}

/// The bit of a /48, from its first two words as on the wire.
#[inline(always)]
const fn bit48(a: u32, b: u32) -> u32 {
    hash(a as u64 | (u32::from_be(b) as u64 >> 16) << 32 | 1 << 48)
}

/// The bit of a /32.
#[inline(always)]
const fn bit32(a: u32) -> u32 {
    hash(a as u64)
}

#[inline(always)]
const fn hash(word: u64) -> u32 {
    (fold(fold(0, word), 0) >> 40) as u32
}

/// The first and the last bit of the /24s of an entry of `acl4`; `len` includes the bits of the scope.
pub const fn bits24(len: u32, key: &Acl4Key) -> (u32, u32) {
    let len = len.saturating_sub(SCOPE_BITS);
    let first = u32::from_be_bytes(key.addr) >> 8;
    (first, if len >= 24 { first } else { first | ((1 << (24 - len)) - 1) })
}

/// The same of its /16s.
pub const fn bits16(len: u32, key: &Acl4Key) -> (u32, u32) {
    let (first, last) = bits24(len, key);
    (BITS16 | first >> 8, BITS16 | last >> 8)
}

/// The bit of an entry of `acl6`.
pub const fn bit6(len: u32, key: &Acl6Key) -> u32 {
    let [a0, a1, a2, a3, b0, b1, ..] = key.addr;
    let (a, b) = (u32::from_ne_bytes([a0, a1, a2, a3]), u32::from_ne_bytes([b0, b1, 0, 0]));
    match len.saturating_sub(SCOPE_BITS) {
        48.. => bit48(a, b),
        32..48 => bit32(a),
        _ => WIDE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    type Words = BTreeMap<u32, u64>;

    fn set(words: &mut Words, bit: u32) {
        *words.entry(bit >> 6).or_default() |= 1 << (bit & 63);
    }

    fn words6(source: u128) -> [u32; 4] {
        let bytes = source.to_be_bytes();
        std::array::from_fn(|at| u32::from_ne_bytes(bytes[at * 4..at * 4 + 4].try_into().unwrap()))
    }

    fn lists6(words: &Words, source: &str) -> bool {
        let source: Ipv6Addr = source.parse().unwrap();
        may_list6(&words6(source.to_bits()), |word| words.get(&word).copied().unwrap_or(0))
    }

    fn entry6(words: &mut Words, network: &str, len: u32) {
        let network: Ipv6Addr = network.parse().unwrap();
        set(words, bit6(SCOPE_BITS + len, &Acl6Key { scope: [0; 4], addr: network.octets() }));
    }

    #[test]
    fn an_ipv6_source_is_looked_for_by_its_48_and_its_32() {
        let mut words = Words::new();
        entry6(&mut words, "2001:db8:1::", 48);
        entry6(&mut words, "2001:db8:2:3::1", 128);
        entry6(&mut words, "2001:d00::", 32);
        for (source, expected) in [
            ("2001:db8:1:ffff::1", true),
            ("2001:db8:2::", true),
            ("2001:db8:3::", false),
            ("2001:d00:7::1", true),
            ("2001:d01::1", false),
        ] {
            assert_eq!(lists6(&words, source), expected, "{source}");
        }
        entry6(&mut words, "fe00::", 8);
        assert!(lists6(&words, "2001:d01::1"), "with a short prefix every source is looked up");
    }

    proptest::proptest! {
        /// No source that an entry covers is passed over.
        #[test]
        fn an_entry_is_found_by_every_source_that_it_covers(address: u128, source: u128, len in 0_u32..=128) {
            let mask = if len == 0 { 0 } else { u128::MAX << (128 - len) };
            let covered = address & mask | source & !mask;
            let mut words = Words::new();
            let key = Acl6Key { scope: [0; 4], addr: (address & mask).to_be_bytes() };
            set(&mut words, bit6(SCOPE_BITS + len, &key));
            proptest::prop_assert!(may_list6(&words6(covered), |word| words.get(&word).copied().unwrap_or(0)));
        }

        #[test]
        fn the_same_of_ipv4(address: u32, source: u32, len in 0_u32..=32) {
            let mask = if len == 0 { 0 } else { u32::MAX << (32 - len) };
            let covered = address & mask | source & !mask;
            let key = Acl4Key { scope: [0; 4], addr: Ipv4Addr::from_bits(address & mask).octets() };
            let (first, last) = bits24(SCOPE_BITS + len, &key);
            let (first16, last16) = bits16(SCOPE_BITS + len, &key);
            // The words around the bits of a source, as if the entry were the only one.
            let word = |source: u32| move |word: u32| {
                let bit = if word < BITS16 >> 6 { source >> 8 } else { BITS16 | source >> 16 };
                let is_set = (first..=last).contains(&bit) || (first16..=last16).contains(&bit);
                u64::from(is_set && word == bit >> 6) << (bit & 63)
            };
            proptest::prop_assert!(may_list4(covered, word(covered)));
            proptest::prop_assert_eq!(may_list4(source, word(source)), (first..=last).contains(&(source >> 8)));
        }
    }
}
