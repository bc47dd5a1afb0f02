//! Lists → the bits that say which sources may have an entry (`ingress_common::prefilter`).

use std::collections::BTreeMap;

use ingress_common::maps::AclVal;
use ingress_common::prefilter::{WORDS4, WORDS6, bit6, bits16, bits24};
use ingress_common::source::{Acl4Key, Acl6Key};

/// What `acl4_bits` holds beside these entries.
pub fn words4(acl4: &BTreeMap<(u32, Acl4Key), AclVal>) -> Vec<u64> {
    let mut words = vec![0; WORDS4 as usize];
    for (len, key) in acl4.keys() {
        for (first, last) in [bits24(*len, key), bits16(*len, key)] {
            set(&mut words, first, last);
        }
    }
    words
}

/// What `acl6_bits` holds beside these entries.
pub fn words6(acl6: &BTreeMap<(u32, Acl6Key), AclVal>) -> Vec<u64> {
    let mut words = vec![0; WORDS6 as usize];
    for (len, key) in acl6.keys() {
        let bit = bit6(*len, key);
        set(&mut words, bit, bit);
    }
    words
}

/// Sets the bits from the first to the last.
fn set(words: &mut [u64], first: u32, last: u32) {
    let whole = u64::MAX;
    for word in first >> 6..=last >> 6 {
        let from = if word == first >> 6 { whole << (first & 63) } else { whole };
        let to = if word == last >> 6 { whole >> (63 - (last & 63)) } else { whole };
        if let Some(bits) = words.get_mut(word as usize) {
            *bits |= from & to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl4(len: u32, addr: [u8; 4]) -> BTreeMap<(u32, Acl4Key), AclVal> {
        BTreeMap::from([((32 + len, Acl4Key { scope: [0; 4], addr }), AclVal::default())])
    }

    fn count(words: &[u64]) -> u32 {
        words.iter().map(|word| word.count_ones()).sum()
    }

    #[test]
    fn a_prefix_sets_a_bit_for_each_24_and_16_of_it() {
        let all =
            [(32, 1), (25, 1), (24, 1), (23, 2), (17, 128), (16, 256), (15, 512), (8, 1 << 16), (0, 1 << 24)];
        for (len, bits) in all {
            let bits16 = (bits >> 8).max(1);
            assert_eq!(count(&words4(&acl4(len, [0, 0, 0, 0]))), bits + bits16, "/{len}");
        }
        let words = words4(&acl4(23, [198, 18, 2, 0]));
        let bit = |a: u32, b: u32, c: u32| a << 16 | b << 8 | c;
        for (at, expected) in [
            (bit(198, 18, 1), false),
            (bit(198, 18, 2), true),
            (bit(198, 18, 3), true),
            (bit(198, 18, 4), false),
        ] {
            assert_eq!(words[at as usize >> 6] >> (at & 63) & 1 == 1, expected, "{at:x}");
        }
    }

    #[test]
    fn prefixes_of_ipv6_set_one_bit_each() {
        let key = |first: u8| Acl6Key { scope: [0; 4], addr: [first; 16] };
        let acl6 = BTreeMap::from([
            ((32 + 128, key(0x20)), AclVal::default()),
            ((32 + 32, key(0x21)), AclVal::default()),
            ((32 + 8, key(0x22)), AclVal::default()),
        ]);
        assert_eq!(count(&words6(&acl6)), 3);
    }
}
