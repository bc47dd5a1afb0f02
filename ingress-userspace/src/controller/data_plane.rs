//! Pods of the data plane that do not serve, or not as they should, for the Event `DataplaneDegraded` on them.
//!
//! Three things are told: a pod that stays unready (one that starts or ends is no news), what the agent itself says in
//! the Lease of its node (a mode below the one that was asked for), and an agent that says nothing any more. When all of
//! it is over, a normal Event says so. Clocks of nodes are never compared: a Lease counts as silent when it was seen
//! unchanged for long enough, and time in which nobody could look does not count.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::{Client, Result};
use tokio::time::Instant;
use tracing::{info, warn};

use super::edge_status::Nodes;
use super::events::Notice;
use super::node_annotations::Modes;
use super::{call, refusal};
use crate::k8s::cluster::reference;
use crate::k8s::node_lease::{NodeReport, SILENCE};
use crate::problem::ObjectRef;

/// A pod may be unready for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Looks that are further apart do not belong together: in between nobody could look, and agents could not write.
const LONGEST_GAP: Duration = Duration::from_secs(30);
/// For how long a recovery is handed to the publisher, which may have much to do.
const RECOVERY: Duration = Duration::from_secs(300);
/// The Lease of a node that runs no pod of ours is removed after this time.
const GONE: Duration = Duration::from_secs(600);

/// Watches over the pods of the data plane.
pub struct DataPlane {
    client: Client,
    namespace: String,
    selector: String,
    /// Where the Leases of nodes are; `None`: there are none.
    leases: Option<String>,
    /// Since when a pod is unready, by UID.
    unready: HashMap<String, Instant>,
    signs: BTreeMap<String, Sign>,
    /// What agents told last, by pod.
    reports: HashMap<String, NodeReport>,
    /// What is degraded, by the UID of its pod.
    degraded: BTreeMap<String, Vec<Notice>>,
    recovered: Vec<(Notice, Instant)>,
    looked: Option<Instant>,
    /// What the nodes do, as of the last look.
    nodes: Nodes,
    /// Nodes whose agents told that they serve by the kernel half, as of the last look.
    serving: Option<BTreeSet<String>>,
    /// How the nodes with pods of ours serve, as of the last look.
    modes: Option<Modes>,
    /// Nodes with a degraded pod, for metrics.
    count: Arc<AtomicUsize>,
}

/// The sign of life in the Lease of a node.
#[derive(Debug)]
struct Sign {
    renewed: String,
    /// When it was first seen so.
    at: Instant,
    /// Since when the node runs no pod of ours.
    gone: Option<Instant>,
}

