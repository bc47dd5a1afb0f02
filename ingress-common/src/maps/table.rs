//! Every kernel map: name, type, key, value, capacity, who writes and who reads it.
//!
//! `docs/reference/bpf-maps.md` is generated from [`MAPS`]. Names are at most 15 bytes (the kernel cuts longer ones).

use super::{
    ACLS, AclVal, BUCKETS, Bucket, Count, LIMITS, Limit, ListenVal, LookupCount, Meta, SLOTS, SlotVal,
    VIP_IDS, VIPS, VipKey, VipVal,
};
use crate::source::{Acl4Key, Acl6Key, SrcKey};
use crate::verdict::REASONS;

/// Types of kernel maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// BPF_MAP_TYPE_ARRAY
    Array,
    /// BPF_MAP_TYPE_PERCPU_ARRAY
    PerCpuArray,
    /// BPF_MAP_TYPE_HASH
    Hash,
    /// BPF_MAP_TYPE_LRU_HASH
    LruHash,
    /// BPF_MAP_TYPE_LPM_TRIE
    LpmTrie,
    /// BPF_MAP_TYPE_SOCKMAP
    SockMap,
}

/// A key or value type.
#[derive(Clone, Copy, Debug)]
pub struct TypeSpec {
    /// Its name.
    pub name: &'static str,
    /// Bytes, as the kernel knows it (without the per-CPU factor).
    pub size: u32,
    /// Its fields in order: name, type, meaning.
    pub fields: &'static [(&'static str, &'static str, &'static str)],
}

/// One map.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// As in the object, in `bpftool` and in the pin directory.
    pub name: &'static str,
    /// Its type.
    pub kind: MapKind,
    /// Capacity.
    pub entries: u32,
    /// Type of the key.
    pub key: TypeSpec,
    /// Type of the value.
    pub value: TypeSpec,
    /// Who writes it.
    pub writer: &'static str,
    /// Who reads it.
    pub reader: &'static str,
    /// What it is for, and what happens when it is full.
    pub about: &'static str,
}

