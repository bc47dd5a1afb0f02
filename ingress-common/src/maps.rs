//! The types in the kernel maps; the maps themselves are declared in [`table`].
//!
//! The loader compares pinned maps with that table before it reuses them, because the kernel does not. Ports are in host
//! byte order, addresses 16 bytes as on the wire. A changed type here bumps [`LAYOUT_VERSION`].

mod ban;
mod limit;
mod list;
pub mod memory;
pub mod table;

pub use ban::{Ban, BanAsk, Strikes};
pub use limit::{Bucket, GateSlot, Limit};
pub use list::{ACLS, AclVal, LISTED};

use crate::flow::Addr;

/// Names the directory of the pins, `…/portcullis/v2/`: two layouts can live side by side during an upgrade.
pub const LAYOUT_VERSION: u32 = if cfg!(feature = "next-layout") { 3 } else { 2 };

/// Served (address, port, protocol) entries, the address entries included.
pub const VIPS: u32 = 4_096;
/// Served addresses that are counted apart; `vip_id` is below this.
pub const VIP_IDS: u32 = 1_024;
/// Entries of deny lists whose hits are remembered; that which caught something least recently goes first.
pub const ACL_HITS: u32 = 8_192;
/// Limits, over all addresses.
pub const LIMITS: u32 = 1_024;
/// Limits that can apply to one address.
pub const LIMITS_PER_VIP: u16 = 8;
/// Sources whose buckets are remembered; the least recently used goes first.
pub const BUCKETS: u32 = if cfg!(feature = "next-layout") { 65_536 } else { 131_072 };
/// Slots of `gate`; a power of two.
pub const GATE_SLOTS: u32 = 1 << 19;
/// Rows of `globals`.
pub const GLOBALS: u32 = 8;
/// The row of `globals` for sources that get a bucket.
pub const NEW_SOURCES_ROW: u32 = 0;
/// The row of `globals` for sources whose refused packets are counted.
pub const NEW_STRIKES_ROW: u32 = 1;
/// Sources that are banned at a time; the agent stops at half of it, so that the kernel forgets none.
pub const BANS: u32 = 16_384;
/// Sources whose refused packets are counted; the least recently used goes first.
pub const STRIKES: u32 = 16_384;
/// Sources that wait for the agent to ban them.
pub const BAN_ASKS: u32 = 1_024;
/// Pools with tables of their own; a pool's number is below this, and 0 is none.
pub const POOLS: u32 = 64;
/// Nodes of all pools; a node's number is below this, and 0 is none.
pub const NODES: u32 = 1_024;
/// Addresses of these nodes.
pub const PEERS: u32 = 2_048;
/// Interfaces that programs run on.
pub const IFACES: u32 = 256;
/// Clients, per VIP, whose traffic is remembered; the least recently used goes first.
pub const EGRESS: u32 = 8_192;
/// Bytes of the ring buffer of events: a power of two.
pub const EVENTS: u32 = 1 << 20;
/// Listening sockets of all proxies on the node.
pub const SLOTS: u32 = 1_024;
/// Where the packet that the program `portcullis_carry` is run with holds the number of a slot.
pub const CARRY_SLOT_AT: usize = 14;
/// SO_REUSEPORT groups of listening sockets.
pub const GROUPS: u32 = 512;
/// Slots that SK_LOOKUP tries for one connection before it gives up: more than the holes of a range.
pub const SLOT_TRIES: u64 = 128;

/// Value of `meta`: who owns the pinned maps. Everything up to `heartbeat_ns` is the same in every layout, so that agents
/// of two versions know of each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// [`LAYOUT_VERSION`] of the writer.
    pub layout: u32,
    /// Bits, the constants below.
    pub flags: u32,
    /// Goes up with every start of an agent; a writer with an older epoch stops.
    pub epoch: u64,
    /// Monotonic clock at the agent's last sign of life.
    pub heartbeat_ns: u64,
    /// Key of the hash behind `gate`, made once per node; 0: not made yet.
    pub secret: u64,
    /// Version of the agent, ASCII, filled with zeros.
    pub build: [u8; 16],
}
const _: () = assert!(size_of::<Meta>() == 4 + 4 + 8 + 8 + 8 + 16);

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Meta, layout) == 0 && offset_of!(Meta, flags) == 4);
    assert!(offset_of!(Meta, epoch) == 8 && offset_of!(Meta, heartbeat_ns) == 16);
};