impl DataPlane {
    /// Looks for pods of `namespace` with the labels of `selector`; an empty one finds none. `leases` is the namespace in which
    /// agents keep the Leases of their nodes.
    pub fn new(client: Client, namespace: &str, selector: &str, leases: Option<String>) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            selector: selector.to_owned(),
            leases,
            unready: HashMap::new(),
            signs: BTreeMap::new(),
            reports: HashMap::new(),
            degraded: BTreeMap::new(),
            recovered: Vec::new(),
            looked: None,
            nodes: Nodes::default(),
            serving: None,
            modes: None,
            count: Arc::default(),
        }
    }

    /// The number of degraded nodes, as of the last look.
    pub fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    /// What is degraded now, and what has lately recovered.
    pub async fn look(&mut self) -> Vec<Notice> {
        if self.selector.is_empty() {
            return Vec::new();
        }
        match self.read().await {
            Ok((pods, leases)) => {
                for lease in self.judge(&pods, &leases, Instant::now()) {
                    self.remove(&lease).await;
                }
            }
            // What was found before still stands.
            Err(error) => {
                warn!(%error, "the pods of the data plane and the Leases of nodes could not be read")
            }
        }
        self.notices()
    }

    /// The nodes whose agents told that they serve by the kernel half, and not long ago that they are gone; `None` while that
    /// is not known.
    pub fn serving(&self) -> Option<&BTreeSet<String>> {
        self.serving.as_ref()
    }

    /// How the nodes that run pods of ours serve; `None` while that is not known.
    pub fn modes(&self) -> Option<&Modes> {
        self.modes.as_ref()
    }

    /// What the nodes do, as of the last look.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Another replica looks from now on.
    pub fn pause(&mut self) {
        self.count.store(0, Ordering::Relaxed);
    }

    fn notices(&self) -> Vec<Notice> {
        let recovered = self.recovered.iter().map(|(notice, _)| notice);
        self.degraded.values().flatten().chain(recovered).cloned().collect()
    }

    async fn read(&self) -> Result<(Vec<Pod>, Vec<Lease>)> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pods = call(pods.list(&ListParams::default().labels(&self.selector))).await?.items;
        let Some(namespace) = &self.leases else { return Ok((pods, Vec::new())) };
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        Ok((pods, call(leases.list(&ListParams::default())).await?.items))
    }

    /// Compares with what was seen before; the Leases that nobody needs any more.
    fn judge(&mut self, pods: &[Pod], leases: &[Lease], now: Instant) -> Vec<Lease> {
        let could_look = self.looked.is_some_and(|at| now.duration_since(at) < LONGEST_GAP);
        self.looked = Some(now);
        let orphans = self.read_leases(pods, leases, could_look, now);
        let mut before = std::mem::take(&mut self.unready);
        let mut degraded = BTreeMap::new();
        let mut nodes = BTreeSet::new();
        self.nodes = Nodes::default();
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let object = reference(pod);
            let node = node_of(pod).unwrap_or("no node");
            let mut found: Vec<Notice> = self.told_by_agent(&object, node, now);
            let containers = unready_containers(pod);
            let is_silent = self.signs.get(node).is_some_and(|sign| now.duration_since(sign.at) >= SILENCE);
            let is_failing = self.reports.get(&object.name).is_some_and(|report| report.is_failing);
            let is_ready = containers.is_empty() && !is_silent && !is_failing;
            if let Some(report) = self.reports.get(&object.name).filter(|report| !report.is_beside) {
                for policy in &report.unenforced {
                    self.nodes.unenforced.entry(policy.clone()).or_default().insert(node.to_owned());
                }
                for (policy, words) in &report.bans {
                    self.nodes.bans.entry(policy.clone()).or_default().insert(node.to_owned(), words.clone());
                }
            }
            let of_node = if is_ready { &mut self.nodes.ready } else { &mut self.nodes.failing };
            of_node.insert(node.to_owned());
            if !containers.is_empty() {
                let since = before.remove(&object.uid).filter(|_| could_look).unwrap_or(now);
                if now.duration_since(since) >= PATIENCE {
                    let note = format!(
                        "not ready: {}; new connections to {node} may not be served; see the log of the container, and /readyz",
                        containers.join(", ")
                    );
                    found.push(Notice::degraded(object.clone(), note, unready_since(pod)));
                }
                self.unready.insert(object.uid.clone(), since);
            }
            if found.is_empty() {
                // Not yet, while it is unready.
                if self.degraded.contains_key(&object.uid) && containers.is_empty() {
                    self.recover(&object, node, now);
                }
                continue;
            }
            nodes.insert(node.to_owned());
            degraded.insert(object.uid, found);
        }
        self.degraded = degraded;
        self.count.store(nodes.len(), Ordering::Relaxed);
        self.recovered.retain(|(_, at)| now.duration_since(*at) < RECOVERY);
        orphans
    }

    fn read_leases(&mut self, pods: &[Pod], leases: &[Lease], could_look: bool, now: Instant) -> Vec<Lease> {
        let names: HashSet<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let nodes: HashSet<&str> = pods.iter().filter_map(node_of).collect();
        self.reports.retain(|pod, _| names.contains(pod.as_str()));
        let mut before = std::mem::take(&mut self.signs);
        let (mut orphans, mut serving) = (Vec::new(), BTreeSet::new());
        let known_modes = self.modes.take().unwrap_or_default();
        let mut modes: Modes = nodes.iter().map(|node| ((*node).to_owned(), None)).collect();
        for lease in leases {
            let Some(report) = NodeReport::read(lease) else { continue };
            let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
            let renewed = renewed.map(|time| time.0.to_string()).unwrap_or_default();
            let known = before.remove(&report.node).filter(|_| could_look);
            let at = known.as_ref().filter(|sign| sign.renewed == renewed).map_or(now, |sign| sign.at);
            let gone = known.and_then(|sign| sign.gone);
            let gone = (!nodes.contains(report.node.as_str())).then(|| gone.unwrap_or(now));
            if gone.is_some_and(|since| now.duration_since(since) >= GONE) {
                orphans.push(lease.clone());
            }
            if let Some(mode) = modes.get_mut(&report.node) {
                // What an agent says that serves beside another one is not how the node serves.
                *mode = match report.is_beside {
                    true => known_modes.get(&report.node).cloned().flatten(),
                    false => Some(report.mode.clone()),
                };
            }
            if report.serves_by_kernel() {
                serving.insert(report.node.clone());
            }
            self.signs.insert(report.node.clone(), Sign { renewed, at, gone });
            if names.contains(report.pod.as_str()) {
                self.reports.insert(report.pod.clone(), report);
            }
        }
        self.serving = Some(serving);
        self.modes = Some(modes);
        orphans
    }

    /// What an agent says, and that it says nothing.
    fn told_by_agent(&self, pod: &ObjectRef, node: &str, now: Instant) -> Vec<Notice> {
        let Some(report) = self.reports.get(&pod.name) else { return Vec::new() };
        let mut found = Vec::new();
        if !report.problems.is_empty() {
            let note = format!("mode {} on {node}: {}", report.mode, report.problems);
            found.push(Notice::degraded(pod.clone(), note, report.since.clone()));
        }
        if let Some(sign) = self.signs.get(node)
            && now.duration_since(sign.at) >= SILENCE
        {
            let note = format!(
                "no sign of life from the agent on {node} for {} s: it hangs, or cannot reach or write to the API server; \
                 {node} serves the last configuration that it got; see the log of the agent",
                SILENCE.as_secs()
            );
            found.push(Notice::degraded(pod.clone(), note, sign.renewed.clone()));
        }
        found
    }

    fn recover(&mut self, pod: &ObjectRef, node: &str, now: Instant) {
        let mode = self.reports.get(&pod.name).map(|report| format!(", mode {}", report.mode));
        let note = format!("ready, and as it should be again on {node}{}", mode.unwrap_or_default());
        // Each recovery is told, and so is the next one.
        let was = self.degraded.get(&pod.uid).into_iter().flatten().map(Notice::occurrence);
        let occurrence = was.collect::<Vec<_>>().join(" ");
        self.recovered.push((Notice::recovered(pod.clone(), note, occurrence), now));
    }

    async fn remove(&mut self, lease: &Lease) {
        let (Some(namespace), Some(name)) = (&self.leases, &lease.metadata.name) else { return };
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        // Not one that was written meanwhile: the node may be back.
        let preconditions = Preconditions {
            uid: lease.metadata.uid.clone(),
            resource_version: lease.metadata.resource_version.clone(),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match call(api.delete(name, &params)).await {
            Ok(_) => {
                info!(lease = name, "the Lease of a node that runs no pod of the data plane was removed")
            }
            Err(error) if matches!(refusal(&error), Some(404 | 409)) => {}
            Err(error) => warn!(lease = name, %error, "the Lease of a node could not be removed"),
        }
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// When the pod became unready, as the kubelet says.
fn unready_since(pod: &Pod) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let since = ready.and_then(|condition| condition.last_transition_time.as_ref());
    since.map(|time| time.0.to_string()).unwrap_or_default()
}

/// Containers of a pod that are not ready; all of them before it is scheduled.
fn unready_containers(pod: &Pod) -> Vec<String> {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let is_ready = |name: &str| statuses.iter().any(|status| status.name == name && status.ready);
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .filter(|container| !is_ready(&container.name))
        .map(|container| container.name.clone())
        .collect()
}

#[cfg(test)]
mod tests;
