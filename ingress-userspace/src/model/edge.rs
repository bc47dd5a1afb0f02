//! What the kernel half enforces: the addresses that are ours, and the lists and limits for their packets.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Addresses and packet policies. Pure data for the map compiler and, in `userspace` mode, for the accept path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Address pools, ordered by name; their blocks do not overlap.
    pub pools: Vec<Pool>,
    /// Packet policies, ordered by name.
    pub policies: Vec<EdgePolicy>,
}

/// A set of virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Name of the AddressPool.
    pub name: String,
    /// Inclusive ranges; every address in them is a VIP. All of one family per range.
    pub blocks: Vec<AddressRange>,
}

/// An inclusive range of addresses of one family, `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressRange {
    /// Lowest address.
    pub first: IpAddr,
    /// Highest address.
    pub last: IpAddr,
}

/// Lists and limits for the packets of some addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgePolicy {
    /// Name of the EdgePolicy.
    pub name: String,
    /// Which destination addresses it covers.
    pub scope: EdgeScope,
    /// Non-empty: only these sources. Several policies on one address intersect.
    pub allow: Vec<IpNet>,
    /// Never these sources. Several policies unite. Beats everything else.
    pub deny: Vec<IpNet>,
    /// No limits for these sources.
    pub exempt: Vec<IpNet>,
    /// Each its own bucket; over it, the packet is dropped.
    pub limits: Vec<EdgeLimit>,
}

/// The destination addresses of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdgeScope {
    /// Every address that is served: pools and node addresses (their served ports).
    Cluster,
    /// The addresses of these pools, by name, ordered.
    Pools(Vec<String>),
}

/// New TCP connections per source (an IPv4 address, an IPv6 /64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeLimit {
    /// Sustained rate, at least 1.
    pub connections_per_second: u32,
    /// Connections above the rate at once, at least 1.
    pub burst: u32,
}