/// An agent whose last sign of life is older than this is gone, in ns.
pub const SILENCE_NS: u64 = 10_000_000_000;

impl Meta {
    /// The agent ended in order: another one need not wait for its silence.
    pub const ENDED: u32 = 1;

    /// Whether the agent's last sign of life is recent. Clocks of two readers differ by a tick; one from the far future is of
    /// no clock that is known here, and would never grow old.
    #[inline(always)]
    pub const fn is_alive(&self, now_ns: u64) -> bool {
        now_ns.abs_diff(self.heartbeat_ns) < SILENCE_NS
    }
}

/// Key of `vips` and `listen`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipKey {
    /// The served address.
    pub addr: Addr,
    /// The served port; 0: the address itself. Every served address has such an entry.
    pub port: u16,
    /// IP protocol; 0 with port 0.
    pub proto: u8,
    /// Always 0.
    pub pad: u8,
}
const _: () = assert!(size_of::<VipKey>() == 16 + 2 + 1 + 1);

impl VipKey {
    /// An address with a served port.
    #[inline(always)]
    pub const fn served(addr: Addr, port: u16, proto: u8) -> Self {
        Self { addr, port, proto, pad: 0 }
    }

    /// An address as a whole.
    #[inline(always)]
    pub const fn address(addr: Addr) -> Self {
        Self { addr, port: 0, proto: 0, pad: 0 }
    }
}

/// Value of `vips`: what holds for packets to a served address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipVal {
    /// The address's block of rows in `stats`, from 1; all entries of one address share it.
    pub vip_id: u32,
    /// Bits, the constants below.
    pub flags: u32,
    /// Scope of the list entries for this address; addresses under the same policies share it. 0: only those for all.
    pub scope: u32,
    /// First of its rows in `limits`.
    pub first_limit: u16,
    /// Number of its rows in `limits`; every one applies.
    pub limits: u16,
    /// A quick no for ports: [`VipVal::port_bit`] of every port that the address serves.
    pub ports: u32,
    /// Whose table in `pools` says which node owns a flow; 0: this node owns all that it receives.
    pub pool: u16,
    /// Largest TCP segment that the address's connections may announce (RFC 9293, 3.7.1), so that what is sent to them
    /// fits through the tunnel; 0: what the interface permits.
    pub mss: u16,
}
const _: () = assert!(size_of::<VipVal>() == 4 + 4 + 4 + 2 + 2 + 4 + 2 + 2);

impl VipVal {
    /// New connections are charged against `limits`.
    pub const LIMIT: u32 = 1;
    /// Only sources with ALLOW in scope 0 are admitted.
    pub const ALLOW_ONLY_ALL: u32 = 1 << 1;
    /// Only sources with ALLOW in this address's scope are admitted.
    pub const ALLOW_ONLY_SCOPE: u32 = 1 << 2;
    /// New connections are dropped (the client tries again) instead of refused, while no proxy listens.
    pub const PAUSED: u32 = 1 << 3;
    /// There are list entries in scope 0; without it they are not looked up.
    pub const LISTS_ALL: u32 = 1 << 4;
    /// There are list entries in this address's scope; without it they are not looked up.
    pub const LISTS_SCOPE: u32 = 1 << 5;
    /// On the entry of an address: only its served ports are ours (a node's own address, not a VIP).
    pub const PORTS_ONLY: u32 = 1 << 6;
    /// This node tells its neighbours that it has the address.
    pub const ANNOUNCE: u32 = 1 << 7;
    /// Every packet is charged against `limits`: there are some of packets or bytes.
    pub const LIMIT_PACKETS: u32 = 1 << 8;
    /// On the entry of an address: one of our nodes answers for it, and this one keeps quiet without ANNOUNCE.
    pub const QUIET: u32 = 1 << 9;
    /// SYNs are answered by cookies while the queue of the socket that they are for is full.
    pub const SYNCOOKIE: u32 = 1 << 10;
    /// With SYNCOOKIE: the kernel is asked for a cookie for every SYN, not only for some while none is due.
    pub const SYNCOOKIE_ALWAYS: u32 = 1 << 12;
    /// Sources may be banned; without it `bans` is not looked up.
    pub const BANS: u32 = 1 << 11;

