//! The typed messages between agent and proxy.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Model;

/// Counts published models, from 1; names a build in logs, metrics and dumps.
pub type ModelVersion = u64;

/// From the agent to a proxy.
#[derive(Clone, Debug)]
pub enum ToProxy {
    /// First message of a connection: where to listen.
    Listen(ListenPlan),
    /// The state of the world; replaces the one before.
    Model {
        /// Its number.
        version: ModelVersion,
        /// The whole model.
        model: Arc<Model>,
    },
    /// New connections no longer go to this proxy: it may close its listening sockets.
    Close,
}

/// Where the proxy binds, decided by the agent, which alone knows the data plane's mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenPlan {
    /// `userspace` mode: bind the served ports themselves, SO_REUSEPORT.
    Ports {
        /// Addresses to bind, each with every listener's port.
        addresses: Vec<std::net::IpAddr>,
    },
    /// Kernel modes: bind sockets that no client reaches by itself, all of one listener in one SO_REUSEPORT group,
    /// and hand them over: on loopback, any port; for datagrams on addresses of their own and the listener's port, which
    /// is the one that answers leave from.
    Handover {
        /// For each listener, the port of its group when an earlier proxy still holds it; 0: any free port.
        group_ports: Vec<GroupPort>,
    },
}

/// Where sockets for datagrams are bound that the kernel program hands datagrams to. Of loopback, but not the address that
/// a name server of the node may have taken.
pub const DATAGRAMS_V4: Ipv4Addr = Ipv4Addr::new(127, 112, 99, 108);
/// The same for IPv6, which has but one loopback address: of the block that nobody routes (RFC 6666).
pub const DATAGRAMS_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0x7063);

/// The loopback port of a listener's SO_REUSEPORT group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPort {
    /// Name of the listener.
    pub listener: String,
    /// Loopback port, 0 for any.
    pub port: u16,
}

/// From a proxy to the agent.
#[derive(Debug)]
pub enum ToAgent {
    /// First message of a connection.
    Hello(Hello),
    /// Sockets of this proxy, all that it has; replaces an earlier hand-over of the same process.
    Sockets(Vec<HandedSocket>),
    /// After each model: what came of it.
    Report(ProxyReport),
    /// Open connections of each worker, from worker 0 on.
    Loads(Vec<u32>),
    /// New connections should go to another proxy from now on; this one still takes them.
    Draining,
    /// The listening sockets are about to be closed; answered with [`ToProxy::Close`] when no connection goes to them.
    Closing,
}

/// Who the proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Process id as the proxy sees it; only for logs.
    pub pid: u32,
    /// Worker threads, each with one socket per listener and family.
    pub workers: u32,
    /// Version of the binary.
    pub build: String,
}

/// One socket, duplicated into the agent.
#[derive(Debug)]
pub struct HandedSocket {
    /// What it is.
    pub about: SocketAbout,
    /// The socket itself.
    pub socket: OwnedFd,
}

/// What a handed-over socket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketAbout {
    /// Name of the listener it serves.
    pub listener: String,
    /// Worker that accepts from it, from 0.
    pub worker: u32,
    /// Address it is bound to, and the group's port.
    pub bound: SocketAddr,
    /// Whether it receives datagrams.
    pub is_udp: bool,
}

impl SocketAbout {
    /// A socket that listens for connections.
    pub fn new(listener: &str, worker: u32, bound: SocketAddr) -> Self {
        Self { listener: listener.to_owned(), worker, bound, is_udp: false }
    }
}

/// What a proxy made of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyReport {
    /// The model it speaks of.
    pub version: ModelVersion,
    /// Parts that could not be compiled, each already degraded to a refusal; text for the log.
    pub refused: Vec<String>,
}
