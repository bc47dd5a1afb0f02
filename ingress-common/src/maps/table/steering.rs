//! The maps by which nodes share the flows of a pool.

use super::{COUNT, INDEX, MapKind, MapSpec, TypeSpec};
use crate::maps::{self, Cluster, NodeSeen, NodeVal};

pub(super) const CLUSTER: MapSpec = MapSpec {
    name: "cluster",
    kind: MapKind::Array,
    entries: 1,
    key: INDEX,
    value: TypeSpec {
        name: "Cluster",
        size: size_of::<Cluster>() as u32,
        fields: &[
            ("seed", "u64", "key of the hash of flows, the same on every node"),
            ("keys", "[u64; 2]", "keys of the tunnel: the first is sent, both are accepted"),
            ("me", "u32", "number of this node in `nodes`; 0: it takes part in no pool"),
            ("flags", "u32", "1 IP in IP is sent instead of UDP, 2 it is taken"),
        ],
    },
    writer: "agent",
    reader: "XDP",
    about: "What this node shares with the others. Holds keys: no command of ours prints it.",
};

pub(super) const POOLS: MapSpec = MapSpec {
    name: "pools",
    kind: MapKind::ArrayOfMaps,
    entries: maps::POOLS,
    key: INDEX,
    value: TypeSpec {
        name: "map of u64",
        size: 4,
        fields: &[(
            "",
            "u32",
            "number of an array of 65,537 slots, each four `u16` numbers of nodes, best first",
        )],
    },
    writer: "agent",
    reader: "XDP",
    about: "A table per pool (524 kB each): which nodes may own the flows of a slot. Replaced whole, in one step.",
};

pub(super) const NODES: MapSpec = MapSpec {
    name: "nodes",
    kind: MapKind::Array,
    entries: maps::NODES,
    key: INDEX,
    value: TypeSpec {
        name: "NodeVal",
        size: size_of::<NodeVal>() as u32,
        fields: &[
            ("addr", "[u8; 16]", "its end of the tunnel"),
            ("source", "[u8; 16]", "this node's address on the way there"),
            (
                "recent_until_ns",
                "u64",
                "until then connections it should own may live elsewhere, monotonic clock",
            ),
            ("ifindex", "u32", "the interface that leads there; 0: the node is not known"),
            ("flags", "u32", "1 draining, 2 down"),
            ("mac", "[u8; 6]", "of the next hop; zeros: the kernel's routing table is asked"),
            ("source_mac", "[u8; 6]", "of our interface"),
            ("mtu", "u16", "bytes that an IP packet may have on the way there"),
            ("vlan", "u16", "tag of the frames to it; 0: none"),
        ],
    },
    writer: "agent",
    reader: "XDP",
    about: "The nodes of all pools. Numbers are this node's own; the tables of two nodes may name one node differently.",
};

pub(super) const NODE_SEEN: MapSpec = MapSpec {
    name: "node_seen",
    kind: MapKind::Array,
    entries: maps::NODES,
    key: INDEX,
    value: TypeSpec {
        name: "NodeSeen",
        size: size_of::<NodeSeen>() as u32,
        fields: &[
            ("answered_ns", "u64", "when it last answered a probe, monotonic clock"),
            ("led_ns", "u64", "when it last did so with an agent that is alive"),
            ("absent_ns", "u64", "when this node last had no listener for a connection"),
            ("armed_ns", "u64", "when it last answered by SYN cookies, or said so"),
        ],
    },
    writer: "XDP",
    reader: "XDP, agent",
    about: "What the program itself knows of the nodes.",
};

pub(super) const PEERS: MapSpec = MapSpec {
    name: "peers",
    kind: MapKind::Hash,
    entries: maps::PEERS,
    key: TypeSpec {
        name: "Addr",
        size: 16,
        fields: &[("", "[u8; 16]", "address of a node, also of this one")],
    },
    value: TypeSpec { name: "u32", size: 4, fields: &[("", "u32", "its number in `nodes`")] },
    writer: "agent",
    reader: "XDP",
    about: "Who may send packets through the tunnel, and to which addresses. Full: packets of further nodes are not taken.",
};

pub(super) const NODE_STATS: MapSpec = MapSpec {
    name: "node_stats",
    kind: MapKind::PerCpuArray,
    entries: maps::NODES,
    key: INDEX,
    value: COUNT,
    writer: "XDP",
    reader: "agent (metrics), `portcullis status`",
    about: "What was sent on to each node; in row 0 what came from them.",
};
