//! A Service that has addresses of a pool.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::listener::ListenerName;

/// A Service whose ports are served on addresses of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolService {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its addresses, each of a pool and no other Service's; IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Its TCP ports that are not the listener's own, with the listener whose connections they take.
    pub ports: Vec<(u16, ListenerName)>,
}
