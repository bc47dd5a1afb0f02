//! What the role says of itself: for readiness, logs and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ingress_common::maps::{VipKey, VipVal};
use tokio::sync::watch;
use tracing::debug;

use super::bans::Tally;
use super::{figures, hits};
use crate::admin::Stale;
use crate::admin::pools::PoolView;
use crate::bpf::maps::Maps;
use crate::bpf::pins::Pins;
use crate::bpf::syn_cookies;
use crate::compile::maps::MapContents;
use crate::compile::maps::owners::ListOwners;
use crate::error_chain::chain;
use crate::link::messages::ModelVersion;
use crate::telemetry::metrics::{
    BANS_REFUSED, BANS_TOTAL, DATAPLANE_DEGRADED, DATAPLANE_MODE, LAST_MODEL_SERVED, MAP_ENTRIES, NODE_STATE,
    POOL_TABLE, Registry, STALE_SECONDS, SYN_COOKIES, Samples,
};

/// The newest state of the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentState {
    /// `xdp-native`, `xdp-generic`, `tc` or `userspace`; empty before the first world.
    pub mode: &'static str,
    /// This agent serves in `userspace` mode beside another one, by whose kernel half the node goes on serving.
    pub is_beside: bool,
    /// Interfaces and the mode of each; `userspace` for one that takes no program.
    pub interfaces: Vec<(String, &'static str)>,
    /// The newest world that was applied and sent to the proxies; 0: none.
    pub version: ModelVersion,
    /// Whether a proxy takes new connections (kernel modes) or is connected (`userspace` mode).
    pub has_proxy: bool,
    /// What does not work although it should, for `/readyz`; empty when all does.
    pub failing: Vec<String>,
    /// What is served less well than was asked for; empty when nothing is.
    pub degraded: Vec<String>,
    /// The EdgePolicies that are not enforced as a whole, by name.
    pub unenforced: Vec<String>,
    /// The model may not be current; it is served all the same.
    pub stale: Option<Stale>,
    /// The pools that this node announces.
    pub announced: BTreeSet<String>,
    /// The nodes of the pools, this one included, where there are several.
    pub nodes: Vec<NodeView>,
    /// The pools, for people.
    pub pools: Vec<PoolView>,
    /// Fingerprints of the tables by pool; equal on nodes that agree.
    pub tables: BTreeMap<String, u64>,
    /// How many addresses of pools the kernel half serves; `None`: there is none.
    pub addresses: Option<usize>,
    /// Entries per kernel map.
    pub entries: BTreeMap<&'static str, usize>,
    /// Whom the agent banned.
    pub bans: Tally,
    /// Whose the entries of the lists in the kernel are.
    pub owners: ListOwners,
}

/// A node of the pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// `active`, `draining` or `down`.
    pub state: &'static str,
    /// Connections that it should own may live elsewhere.
    pub is_recent: bool,
}

impl AgentState {
    /// Whether the agent has done its part: the world is applied.
    pub fn is_ready(&self) -> bool {
        self.version > 0 && self.failing.is_empty()
    }
}

/// How many addresses of pools the maps hold.
pub(super) fn addresses(contents: &MapContents) -> usize {
    let is_address =
        |(key, value): &(&VipKey, &VipVal)| key.port == 0 && value.flags & VipVal::PORTS_ONLY == 0;
    contents.vips.iter().filter(is_address).count()
}

/// Entries of the kernel maps, by map.
pub(super) fn entries(contents: &MapContents) -> BTreeMap<&'static str, usize> {
    BTreeMap::from([
        ("vips", contents.vips.len()),
        ("acl4", contents.acl4.len()),
        ("acl6", contents.acl6.len()),
        ("limits", contents.limits.len()),
        ("listen", contents.listen.len()),
    ])
}

/// Makes the agent's figures part of `/metrics`.
pub fn register_metrics(registry: &Registry, bpffs: &Path, state: watch::Receiver<AgentState>) {
    let pins = Pins::new(bpffs);
    let denied = Mutex::new(hits::Tally::default());
    registry.register_collector(move |samples: &mut Samples| {
        let now = state.borrow().clone();
        samples.add(&STALE_SECONDS, &[], now.stale.map_or(0.0, |stale| stale.seconds() as f64));
        let is_kept = now.stale.is_some_and(|stale| stale.is_kept);
        samples.add(&LAST_MODEL_SERVED, &[], if is_kept { 1.0 } else { 0.0 });
        samples.add(&DATAPLANE_DEGRADED, &[], if now.degraded.is_empty() { 0.0 } else { 1.0 });
        if now.interfaces.is_empty() && !now.mode.is_empty() {
            samples.add(&DATAPLANE_MODE, &["", now.mode], 1.0);
        }
        for (interface, mode) in &now.interfaces {
            samples.add(&DATAPLANE_MODE, &[interface, mode], 1.0);
        }
        let cookies = syn_cookies::read();
        for (what, count) in
            [("sent", cookies.sent_by_stack), ("received", cookies.received), ("failed", cookies.failed)]
        {
            samples.add(&SYN_COOKIES, &[what], count as f64);
        }
        if now.interfaces.is_empty() {
            return;
        }
        for node in &now.nodes {
            samples.add(&NODE_STATE, &[&node.name, node.state], 1.0);
        }
        for (pool, fingerprint) in &now.tables {
            // What a sample can hold exactly.
            samples.add(&POOL_TABLE, &[pool], (fingerprint >> 11) as f64);
        }
        for (policy, count) in &now.bans.banned {
            samples.add(&BANS_TOTAL, &[policy], *count as f64);
        }
        for (policy, count) in &now.bans.refused {
            samples.add(&BANS_REFUSED, &[policy], *count as f64);
        }
        for (map, count) in now.entries {
            samples.add(&MAP_ENTRIES, &[map], count as f64);
        }
        let figures = Maps::open(&pins).and_then(|maps| {
            figures::add(&maps, samples)?;
            denied.lock().unwrap_or_else(PoisonError::into_inner).add(&maps, &now.owners, samples)
        });
        if let Err(error) = figures {
            debug!(error = %chain(&error), "kernel counters cannot be read");
        }
    });
}
