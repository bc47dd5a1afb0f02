//! The maps between served addresses and the sockets of proxies.

use super::{INDEX, MapKind, MapSpec, TypeSpec, VIP_KEY};
use crate::maps::{self, GroupKey, GroupVal, ListenVal, LookupCount, SlotVal, WorkerLoad};

pub(super) const LISTEN: MapSpec = MapSpec {
    name: "listen",
    kind: MapKind::Hash,
    entries: maps::VIPS,
    key: VIP_KEY,
    value: TypeSpec {
        name: "ListenVal",
        size: size_of::<ListenVal>() as u32,
        fields: &[
            ("first_slot", "u32", "first slot of the range that holds its sockets"),
            ("slots", "u32", "length of the range; it may have holes"),
            ("spare_slot", "u32", "first slot of the range of another proxy, for when this one is killed"),
            ("spare_slots", "u32", "length of that range; 0: there is none"),
            ("port", "u16", "port of the sockets' SO_REUSEPORT group"),
            ("pad", "u16", "0"),
        ],
    },
    writer: "agent",
    reader: "SK_LOOKUP",
    about: "Which sockets take connections and datagrams for an address and port. Looked up exactly, then with port 0.",
};

pub(super) const LISTEN_SEEN: MapSpec = MapSpec {
    name: "listen_seen",
    kind: MapKind::Array,
    entries: maps::LISTEN_SEEN,
    key: INDEX,
    value: TypeSpec {
        name: "u64",
        size: 8,
        fields: &[(
            "",
            "u64",
            "`vip_id` * 2^48 + port * 2^32 + 2^20 ns of the monotonic clock, cut to 32 bits",
        )],
    },
    writer: "XDP, TC",
    reader: "XDP, TC",
    about: "Where a socket listened about a millisecond ago, so that not every SYN of a flood looks for one.",
};

pub(super) const SLOTS: MapSpec = MapSpec {
    name: "slots",
    kind: MapKind::Array,
    entries: maps::SLOTS,
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
};

pub(super) const SOCKS: MapSpec = MapSpec {
    name: "socks",
    kind: MapKind::SockMap,
    entries: maps::SLOTS,
    key: INDEX,
    value: TypeSpec { name: "socket", size: 4, fields: &[("", "u32", "the proxy's socket; unreadable")] },
    writer: "agent; the kernel removes closed sockets",
    reader: "SK_LOOKUP, SK_REUSEPORT",
    about: "The proxy's sockets, one per slot. Full: a proxy with more workers is refused, with a message.",
};

pub(super) const ASSIGNED: MapSpec = MapSpec {
    name: "assigned",
    kind: MapKind::Array,
    entries: maps::SLOTS,
    key: INDEX,
    value: TypeSpec {
        name: "WorkerLoad",
        size: size_of::<WorkerLoad>() as u32,
        fields: &[
            ("published", "u32", "open connections of the slot's worker when its proxy last said so"),
            ("assigned", "u32", "connections handed to the slot since"),
        ],
    },
    writer: "agent, SK_LOOKUP",
    reader: "SK_LOOKUP, SK_REUSEPORT",
    about: "How much each worker has to do; the lighter of two random ones gets a new connection.",
};

pub(super) const GROUPS: MapSpec = MapSpec {
    name: "groups",
    kind: MapKind::Hash,
    entries: maps::GROUPS,
    key: TypeSpec {
        name: "GroupKey",
        size: size_of::<GroupKey>() as u32,
        fields: &[("port", "u16", "loopback port of a SO_REUSEPORT group"), ("family", "u16", "4 or 6")],
    },
    value: TypeSpec {
        name: "GroupVal",
        size: size_of::<GroupVal>() as u32,
        fields: &[
            ("first_slot", "u32", "first slot of the range of the proxy that serves"),
            ("slots", "u32", "length of the range"),
        ],
    },
    writer: "agent",
    reader: "SK_REUSEPORT",
    about: "Which sockets inherit the connections that wait in one that closes. Full: the kernel chooses any of the group.",
};

pub(super) const LK_STATS: MapSpec = MapSpec {
    name: "lk_stats",
    kind: MapKind::PerCpuArray,
    entries: maps::SLOTS,
    key: INDEX,
    value: TypeSpec {
        name: "LookupCount",
        size: size_of::<LookupCount>() as u32,
        fields: &[
            ("lookups", "u64", "connections and datagrams handed to the socket in this slot"),
            ("misses", "u64", "those for the range that begins here that found no socket"),
            ("errors", "u64", "times the kernel refused the socket in this slot"),
            ("moved", "u64", "connections moved to the socket in this slot when another closed"),
        ],
    },
    writer: "SK_LOOKUP, SK_REUSEPORT",
    reader: "agent (metrics), `portcullis status`",
    about: "How connections spread over the sockets.",
};
