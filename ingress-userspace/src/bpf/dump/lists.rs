//! Lists, the bits before them, and what their entries caught.

use std::net::{IpAddr, Ipv4Addr};

use ingress_common::maps::{AclVal, Count};
use ingress_common::prefilter::{WORDS4, WORDS6, WORDS24};
use ingress_common::source::{Acl4Key, Acl6Key, HitKey, SCOPE_BITS};
use serde_json::{Value, json};

use super::{Table, flag_names};
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::{hits, sync, words};

const ACL: &[&str] = &["scope", "prefix", "flags", "denied_by"];

pub(super) fn acl4(maps: &Maps) -> Result<Table, MapsError> {
    let row = |((length, key), value): ((u32, Acl4Key), AclVal)| {
        cells(u32::from_be_bytes(key.scope), IpAddr::from(key.addr), length, value)
    };
    Ok(Table::of(ACL, sync::read_trie(&maps.acl4, "acl4")?, row))
}

pub(super) fn acl6(maps: &Maps) -> Result<Table, MapsError> {
    let row = |((length, key), value): ((u32, Acl6Key), AclVal)| {
        cells(u32::from_be_bytes(key.scope), IpAddr::from(key.addr), length, value)
    };
    Ok(Table::of(ACL, sync::read_trie(&maps.acl6, "acl6")?, row))
}

fn cells(scope: u32, address: IpAddr, length: u32, value: AclVal) -> Vec<Value> {
    let prefix = format!("{address}/{}", length.saturating_sub(SCOPE_BITS));
    let names = [(AclVal::DENY, "deny"), (AclVal::ALLOW, "allow"), (AclVal::EXEMPT, "exempt")];
    let flags = u32::from(value.flags);
    let denied_by = (flags & AclVal::DENY != 0).then(|| format!("/{}", value.deny_len));
    vec![json!(scope), json!(prefix), json!(flag_names(flags, &names)), json!(denied_by)]
}

/// As ranges: a short prefix sets thousands of bits.
pub(super) fn acl4_bits(maps: &Maps) -> Result<Table, MapsError> {
    let words = words::read(&maps.acl4_bits, WORDS4).map_err(MapsError::of("acl4_bits"))?;
    let (of_24, of_16) = words.split_at_checked(WORDS24 as usize).unwrap_or_default();
    let of_16 = ranges(of_16).into_iter().map(|range| (16, range));
    let rows = ranges(of_24).into_iter().map(|range| (24, range)).chain(of_16);
    Ok(Table::of(&["each", "first", "last", "networks"], rows, |(len, (first, last))| {
        let host = 32 - len;
        let (from, to) = (first << host, last << host | ((1 << host) - 1));
        let count = u64::from(last - first) + 1;
        vec![
            json!(format!("/{len}")),
            json!(Ipv4Addr::from_bits(from)),
            json!(Ipv4Addr::from_bits(to)),
            json!(count),
        ]
    }))
}

/// Hashes do not tell what they were made of.
pub(super) fn acl6_bits(maps: &Maps) -> Result<Table, MapsError> {
    let words = words::read(&maps.acl6_bits, WORDS6).map_err(MapsError::of("acl6_bits"))?;
    let set = (0..WORDS6).zip(words).filter(|(_, word)| *word != 0);
    Ok(Table::of(&["word", "bits", "stands_for"], set, |(at, word)| {
        let what =
            if at + 1 == WORDS6 { "there are prefixes shorter than /32" } else { "hashes of prefixes" };
        vec![json!(at), json!(format!("{word:#018x}")), json!(what)]
    }))
}

/// Runs of bits that are set, first and last.
fn ranges(words: &[u64]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for (at, word) in (0_u32..).zip(words).filter(|(_, word)| **word != 0) {
        for bit in (0..64).filter(|bit| word >> bit & 1 != 0).map(|bit| at * 64 + bit) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == bit => *last = bit,
                _ => ranges.push((bit, bit)),
            }
        }
    }
    ranges
}

pub(super) fn acl_hits(maps: &Maps) -> Result<Table, MapsError> {
    let row = |(key, count): (HitKey, Count)| {
        let prefix = hits::prefix(&key).to_string();
        vec![json!(key.scope), json!(prefix), json!(count.packets), json!(count.bytes)]
    };
    Ok(Table::of(&["scope", "prefix", "packets", "bytes"], hits::read(maps)?, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_bits_are_one_range_across_words() {
        assert_eq!(ranges(&[0b110, 0, 1 << 63, 1]), [(1, 2), (191, 192)]);
        assert_eq!(ranges(&[u64::MAX, u64::MAX]), [(0, 127)]);
        assert_eq!(ranges(&[0, 0]), []);
    }

    #[test]
    fn an_entry_says_which_prefix_denies_it() {
        let value = AclVal { flags: (AclVal::DENY | AclVal::EXEMPT) as u16, deny_len: 24 };
        let row = cells(7, IpAddr::from([203, 0, 113, 5]), SCOPE_BITS + 32, value);
        assert_eq!(row, [json!(7), json!("203.0.113.5/32"), json!("deny,exempt"), json!("/24")]);
        let value = AclVal { flags: AclVal::ALLOW as u16, deny_len: 0 };
        assert_eq!(cells(0, IpAddr::from([0, 0, 0, 0]), SCOPE_BITS, value)[3], Value::Null);
    }
}
