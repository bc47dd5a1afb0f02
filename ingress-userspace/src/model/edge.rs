//! What the kernel half enforces: the addresses that are ours, and the lists and limits for their packets.

mod pool;
mod service;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use pool::{
    AddressRange, Announce, ClusterKey, DEFAULT_WEIGHT, Encapsulation, NodeState, Pool, PoolNode,
};

pub use service::PoolService;

/// Addresses and packet policies. Pure data for the map compiler and, in `userspace` mode, for the accept path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Address pools, ordered by name; their blocks do not overlap.
    pub pools: Vec<Pool>,
    /// Services that have addresses of pools, ordered by namespace and name.
    pub services: Vec<PoolService>,
    /// Packet policies, ordered by name.
    pub policies: Vec<EdgePolicy>,
    /// What the nodes of pools share; `None` while no pool has several nodes. Not for proxies.
    pub cluster_key: Option<ClusterKey>,
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
    /// No limits and no bans for these sources.
    pub exempt: Vec<IpNet>,
    /// Each its own bucket; over it, the packet is dropped.
    pub limits: Vec<EdgeLimit>,
    /// What it says of SYN floods; `None`: nothing. Of several policies on one address the strongest word holds.
    pub syn_protection: Option<SynProtection>,
    /// When a source that breaks the limits per source is banned; `None`: never.
    pub ban: Option<BanRule>,
}

/// What is done about SYN floods, from weak to strong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SynProtection {
    /// Nothing beyond what the kernel's stack does by itself.
    Off,
    /// SYNs are answered by cookies while the queue of their socket is full.
    #[default]
    Auto,
    /// Every SYN is answered by a cookie. The kernel does so at `tcp_syncookies` 2 only.
    Always,
}

impl SynProtection {
    /// As an EdgePolicy writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Auto => "Auto",
            Self::Always => "Always",
        }
    }
}

/// Which sources are banned, and for how long. A node bans for what it saw itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRule {
    /// So many packets of a source that limits of the policy refused lead to a ban, at least 1.
    pub after: u32,
    /// For how long they count together, from the first of them on.
    pub within: Duration,
    /// How long a ban lasts.
    pub lasts: Duration,
    /// Sources that the policy bans at a time.
    pub most: u32,
}

/// The destination addresses of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdgeScope {
    /// Every address that is served: pools and node addresses (their served ports).
    Cluster,
    /// The addresses of these pools, by name, ordered.
    Pools(Vec<String>),
    /// The addresses of these pools, and these, ordered: the addresses of Services.
    Targets {
        /// Pools by name.
        pools: Vec<String>,
        /// Single addresses.
        addresses: Vec<IpAddr>,
    },
}

/// How much may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeLimit {
    /// What is counted.
    pub of: Counted,
    /// Whose bucket it is.
    pub per: Per,
    /// Sustained rate, at least 1.
    pub per_second: u64,
    /// How much above the rate at once, at least 1.
    pub burst: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Counted {
    /// New TCP connections.
    Connections,
    /// Packets of any kind.
    Packets,
    /// Bytes of packets, the Ethernet header included.
    Bytes,
}

/// Whom a limit holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Per {
    /// Each source: an IPv4 address, an IPv6 /64.
    Source,
    /// Each served address.
    Address,
}

impl Counted {
    /// In words, as a rate.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Connections => "connections/s",
            Self::Packets => "packets/s",
            Self::Bytes => "bytes/s",
        }
    }
}
