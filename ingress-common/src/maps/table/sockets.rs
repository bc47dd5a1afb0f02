//! The maps between served addresses and the sockets of proxies.

use super::{INDEX, MapKind, MapSpec, TypeSpec, VIP_KEY};
use crate::maps::{self, ListenVal, LookupCount, SlotVal};

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
            ("port", "u16", "loopback port of the sockets' SO_REUSEPORT group"),
            ("pad", "u16", "0"),
        ],
    },
    writer: "agent",
    reader: "SK_LOOKUP",
    about: "Which sockets accept connections for an address and port. Looked up exactly, then with port 0.",
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
    value: TypeSpec { name: "socket", size: 4, fields: &[("", "u32", "a listening socket; unreadable")] },
    writer: "agent; the kernel removes closed sockets",
    reader: "SK_LOOKUP",
    about: "The proxy's listening sockets, one per slot.",
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
            ("lookups", "u64", "connections handed to the socket in this slot"),
            ("misses", "u64", "connections for the range that begins here that found no socket"),
            ("errors", "u64", "times the kernel refused the socket in this slot"),
        ],
    },
    writer: "SK_LOOKUP",
    reader: "agent (metrics), `portcullis status`",
    about: "How connections spread over the sockets.",
};
