//! The maps of bans, and of what leads to one.

use super::{MapKind, MapSpec, TypeSpec};
use crate::maps::{self, Ban, BanAsk, Strikes};
use crate::source::SrcKey;

pub(super) const BANS: MapSpec = MapSpec {
    name: "bans",
    kind: MapKind::LruHash,
    entries: maps::BANS,
    key: TypeSpec {
        name: "SrcKey",
        size: size_of::<SrcKey>() as u32,
        fields: &[
            ("addr", "[u8; 16]", "the source: an IPv4 address (mapped), the /64 of an IPv6 address"),
            ("bucket", "u32", "0: every served address whose policies ban"),
        ],
    },
    value: TypeSpec {
        name: "Ban",
        size: size_of::<Ban>() as u32,
        fields: &[
            ("expires_ns", "u64", "monotonic clock in ns when it ends, whether there is an agent or not"),
            ("since_ns", "u64", "monotonic clock in ns when it began"),
            ("policy", "u32", "`policy` of the limit that was broken"),
            ("kind", "u32", "what there was too much of: 1 new TCP connections, 2 packets, 4 bytes"),
            ("name", "[u8; 32]", "name of the policy, cut where it is longer"),
        ],
    },
    writer: "agent, `portcullis bans`",
    reader: "XDP, TC",
    about: "Sources whose packets are dropped until their time is over, asked for at addresses with flag 2048. \
            The agent bans no more than half of the capacity at a time and says so, so that none is forgotten.",
};

pub(super) const STRIKES: MapSpec = MapSpec {
    name: "strikes",
    kind: MapKind::LruHash,
    entries: maps::STRIKES,
    key: TypeSpec {
        name: "SrcKey",
        size: size_of::<SrcKey>() as u32,
        fields: &[
            ("addr", "[u8; 16]", "the source: an IPv4 address (mapped), the /64 of an IPv6 address"),
            ("bucket", "u32", "`policy` of the limit that was broken"),
        ],
    },
    value: TypeSpec {
        name: "Strikes",
        size: size_of::<Strikes>() as u32,
        fields: &[
            ("since_ns", "u64", "monotonic clock in ns at the first of these drops"),
            ("asked_ns", "u64", "monotonic clock in ns when a ban was last asked for; 0: never"),
            ("drops", "u32", "packets that limits of the policy refused since then"),
            ("pad", "u32", "0"),
        ],
    },
    writer: "XDP, TC",
    reader: "XDP, TC",
    about: "What limits refused of each source, where the policy bans for it. Full: the least recently used is forgotten.",
};

pub(super) const BAN_ASKS: MapSpec = MapSpec {
    name: "ban_asks",
    kind: MapKind::Queue,
    entries: maps::BAN_ASKS,
    key: TypeSpec { name: "()", size: 0, fields: &[] },
    value: TypeSpec {
        name: "BanAsk",
        size: size_of::<BanAsk>() as u32,
        fields: &[
            ("source", "[u8; 16]", "the source: an IPv4 address (mapped), the /64 of an IPv6 address"),
            ("policy", "u32", "`policy` of the limit that was broken"),
            ("kind", "u32", "what there was too much of: 1 new TCP connections, 2 packets, 4 bytes"),
        ],
    },
    writer: "XDP, TC",
    reader: "agent",
    about: "Sources that the agent shall ban; it takes them out every second. Full: a source is named again by its next \
            refused packet. `portcullis maps ban_asks` shows the next one.",
};
