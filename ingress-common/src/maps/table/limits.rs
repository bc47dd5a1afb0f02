//! The maps of limits and of what has been used of them.

use super::{INDEX, MapKind, MapSpec, TypeSpec};
use crate::maps::{self, Bucket, GateSlot, Limit};
use crate::source::SrcKey;

pub(super) const LIMITS: MapSpec = MapSpec {
    name: "limits",
    kind: MapKind::Array,
    entries: maps::LIMITS,
    key: INDEX,
    value: TypeSpec {
        name: "Limit",
        size: size_of::<Limit>() as u32,
        fields: &[
            ("kind", "u32", "1: new TCP connections, 2: packets, 4: bytes; 0: the row is free"),
            ("per", "u32", "0: a bucket for each source, 1: one for each served address"),
            (
                "bucket",
                "u32",
                "names the buckets; rows of the same limit of the same policy share it, whatever the rate",
            ),
            ("ban_after", "u32", "so many refused packets of a source ask for a ban; 0: never"),
            ("rate_ns", "u64", "time that one connection or packet costs"),
            ("rate_q20", "u64", "time that a byte costs, in ns / 2^20"),
            ("burst_ns", "u64", "time that may be borrowed"),
            ("ban_within_ns", "u64", "for how long refused packets count together"),
            ("policy", "u32", "names the policy in `strikes`, `ban_asks` and `bans`"),
            ("pad", "u32", "0"),
        ],
    },
    writer: "agent",
    reader: "XDP, TC",
    about: "Limits; the rows of one address stand in sequence. Full: further addresses keep the limits that they have, or get none, with a message.",
};

pub(super) const GATE: MapSpec = MapSpec {
    name: "gate",
    kind: MapKind::Array,
    entries: maps::GATE_SLOTS,
    key: TypeSpec {
        name: "u32",
        size: 4,
        fields: &[("", "u32", "hash of `meta.secret`, the source and `bucket` of the limit")],
    },
    value: TypeSpec {
        name: "GateSlot",
        size: size_of::<GateSlot>() as u32,
        fields: &[
            (
                "tat",
                "u64",
                "theoretical arrival time of the sources that share the slot, monotonic clock in ns",
            ),
            ("apart_until", "u64", "until then each of them has a bucket of its own in `buckets`"),
        ],
    },
    writer: "XDP, TC",
    reader: "XDP, TC",
    about: "What sources have used of limits, several to a slot: as long as they keep the limit together, nothing else is \
            touched. Never full.",
};

pub(super) const GLOBALS: MapSpec = MapSpec {
    name: "globals",
    kind: MapKind::Array,
    entries: maps::GLOBALS,
    key: INDEX,
    value: TypeSpec {
        name: "u64",
        size: 8,
        fields: &[("", "u64", "theoretical arrival time, monotonic clock in ns")],
    },
    writer: "XDP, TC",
    reader: "XDP, TC",
    about: "Rates of the node. Row 0: sources that get a bucket, 10,000 per second at most; beyond that the new ones of a slot \
            share its limit. Row 1: sources that get an entry of `strikes`, as many; of further ones nothing is counted.",
};

pub(super) const BUCKETS: MapSpec = MapSpec {
    name: "buckets",
    kind: MapKind::LruHash,
    entries: maps::BUCKETS,
    key: TypeSpec {
        name: "SrcKey",
        size: size_of::<SrcKey>() as u32,
        fields: &[
            (
                "addr",
                "[u8; 16]",
                "the source: an IPv4 address (mapped), the /64 of an IPv6 address; the served address where a limit is per address",
            ),
            ("bucket", "u32", "`bucket` of the limit"),
        ],
    },
    value: TypeSpec {
        name: "Bucket",
        size: size_of::<Bucket>() as u32,
        fields: &[("tat", "u64", "theoretical arrival time, monotonic clock in ns")],
    },
    writer: "XDP, TC",
    reader: "XDP, TC",
    about: "What a source has used of a limit since its slot of `gate` was over it, and what an address has used of its own. \
            Full: the least recently used is forgotten.",
};
