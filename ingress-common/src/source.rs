//! Keys made from a packet's source: buckets by source prefix, lists by longest prefix within a scope.

use crate::flow::{Addr, v4_of};
use crate::maps::GATE_SLOTS;
use crate::steer::fold;

/// The scope of list entries that hold for every served address.
pub const SCOPE_ALL: u32 = 0;

/// The part of a source that a limit counts as one: an IPv4 address, the /64 of an IPv6 address (what one subscriber
/// gets; anything longer could be changed per packet).
#[inline(always)]
pub const fn limited_source(source: &Addr) -> Addr {
    if v4_of(source).is_some() {
        return *source;
    }
    let [a, b, c, d, e, f, g, h, ..] = *source;
    [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Key of `buckets`, and of the maps of bans.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SrcKey {
    /// The source, see [`limited_source`].
    pub addr: Addr,
    /// `Limit::bucket` of the limit that counts; other maps say what it is there.
    pub bucket: u32,
}
const _: () = assert!(size_of::<SrcKey>() == 16 + 4);

/// The slot of `gate` of a source, in words as [`SrcKey::addr`] has them, and a limit's bucket. Keyed, so that nobody outside
/// makes two sources share one.
#[inline(always)]
pub const fn gate_slot(source: &[u32; 4], bucket: u32, secret: u64) -> u32 {
    let mut hash = fold(secret, source[0] as u64 | (source[1] as u64) << 32);
    hash = fold(hash, source[2] as u64 | (source[3] as u64) << 32);
    hash = fold(hash, bucket as u64);
    hash = fold(hash, secret);
    (hash >> 32) as u32 & (GATE_SLOTS - 1)
}

/// Data of an `acl4` key, after the prefix length (32 bits of scope + those of the address).
///
/// The scope is big endian: the trie compares bytes from the left, and the dump stays readable.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl4Key {
    /// [`SCOPE_ALL`], or `VipVal::scope`; big endian.
    pub scope: [u8; 4],
    /// IPv4 source address, as on the wire.
    pub addr: [u8; 4],
}
const _: () = assert!(size_of::<Acl4Key>() == 4 + 4);

/// Data of an `acl6` key, as [`Acl4Key`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl6Key {
    /// [`SCOPE_ALL`], or `VipVal::scope`; big endian.
    pub scope: [u8; 4],
    /// IPv6 source address, as on the wire.
    pub addr: Addr,
}
const _: () = assert!(size_of::<Acl6Key>() == 4 + 16);

/// Bits of scope that stand before the address in a list key.
pub const SCOPE_BITS: u32 = 32;

/// Key of `acl_hits`: an entry of a deny list.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HitKey {
    /// Its prefix, without host bits.
    pub addr: Addr,
    /// [`SCOPE_ALL`], or `VipVal::scope`.
    pub scope: u32,
    /// Length of the prefix; of an IPv4 prefix 32 at most.
    pub len: u32,
}
const _: () = assert!(size_of::<HitKey>() == 16 + 4 + 4);

/// The first bits of an address, in words as [`HitKey::addr`] has them; `len` as in [`HitKey`].
#[inline(always)]
pub const fn prefix(words: &[u32; 4], is_v4: bool, len: u32) -> [u32; 4] {
    let [a, b, c, d] = *words;
    let bits = if is_v4 { 96 + len } else { len };
    [
        a & mask(bits),
        b & mask(bits.saturating_sub(32)),
        c & mask(bits.saturating_sub(64)),
        d & mask(bits.saturating_sub(96)),
    ]
}

/// The first bits of a word as it is on the wire.
#[inline(always)]
const fn mask(bits: u32) -> u32 {
    match bits {
        0 => 0,
        32.. => u32::MAX,
        bits => (u32::MAX << (32 - bits)).to_be(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::addr_of;

    fn source(text: &str) -> Addr {
        limited_source(&addr_of(text.parse().unwrap()))
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
    }

    #[test]
    fn sources_spread_over_the_gate_and_nobody_knows_how() {
        let slots = |secret: u64| -> std::collections::BTreeSet<u32> {
            (0..10_000).map(|n: u32| gate_slot(&[0, 0, 0xffff_0000, n.to_be()], 7, secret)).collect()
        };
        // Of 10,000 in 524,288 slots about 95 share one by chance.
        assert!(slots(1).len() > 9_800, "{}", slots(1).len());
        assert!(slots(1).intersection(&slots(2)).count() < 1_000);
        let source = [1, 2, 3, 4];
        assert_ne!(gate_slot(&source, 1, 9), gate_slot(&source, 2, 9), "limits have slots of their own");
    }

    proptest::proptest! {
        /// The words are those of the prefix as everybody else computes it.
        #[test]
        fn a_prefix_is_the_network_of_the_address(v4: u32, v6: u128, len in 0_u32..=128) {
            let words = |addr: Addr| -> [u32; 4] {
                std::array::from_fn(|at| u32::from_ne_bytes(addr[at * 4..at * 4 + 4].try_into().unwrap()))
            };
            let (mask4, mask6) = (u32::MAX.checked_shl(32 - len.min(32)).unwrap_or(0), u128::MAX.checked_shl(128 - len).unwrap_or(0));
            let of = |ip: std::net::IpAddr| words(addr_of(ip));
            proptest::prop_assert_eq!(prefix(&of(std::net::Ipv6Addr::from(v6).into()), false, len), of(std::net::Ipv6Addr::from(v6 & mask6).into()));
            let v4 = (std::net::Ipv4Addr::from(v4), std::net::Ipv4Addr::from(v4 & mask4));
            proptest::prop_assert_eq!(prefix(&of(v4.0.into()), true, len.min(32)), of(v4.1.into()));
        }
    }

    #[test]
    fn every_ipv4_address_is_its_own_source() {
        assert_ne!(source("198.18.0.1"), source("198.18.0.2"));
    }
}
