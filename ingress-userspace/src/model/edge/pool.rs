//! A pool of virtual addresses, the nodes that serve it, and the key by which they know each other's packets.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Weight of a node that names none.
pub const DEFAULT_WEIGHT: u16 = 100;

/// A set of virtual addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Name of the AddressPool.
    pub name: String,
    /// Inclusive ranges; every address in them is a VIP. All of one family per range.
    pub blocks: Vec<AddressRange>,
    /// Who tells the network where the addresses are.
    pub announce: Announce,
    /// How packets travel from the node that receives them to the one that owns their flow.
    pub encapsulation: Encapsulation,
    /// The nodes that serve it, ordered by name; empty where nodes are not known: then each serves by itself.
    pub nodes: Vec<PoolNode>,
}

impl Pool {
    /// A pool that every node serves by itself.
    pub fn new(name: impl Into<String>, blocks: Vec<AddressRange>) -> Self {
        Self { name: name.into(), blocks, ..Self::default() }
    }
}

/// An inclusive range of addresses of one family, `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressRange {
    /// Lowest address.
    pub first: IpAddr,
    /// Highest address.
    pub last: IpAddr,
}

impl AddressRange {
    /// Whether the address lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && (self.first..=self.last).contains(&ip)
    }
}

impl AddressRange {
    /// How many addresses it holds.
    pub fn count(&self) -> u128 {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                u128::from(last.to_bits()).saturating_sub(first.to_bits().into()) + 1
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                last.to_bits().saturating_sub(first.to_bits()).saturating_add(1)
            }
            _ => 0,
        }
    }
}

/// Who announces the addresses of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Announce {
    /// One node of the pool, by ARP and NDP.
    #[default]
    L2,
    /// None of ours: a router has routes, or another speaker announces them.
    None,
}

/// The header around a packet between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encapsulation {
    /// UDP to our port, with the hash of the flow as source port, and the cluster key.
    #[default]
    Udp,
    /// IPIP or IP6IP6, without a key.
    Ipip,
}

/// A node that serves a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolNode {
    /// Name of the Node.
    pub name: String,
    /// Its internal addresses, at most one per family: the ends of tunnels to it.
    pub addresses: Vec<IpAddr>,
    /// Whether it takes new flows.
    pub state: NodeState,
    /// Its share of new flows beside the others', 1 to 1000.
    pub weight: u16,
    /// Since when it serves the pool, in seconds since the epoch, where that is known.
    pub joined: Option<i64>,
}

/// What a node does with flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It takes new ones.
    #[default]
    Active,
    /// It keeps those that it has, and takes no new ones.
    Draining,
}

/// What keeps stray packets out of the tunnel, and places flows the same way on every node. Prints as `[redacted]`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterKey {
    /// Written into packets and accepted.
    pub current: u64,
    /// Accepted as well, during rotation.
    pub previous: Option<u64>,
    /// Seed of the hash that places flows; it outlives rotations.
    pub seed: u64,
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