    /// The bit of a port in `ports`; others share it.
    #[inline(always)]
    pub const fn port_bit(port: u16) -> u32 {
        1 << (port & 31)
    }
}

/// Value of `stats`, `egress` and `acl_hits`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes, the Ethernet header included.
    pub bytes: u64,
}
const _: () = assert!(size_of::<Count>() == 8 + 8);

/// Value of `cluster`: what this node shares with the others.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Key of [`crate::steer::flow_hash`].
    pub seed: u64,
    /// Keys of the tunnel: the first is sent, both are accepted.
    pub keys: [u64; 2],
    /// Number of this node in `nodes`; 0: it takes part in no pool.
    pub me: u32,
    /// Bits, the constants below.
    pub flags: u32,
}
const _: () = assert!(size_of::<Cluster>() == 8 + 16 + 4 + 4);

impl Cluster {
    /// Packets are sent on by IP in IP instead of UDP.
    pub const IPIP: u32 = 1;
    /// Packets that come by IP in IP are taken. They carry no key, and whoever can forge the address of a node can send
    /// some: only where the nodes send such packets, or did so lately.
    pub const TAKES_IPIP: u32 = 1 << 1;
}

/// Value of `nodes`: how a node is reached and what is known of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeVal {
    /// Its end of the tunnel.
    pub addr: Addr,
    /// This node's address on the way there.
    pub source: Addr,
    /// Monotonic clock in ns until which connections that it should own may live elsewhere.
    pub recent_until_ns: u64,
    /// The interface that leads there; 0: the node is not known.
    pub ifindex: u32,
    /// Bits, the constants below.
    pub flags: u32,
    /// Of the next hop; zeros: not known, the kernel's routing table is asked.
    pub mac: [u8; 6],
    /// Of our interface.
    pub source_mac: [u8; 6],
    /// Bytes that an IP packet may have on the way there.
    pub mtu: u16,
    /// Tag of the frames to it; 0: none.
    pub vlan: u16,
}
const _: () = assert!(size_of::<NodeVal>() == 16 + 16 + 8 + 4 + 4 + 6 + 6 + 2 + 2);

impl NodeVal {
    /// Takes no new connections and keeps those it has.
    pub const DRAINING: u32 = 1;
    /// Does not answer probes.
    pub const DOWN: u32 = 1 << 1;
}

/// Value of `node_seen`: what the program knows of a node, apart from what the agent says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Monotonic clock when it last answered a probe.
    pub answered_ns: u64,
    /// The same of an answer that did not call its agent silent.
    pub led_ns: u64,
    /// Monotonic clock when it last had no listener for a connection, which the next candidate then took. Of this node only.
    pub absent_ns: u64,
    /// Monotonic clock when it last answered by SYN cookies, or said so; see [`ARMED_NS`].
    pub armed_ns: u64,
}
const _: () = assert!(size_of::<NodeSeen>() == 8 + 8 + 8 + 8);

/// Rows of `listen_seen`, a power of two.
pub const LISTEN_SEEN: u32 = 256;

/// For how long after a SYN cookie a node charges connections by their proof, not by their SYN, in ns.
pub const ARMED_NS: u64 = 10_000_000_000;

/// For how long, in ns, connections are looked for at other nodes after a change: what TCP takes to notice a dead peer.
pub const RECENT_NS: u64 = 2 * 3600 * 1_000_000_000;