/// Every map, in the order in which a packet and then a connection meets it.
pub const MAPS: &[MapSpec] = &[
    MapSpec {
        name: "meta",
        kind: MapKind::Array,
        entries: 1,
        key: INDEX,
        value: TypeSpec {
            name: "Meta",
            size: size_of::<Meta>() as u32,
            fields: &[
                ("layout", "u32", "layout version of the writer"),
                ("pad", "u32", "0"),
                ("epoch", "u64", "goes up with every start of an agent; a writer with an older epoch stops"),
                (
                    "heartbeat_ns",
                    "u64",
                    "monotonic clock at the agent's last sign of life; 0: it ended in order",
                ),
                ("build", "[u8; 16]", "version of the agent, ASCII"),
            ],
        },
        writer: "agent",
        reader: "agent, `portcullis status`",
        about: "Who owns the pinned maps.",
    },
    MapSpec {
        name: "vips",
        kind: MapKind::Hash,
        entries: VIPS,
        key: VIP_KEY,
        value: TypeSpec {
            name: "VipVal",
            size: size_of::<VipVal>() as u32,
            fields: &[
                ("vip_id", "u32", "the address's block of rows in `stats`, from 1"),
                (
                    "flags",
                    "u32",
                    "1 limit, 2 only sources allowed in scope 0, 4 only sources allowed in `scope`, 8 paused, \
                     16 there are lists in scope 0, 32 there are lists in `scope`, 64 only the served ports are ours",
                ),
                ("scope", "u32", "scope of its own list entries; 0: none"),
                ("first_limit", "u16", "first of its rows in `limits`"),
                ("limits", "u16", "number of its rows in `limits`"),
                ("ports", "u32", "bit `port % 32` of every served port: no bit, no second lookup"),
            ],
        },
        writer: "agent",
        reader: "XDP",
        about: "The served addresses: (address, 0, 0) for each, and (address, port, protocol) for what it serves. \
                A packet whose destination has no entry is not ours. Full: further addresses are not served, with a message.",
    },
    MapSpec {
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
        reader: "XDP",
        about: "Lists of IPv4 sources. Full: further prefixes are not enforced, with a message.",
    },
    MapSpec {
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
        reader: "XDP",
        about: "Lists of IPv6 sources. Full: further prefixes are not enforced, with a message.",
    },
    MapSpec {
        name: "limits",
        kind: MapKind::Array,
        entries: LIMITS,
        key: INDEX,
        value: TypeSpec {
            name: "Limit",
            size: size_of::<Limit>() as u32,
            fields: &[
                ("kind", "u32", "1: new TCP connections per source; 0: the row is free"),
                ("bucket", "u32", "names the buckets; rows of the same limit of the same policy share it"),
                ("rate_ns", "u64", "time that one connection costs"),
                ("burst_ns", "u64", "time that may be borrowed"),
            ],
        },
        writer: "agent",
        reader: "XDP",
        about: "Limits; the rows of one address stand in sequence.",
    },
    MapSpec {
        name: "buckets",
        kind: MapKind::LruHash,
        entries: BUCKETS,
        key: TypeSpec {
            name: "SrcKey",
            size: size_of::<SrcKey>() as u32,
            fields: &[
                ("addr", "[u8; 16]", "the source: an IPv4 address (mapped), the /64 of an IPv6 address"),
                ("bucket", "u32", "`bucket` of the limit"),
            ],
        },
        value: TypeSpec {
            name: "Bucket",
            size: size_of::<Bucket>() as u32,
            fields: &[(
                "tat",
                "u64",
                "theoretical arrival time of the next connection, monotonic clock in ns",
            )],
        },
        writer: "XDP",
        reader: "XDP",
        about: "What each source has used of each limit. Full: the least recently used source is forgotten.",
    },
    MapSpec {
        name: "stats",
        kind: MapKind::PerCpuArray,
        entries: VIP_IDS * REASONS,
        key: TypeSpec {
            name: "u32",
            size: 4,
            fields: &[("", "u32", "`vip_id` * 32 + reason; `vip_id` 0: belongs to no served address")],
        },
        value: TypeSpec {
            name: "Count",
            size: size_of::<Count>() as u32,
            fields: &[
                ("packets", "u64", "packets"),
                ("bytes", "u64", "their bytes, Ethernet header included"),
            ],
        },
        writer: "XDP",
        reader: "agent (metrics), `portcullis status`",
        about: "Every packet, counted once by address and reason.",
    },
    MapSpec {
        name: "listen",
        kind: MapKind::Hash,
        entries: VIPS,
        key: VIP_KEY,
        value: TypeSpec {
            name: "ListenVal",
            size: size_of::<ListenVal>() as u32,
            fields: &[
                ("first_slot", "u32", "first slot of the range that holds its sockets"),
                ("slots", "u32", "length of the range; it may have holes"),
                ("port", "u16", "loopback port of the sockets' SO_REUSEPORT group"),
                ("pad", "u16", "0"),
            ],
        },
        writer: "agent",
        reader: "SK_LOOKUP",
        about: "Which sockets accept connections for an address and port. Looked up exactly, then with port 0.",
    },
    MapSpec {
        name: "slots",
        kind: MapKind::Array,
        entries: SLOTS,
        key: INDEX,
        value: TypeSpec {
            name: "SlotVal",
            size: size_of::<SlotVal>() as u32,
            fields: &[
                ("cookie", "u64", "the socket's SO_COOKIE; 0: the slot is free"),
                ("pid", "u32", "the process it came from"),
                ("handover", "u32", "which hand-over it came with"),
            ],
        },
        writer: "agent",
        reader: "agent, `portcullis status`",
        about: "What `socks` holds, since the kernel does not show sockets.",
    },
    MapSpec {
        name: "socks",
        kind: MapKind::SockMap,
        entries: SLOTS,
        key: INDEX,
        value: TypeSpec { name: "socket", size: 4, fields: &[("", "u32", "a listening socket; unreadable")] },
        writer: "agent; the kernel removes closed sockets",
        reader: "SK_LOOKUP",
        about: "The proxy's listening sockets, one per slot.",
    },
    MapSpec {
        name: "lk_stats",
        kind: MapKind::PerCpuArray,
        entries: SLOTS,
        key: INDEX,
        value: TypeSpec {
            name: "LookupCount",
            size: size_of::<LookupCount>() as u32,
            fields: &[
                ("lookups", "u64", "connections handed to the socket in this slot"),
                ("misses", "u64", "connections for the range that begins here that found no socket"),
                ("errors", "u64", "times the kernel refused the socket in this slot"),
            ],
        },
        writer: "SK_LOOKUP",
        reader: "agent (metrics), `portcullis status`",
        about: "How connections spread over the sockets.",
    },
];

const INDEX: TypeSpec = TypeSpec { name: "u32", size: 4, fields: &[("", "u32", "index")] };

const VIP_KEY: TypeSpec = TypeSpec {
    name: "VipKey",
    size: size_of::<VipKey>() as u32,
    fields: &[
        ("addr", "[u8; 16]", "served address; IPv4 as ::ffff:a.b.c.d"),
        ("port", "u16", "served port, host byte order; 0: the address itself"),
        ("proto", "u8", "IP protocol, 6 or 17; 0 with port 0"),
        ("pad", "u8", "0"),
    ],
};

const ACL_VAL: TypeSpec = TypeSpec {
    name: "AclVal",
    size: size_of::<AclVal>() as u32,
    fields: &[(
        "flags",
        "u32",
        "1 deny, 2 allow, 4 exempt; of every prefix of the scope that covers this one",
    )],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_the_kernels_limit() {
        for (at, map) in MAPS.iter().enumerate() {
            assert!(map.name.len() <= 15, "{}", map.name);
            assert!(MAPS[..at].iter().all(|other| other.name != map.name), "{}", map.name);
        }
    }

    #[test]
    fn the_described_fields_add_up_to_the_size_of_the_type() {
        fn bytes(of: &str) -> u32 {
            match of {
                "u8" => 1,
                "u16" => 2,
                "u32" => 4,
                "u64" => 8,
                "[u8; 4]" => 4,
                "[u8; 16]" => 16,
                other => panic!("no size for {other}"),
            }
        }
        for map in MAPS {
            for spec in [&map.key, &map.value] {
                let sum: u32 = spec.fields.iter().map(|(_, of, _)| bytes(of)).sum();
                assert_eq!(sum, spec.size, "{} {}", map.name, spec.name);
            }
        }
    }
}
