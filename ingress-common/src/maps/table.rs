//! Every kernel map: name, type, key, value, capacity, who writes and who reads it.
//!
//! `docs/reference/bpf-maps.md` is generated from [`MAPS`]. Names are at most 15 bytes (the kernel cuts longer ones).

mod bans;
mod events;
pub mod layout;
mod limits;
mod lists;
mod sockets;
mod steering;

use super::{Count, EGRESS, IFACES, IfaceVal, Meta, VIP_IDS, VIPS, VipKey, VipVal};
use crate::source::SrcKey;
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
    /// BPF_MAP_TYPE_LRU_PERCPU_HASH
    LruPerCpuHash,
    /// BPF_MAP_TYPE_LPM_TRIE
    LpmTrie,
    /// BPF_MAP_TYPE_SOCKMAP
    SockMap,
    /// BPF_MAP_TYPE_ARRAY_OF_MAPS; the value is the number of an inner map.
    ArrayOfMaps,
    /// BPF_MAP_TYPE_QUEUE; without keys.
    Queue,
    /// BPF_MAP_TYPE_RINGBUF; without keys, its value is what one record holds and its capacity counts bytes.
    RingBuf,
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
                ("flags", "u32", "1: the agent ended in order"),
                ("epoch", "u64", "goes up with every start of an agent; a writer with an older epoch stops"),
                ("heartbeat_ns", "u64", "monotonic clock at the agent's last sign of life"),
                ("secret", "u64", "key of the hash behind `gate`, made once"),
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
                     16 there are lists in scope 0, 32 there are lists in `scope`, 64 only the served ports are ours, \
                     128 announced by this node, 256 limits of packets or bytes, 512 announced by some node of ours, \
                     1024 SYN cookies, 2048 sources may be banned",
                ),
                ("scope", "u32", "scope of its own list entries; 0: none"),
                ("first_limit", "u16", "first of its rows in `limits`"),
                ("limits", "u16", "number of its rows in `limits`"),
                ("ports", "u32", "bit `port % 32` of every served port: no bit, no second lookup"),
                ("pool", "u16", "its table in `pools`; 0: this node owns every flow that it receives"),
                ("mss", "u16", "largest TCP segment its connections announce; 0: what the interface permits"),
            ],
        },
        writer: "agent",
        reader: "XDP, TC",
        about: "The served addresses: (address, 0, 0) for each, and (address, port, protocol) for what it serves. \
                A packet whose destination has no entry is not ours. Full: further addresses are not served, with a message.",
    },
    lists::ACL4,
    lists::ACL6,
    lists::ACL4_BITS,
    lists::ACL6_BITS,
    lists::ACL_HITS,
    limits::LIMITS,
    limits::GATE,
    limits::GLOBALS,
    limits::BUCKETS,
    bans::BANS,
    bans::STRIKES,
    bans::BAN_ASKS,
    MapSpec {
        name: "stats",
        kind: MapKind::PerCpuArray,
        entries: VIP_IDS * REASONS,
        key: TypeSpec {
            name: "u32",
            size: 4,
            fields: &[("", "u32", "`vip_id` * 32 + reason; `vip_id` 0: belongs to no served address")],
        },
        value: COUNT,
        writer: "XDP, TC",
        reader: "agent (metrics), `portcullis status`",
        about: "Every packet, counted once by address and reason.",
    },
    steering::CLUSTER,
    steering::POOLS,
    steering::NODES,
    steering::NODE_SEEN,
    steering::PEERS,
    steering::NODE_STATS,
    MapSpec {
        name: "ifaces",
        kind: MapKind::Hash,
        entries: IFACES,
        key: TypeSpec {
            name: "u32",
            size: 4,
            fields: &[("", "u32", "number of the interface, as `ip link` prints it")],
        },
        value: TypeSpec {
            name: "IfaceVal",
            size: size_of::<IfaceVal>() as u32,
            fields: &[
                ("addr4", "[u8; 4]", "an IPv4 address of its own; 0.0.0.0: it has none"),
                ("mac", "[u8; 6]", "its hardware address"),
                ("flags", "u16", "1: what XDP sends back by it is lost, answers are left to the stack"),
            ],
        },
        writer: "agent",
        reader: "XDP, TC",
        about: "The interfaces that programs run on. Full: on further ones ARP requests of VIPs go out as probes without a sender.",
    },
    MapSpec {
        name: "egress",
        kind: MapKind::LruPerCpuHash,
        entries: EGRESS,
        key: TypeSpec {
            name: "SrcKey",
            size: size_of::<SrcKey>() as u32,
            fields: &[
                ("addr", "[u8; 16]", "the client: an IPv4 address (mapped), the /64 of an IPv6 address"),
                ("bucket", "u32", "`vip_id` of the address that it is sent from"),
            ],
        },
        value: COUNT,
        writer: "TC",
        reader: "`portcullis top`",
        about: "What was sent to each client, by the address that it came from. Full: the client that was sent to least recently is forgotten.",
    },
    sockets::LISTEN,
    sockets::LISTEN_SEEN,
    sockets::SLOTS,
    sockets::SOCKS,
    sockets::ASSIGNED,
    sockets::GROUPS,
    sockets::LK_STATS,
    events::EVENTS,
    events::EVENT_RATE,
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

const COUNT: TypeSpec = TypeSpec {
    name: "Count",
    size: size_of::<Count>() as u32,
    fields: &[("packets", "u64", "packets"), ("bytes", "u64", "their bytes, Ethernet header included")],
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
}