/// Value of `ifaces`: what programs must know of the interface they run on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfaceVal {
    /// An IPv4 address of its own, as on the wire; 0.0.0.0: it has none.
    pub addr4: [u8; 4],
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Bits, the constants below.
    pub flags: u16,
}
const _: () = assert!(size_of::<IfaceVal>() == 4 + 6 + 2);

impl IfaceVal {
    /// What XDP sends back by the interface is lost: what the program would answer itself is left to the stack.
    pub const MUTE: u16 = 1;
}

/// Value of `listen`: which slots hold the sockets of an address and port.
///
/// The sockets of one proxy stand in a range of their own, those of another in the spare one, which is tried when no
/// slot of the first holds a socket: a proxy that was killed hands over to the one beside it without anybody's help.
/// Ranges may have holes: the program goes on from its choice to the next slot until one holds a socket,
/// [`SLOT_TRIES`] at most. IPv4 and IPv6 sockets, and those for datagrams, stand in different ranges.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenVal {
    /// First slot of the range.
    pub first_slot: u32,
    /// Length of the range; 0: nothing listens.
    pub slots: u32,
    /// First slot of the range of the proxy beside it.
    pub spare_slot: u32,
    /// Length of that range; 0: there is none.
    pub spare_slots: u32,
    /// Port of the sockets' SO_REUSEPORT group, for the next proxy to join.
    pub port: u16,
    /// Always 0.
    pub pad: u16,
}
const _: () = assert!(size_of::<ListenVal>() == 4 + 4 + 4 + 4 + 2 + 2);

/// Key of `groups`: a SO_REUSEPORT group of listening sockets. All are bound to the loopback address of their family.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The port it is bound to.
    pub port: u16,
    /// 4 or 6.
    pub family: u16,
}
const _: () = assert!(size_of::<GroupKey>() == 2 + 2);

/// Value of `groups`: who of a group takes over what waits in a socket that closes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupVal {
    /// First slot of the range of the proxy that serves.
    pub first_slot: u32,
    /// Length of the range.
    pub slots: u32,
}
const _: () = assert!(size_of::<GroupVal>() == 4 + 4);

/// Value of `assigned`: how much the worker behind a slot has to do, see [`crate::choice`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Connections that were open when its proxy last said so.
    pub published: u32,
    /// Connections that the program handed to this slot since.
    pub assigned: u32,
}
const _: () = assert!(size_of::<WorkerLoad>() == 4 + 4);

/// Value of `slots`: what `socks` holds there, since the kernel does not show sockets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotVal {
    /// The socket's cookie (SO_COOKIE); 0: the slot is free.
    pub cookie: u64,
    /// The process it came from, as that process sees itself.
    pub pid: u32,
    /// Which hand-over it came with; goes up with each.
    pub handover: u32,
}
const _: () = assert!(size_of::<SlotVal>() == 8 + 4 + 4);

/// Value of `lk_stats`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCount {
    /// Connections handed to the socket in this slot.
    pub lookups: u64,
    /// Connections for the range that begins here that found no socket.
    pub misses: u64,
    /// Times the kernel refused the socket in this slot.
    pub errors: u64,
    /// Connections that waited in a socket that closed, and were moved to the one in this slot.
    pub moved: u64,
}
const _: () = assert!(size_of::<LookupCount>() == 8 + 8 + 8 + 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_silent_after_ten_seconds_and_when_its_clock_is_none_that_is_known() {
        let meta = Meta { heartbeat_ns: 50_000_000_000, ..Meta::default() };
        for (now, is_alive) in [
            (0, false),
            (40_000_000_000, false),
            (40_000_000_001, true),
            (49_999_999_999, true),
            (50_000_000_000, true),
            (59_999_999_999, true),
            (60_000_000_000, false),
            (u64::MAX, false),
        ] {
            assert_eq!(meta.is_alive(now), is_alive, "{now}");
        }
    }
}
