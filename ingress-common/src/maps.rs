//! The types in the kernel maps; the maps themselves are declared in [`table`].
//!
//! The loader compares pinned maps with that table before it reuses them, because the kernel does not. Ports are in host
//! byte order, addresses 16 bytes as on the wire. A changed type here bumps [`LAYOUT_VERSION`].

pub mod table;

use crate::flow::Addr;

/// Names the directory of the pins, `…/portcullis/v1/`: two layouts can live side by side during an upgrade.
pub const LAYOUT_VERSION: u32 = 1;

/// Served (address, port, protocol) entries, the address entries included.
pub const VIPS: u32 = 4_096;
/// Served addresses that are counted apart; `vip_id` is below this.
pub const VIP_IDS: u32 = 1_024;
/// Prefixes per family, over all scopes.
pub const ACLS: u32 = 262_144;
/// Limits, over all addresses.
pub const LIMITS: u32 = 1_024;
/// Limits that can apply to one address.
pub const LIMITS_PER_VIP: u16 = 8;
/// Sources whose buckets are remembered; the least recently used goes first.
pub const BUCKETS: u32 = 131_072;
/// Listening sockets of all proxies on the node.
pub const SLOTS: u32 = 1_024;
/// Slots that SK_LOOKUP tries for one connection before it gives up: more than the holes of a range.
pub const SLOT_TRIES: u64 = 128;

/// Value of `meta`: who owns the pinned maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// [`LAYOUT_VERSION`] of the writer.
    pub layout: u32,
    /// Always 0.
    pub pad: u32,
    /// Goes up with every start of an agent; a writer with an older epoch stops.
    pub epoch: u64,
    /// Monotonic clock at the agent's last sign of life; 0: it ended in order.
    pub heartbeat_ns: u64,
    /// Version of the agent, ASCII, filled with zeros.
    pub build: [u8; 16],
}
const _: () = assert!(size_of::<Meta>() == 4 + 4 + 8 + 8 + 16);

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
}
const _: () = assert!(size_of::<VipVal>() == 4 + 4 + 4 + 2 + 2 + 4);

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

    /// The bit of a port in `ports`; others share it.
    #[inline(always)]
    pub const fn port_bit(port: u16) -> u32 {
        1 << (port & 31)
    }
}

/// Value of `acl4` and `acl6`: the effect of every prefix of the scope that covers the key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AclVal {
    /// Bits, the constants below; flattened, because the trie answers with the longest prefix alone.
    pub flags: u32,
}
const _: () = assert!(size_of::<AclVal>() == 4);

impl AclVal {
    /// Packets are dropped.
    pub const DENY: u32 = 1;
    /// On every allow list of the scope.
    pub const ALLOW: u32 = 1 << 1;
    /// No limits.
    pub const EXEMPT: u32 = 1 << 2;
}

/// Value of `limits`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit {
    /// What is counted: [`Limit::CONNECTIONS`]; 0: the row is free.
    pub kind: u32,
    /// Names the buckets: rows of the same limit of the same policy share it.
    pub bucket: u32,
    /// Time that one connection costs.
    pub rate_ns: u64,
    /// Time that may be borrowed.
    pub burst_ns: u64,
}
const _: () = assert!(size_of::<Limit>() == 4 + 4 + 8 + 8);

impl Limit {
    /// New TCP connections per source.
    pub const CONNECTIONS: u32 = 1;
}

/// Value of `buckets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Theoretical arrival time of the next connection, monotonic clock in ns.
    pub tat: u64,
}
const _: () = assert!(size_of::<Bucket>() == 8);

/// Value of `stats`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes, the Ethernet header included.
    pub bytes: u64,
}
const _: () = assert!(size_of::<Count>() == 8 + 8);

/// Value of `listen`: which slots hold the sockets of an address and port.
///
/// Sockets of several processes (an old and a new proxy) may share a range, and a range may have holes: the program
/// starts at a random slot and goes on to the next until one holds a socket, [`SLOT_TRIES`] at most. Keep the range as
/// short as the live sockets permit. IPv4 and IPv6 sockets stand in different ranges.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenVal {
    /// First slot of the range.
    pub first_slot: u32,
    /// Length of the range; 0: nothing listens.
    pub slots: u32,
    /// Loopback port of the sockets' SO_REUSEPORT group, for the next proxy to join.
    pub port: u16,
    /// Always 0.
    pub pad: u16,
}
const _: () = assert!(size_of::<ListenVal>() == 4 + 4 + 2 + 2);

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
}
const _: () = assert!(size_of::<LookupCount>() == 8 + 8 + 8);
