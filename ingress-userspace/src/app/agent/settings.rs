//! What the role needs of the flags.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::args::{DataplaneArgs, ModeArg, PortArgs};

/// What the role needs of the flags.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// `--mode`.
    pub mode: ModeArg,
    /// `--interface`; empty: those that carry the node's addresses.
    pub interfaces: Vec<String>,
    /// `--bind-address`; empty: all.
    pub bind_addresses: Vec<IpAddr>,
    /// `--bpffs`.
    pub bpffs: PathBuf,
    /// Whether a port is 0, which only `userspace` mode can serve.
    pub has_any_port: bool,
}

impl AgentSettings {
    /// From the command line.
    pub fn new(dataplane: &DataplaneArgs, ports: &PortArgs) -> Self {
        Self {
            mode: dataplane.mode,
            interfaces: dataplane.interface.clone(),
            bind_addresses: dataplane.bind_address.clone(),
            bpffs: dataplane.bpffs.clone(),
            has_any_port: ports.http_port == 0 || ports.https_port == 0,
        }
    }

    /// Where a proxy binds in `userspace` mode.
    pub(super) fn bind_plan(&self) -> Vec<IpAddr> {
        if self.bind_addresses.is_empty() {
            vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        } else {
            self.bind_addresses.clone()
        }
    }

    /// Whether clients may come from elsewhere. A process that binds loopback only is no concern of the node: it neither
    /// makes addresses local nor takes anything over.
    pub(super) fn serves_the_node(&self) -> bool {
        self.bind_plan().iter().any(|address| !address.is_loopback())
    }

    /// Which of the node's addresses are served: those of `--bind-address`, where a wildcard stands for its family.
    pub(super) fn served(&self, of_node: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let mut served = BTreeSet::new();
        for address in self.bind_plan() {
            if address.is_unspecified() {
                served.extend(of_node.iter().filter(|own| own.is_ipv4() == address.is_ipv4()));
            } else {
                served.insert(address);
            }
        }
        served.into_iter().collect()
    }
}
