//! What the role needs of the flags.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::announcers::Agreement;
use super::last_model::LastModel;
use crate::args::{DataplaneArgs, ModeArg, PortArgs};
use crate::k8s::reflect::freshness::Freshness;
use crate::model::global::Global;

/// What the role needs of the flags.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// `--mode`.
    pub mode: ModeArg,
    /// `--without-tcx`.
    pub without_tcx: bool,
    /// `--interface`; empty: those that carry the node's addresses.
    pub interfaces: Vec<String>,
    /// `--bind-address`, or what the configuration says instead; empty: all.
    pub bind_addresses: Vec<IpAddr>,
    /// The same as the flag has it.
    pub bind_flag: Vec<IpAddr>,
    /// IPv6 addresses of the node are not served.
    pub is_ipv4_only: bool,
    /// `--bpffs`.
    pub bpffs: PathBuf,
    /// Whether a port is 0, which only `userspace` mode can serve.
    pub has_any_port: bool,
    /// Where the last model is kept; `None`: nowhere.
    pub last_model: Option<LastModel>,
    /// Whether the source of the world is followed.
    pub freshness: Freshness,
    /// Name of this node.
    pub node: String,
    /// How nodes agree on who announces a pool.
    pub agreement: Agreement,
}

impl AgentSettings {
    /// From the command line.
    pub fn new(dataplane: &DataplaneArgs, ports: &PortArgs) -> Self {
        Self {
            mode: dataplane.mode,
            without_tcx: dataplane.without_tcx,
            interfaces: dataplane.interface.clone(),
            bind_addresses: dataplane.bind_address.clone(),
            bind_flag: dataplane.bind_address.clone(),
            is_ipv4_only: false,
            bpffs: dataplane.bpffs.clone(),
            has_any_port: ports.http_port == 0 || ports.https_port == 0,
            last_model: None,
            freshness: Freshness::default(),
            node: String::new(),
            agreement: Agreement::None,
        }
    }

    /// Takes over what the configuration says of addresses.
    pub(super) fn follow(&mut self, global: &Global) {
        let configured = &global.bind_addresses;
        self.bind_addresses = if configured.is_empty() { &self.bind_flag } else { configured }.clone();
        self.is_ipv4_only = global.is_ipv4_only;
    }

    /// Where a proxy binds in `userspace` mode.
    pub(super) fn bind_plan(&self) -> Vec<IpAddr> {
        let mut addresses = if self.bind_addresses.is_empty() {
            vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        } else {
            self.bind_addresses.clone()
        };
        addresses.retain(|address| address.is_ipv4() || !self.is_ipv4_only);
        addresses
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
