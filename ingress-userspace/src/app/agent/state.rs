//! What the role says of itself: for readiness, logs and metrics.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::watch;
use tracing::debug;

use crate::admin::Stale;
use crate::bpf::counters;
use crate::bpf::maps::Maps;
use crate::bpf::pins::Pins;
use crate::compile::maps::MapContents;
use crate::error_chain::chain;
use crate::link::messages::ModelVersion;
use crate::telemetry::metrics::{
    DATAPLANE_DEGRADED, DATAPLANE_MODE, LAST_MODEL_SERVED, MAP_ENTRIES, PACKETS, Registry, STALE_SECONDS,
    Samples,
};

/// The newest state of the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentState {
    /// `xdp-native`, `xdp-generic` or `userspace`; empty before the first world.
    pub mode: &'static str,
    /// Interfaces and the mode of each.
    pub interfaces: Vec<(String, &'static str)>,
    /// The newest world that was applied and sent to the proxies; 0: none.
    pub version: ModelVersion,
    /// Whether a proxy takes new connections (kernel modes) or is connected (`userspace` mode).
    pub has_proxy: bool,
    /// What does not work although it should, for `/readyz`; empty when all does.
    pub failing: Vec<String>,
    /// What is served less well than was asked for; empty when nothing is.
    pub degraded: Vec<String>,
    /// The model may not be current; it is served all the same.
    pub stale: Option<Stale>,
    /// Entries per kernel map.
    pub entries: BTreeMap<&'static str, usize>,
}

impl AgentState {
    /// Whether the agent has done its part: the world is applied.
    pub fn is_ready(&self) -> bool {
        self.version > 0 && self.failing.is_empty()
    }
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
        if now.interfaces.is_empty() {
            return;
        }
        for (map, count) in now.entries {
            samples.add(&MAP_ENTRIES, &[map], count as f64);
        }
        let counted = Maps::open(&pins).and_then(|maps| counters::packets(&maps));
        match counted {
            Ok(counts) => {
                for count in counts {
                    samples.add(&PACKETS, &[count.reason], count.packets as f64);
                }
            }
            Err(error) => debug!(error = %chain(&error), "kernel counters cannot be read"),
        }
    });
}
