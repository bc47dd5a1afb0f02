//! The ring buffer of drops, and what keeps a flood from filling it.

use super::{INDEX, MapKind, MapSpec, TypeSpec};
use crate::event::{Event, EventRate};
use crate::maps;

pub(super) const EVENTS: MapSpec = MapSpec {
    name: "events",
    kind: MapKind::RingBuf,
    entries: maps::EVENTS,
    key: TypeSpec { name: "()", size: 0, fields: &[] },
    value: TypeSpec {
        name: "Event",
        size: size_of::<Event>() as u32,
        fields: &[
            ("time_ns", "u64", "monotonic clock"),
            ("source", "[u8; 16]", "who sent the packet; IPv4 as ::ffff:a.b.c.d"),
            ("vip_id", "u32", "`vip_id` of the served address"),
            ("untold", "u32", "drops that the CPU did not tell of since its last record"),
            ("interface", "u32", "number of the interface that it came in by"),
            ("bytes", "u32", "its bytes, Ethernet header included"),
            ("reason", "u16", "number of the reason"),
            ("source_port", "u16", "port of the sender; 0: none"),
            ("port", "u16", "port that it is for; 0: none"),
            ("proto", "u16", "protocol of the flow; 0: it has no ports"),
        ],
    },
    writer: "XDP, TC",
    reader: "agent, `portcullis drops`",
    about: "A sample of the packets that were dropped; one process at a time reads it, which takes the records out. The capacity is \
            in bytes. Full, because nobody reads: further drops are counted as untold.",
};

pub(super) const EVENT_RATE: MapSpec = MapSpec {
    name: "event_rate",
    kind: MapKind::PerCpuArray,
    entries: 1,
    key: INDEX,
    value: TypeSpec {
        name: "EventRate",
        size: size_of::<EventRate>() as u32,
        fields: &[
            ("tat", "u64", "theoretical arrival time of the next record, monotonic clock in ns"),
            ("untold", "u64", "drops without a record since the last one"),
            ("told", "u64", "records written"),
            ("untold_ever", "u64", "drops without a record"),
        ],
    },
    writer: "XDP, TC",
    reader: "XDP, TC, agent (metrics)",
    about: "Keeps the records in `events` to 100 per second and CPU, 200 at once.",
};
