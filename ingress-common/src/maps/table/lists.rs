//! The maps of lists.

use super::{COUNT, MapKind, MapSpec, TypeSpec};
use crate::maps::{self, ACLS, AclVal};
use crate::prefilter::{WORDS4, WORDS6};
use crate::source::{Acl4Key, Acl6Key, HitKey};

pub(super) const ACL4: MapSpec = MapSpec {
    name: "acl4",
    kind: MapKind::LpmTrie,
    entries: ACLS,
    key: TypeSpec {
        name: "Key<Acl4Key>",
        size: 4 + size_of::<Acl4Key>() as u32,
        fields: &[
            ("prefix_len", "u32", "32 + bits of the prefix"),
            ("data.scope", "[u8; 4]", "0: every served address, else `vips.scope`; big endian"),
            ("data.addr", "[u8; 4]", "IPv4 prefix of the source"),
        ],
    },
    value: ACL_VAL,
    writer: "agent",
    reader: "XDP, TC",
    about: "Lists of IPv4 sources. Lists may hold half of it, so that a new list fits beside the old one while it changes; the lists of a policy that would take more stay as they were, with a message, and the new ones hold at accept.",
};

pub(super) const ACL6: MapSpec = MapSpec {
    name: "acl6",
    kind: MapKind::LpmTrie,
    entries: ACLS,
    key: TypeSpec {
        name: "Key<Acl6Key>",
        size: 4 + size_of::<Acl6Key>() as u32,
        fields: &[
            ("prefix_len", "u32", "32 + bits of the prefix"),
            ("data.scope", "[u8; 4]", "0: every served address, else `vips.scope`; big endian"),
            ("data.addr", "[u8; 16]", "IPv6 prefix of the source"),
        ],
    },
    value: ACL_VAL,
    writer: "agent",
    reader: "XDP, TC",
    about: "Lists of IPv6 sources. Lists may hold half of it, so that a new list fits beside the old one while it changes; the lists of a policy that would take more stay as they were, with a message, and the new ones hold at accept.",
};

pub(super) const ACL4_BITS: MapSpec = MapSpec {
    name: "acl4_bits",
    kind: MapKind::Array,
    entries: WORDS4,
    key: TypeSpec {
        name: "u32",
        size: 4,
        fields: &[("", "u32", "the /24 of the source, divided by 64; from 2^18 on its /16, divided by 64")],
    },
    value: TypeSpec {
        name: "u64",
        size: 8,
        fields: &[("", "u64", "64 bits; not set: no entry, in any scope")],
    },
    writer: "agent",
    reader: "XDP, TC",
    about: "Which IPv4 sources may have an entry in `acl4`: the trie is not asked about the others.",
};

pub(super) const ACL6_BITS: MapSpec = MapSpec {
    name: "acl6_bits",
    kind: MapKind::Array,
    entries: WORDS6,
    key: TypeSpec {
        name: "u32",
        size: 4,
        fields: &[(
            "",
            "u32",
            "a hash of the /48 or the /32 of the source, divided by 64; the last word: there are shorter prefixes",
        )],
    },
    value: TypeSpec {
        name: "u64",
        size: 8,
        fields: &[("", "u64", "64 bits; not set: no entry, in any scope")],
    },
    writer: "agent",
    reader: "XDP, TC",
    about: "Which IPv6 sources may have an entry in `acl6`: the trie is not asked about the others. With a prefix shorter than a /32 it is asked about all.",
};

pub(super) const ACL_HITS: MapSpec = MapSpec {
    name: "acl_hits",
    kind: MapKind::LruPerCpuHash,
    entries: maps::ACL_HITS,
    key: TypeSpec {
        name: "HitKey",
        size: size_of::<HitKey>() as u32,
        fields: &[
            ("addr", "[u8; 16]", "prefix of the entry; IPv4 as ::ffff:a.b.c.d"),
            ("scope", "u32", "0: every served address, else `vips.scope`"),
            ("len", "u32", "bits of the prefix; of an IPv4 prefix 32 at most"),
        ],
    },
    value: COUNT,
    writer: "XDP, TC",
    reader: "agent (metrics), `portcullis top lists`",
    about: "What each entry of a deny list dropped; the longest that covers the source, that for every address first. The agent \
            removes entries with their prefix. Full: the entry that dropped least recently is forgotten.",
};

const ACL_VAL: TypeSpec = TypeSpec {
    name: "AclVal",
    size: size_of::<AclVal>() as u32,
    fields: &[
        ("flags", "u16", "1 deny, 2 allow, 4 exempt; of every prefix of the scope that covers this one"),
        ("deny_len", "u16", "bits of the longest of these that denies, the scope left out"),
    ],
};
