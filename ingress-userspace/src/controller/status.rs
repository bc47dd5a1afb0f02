//! `.status.loadBalancer` of the Ingresses that are ours: where clients reach them.
//!
//! In order of precedence: addresses that a flag names, a Service's addresses, the virtual addresses of the pools, the
//! addresses of the nodes that run the data plane. Pools and nodes are published only while some node serves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Result};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{call, refusal};
use crate::model::edge::Edge;
use crate::problem::ObjectRef;
use crate::translate::{OurIngress, status_entry};

/// One object is not written more often, unless it has just become ours.
const PAUSE: Duration = Duration::from_secs(10);
/// How long one round of writes may take, and how many are under way at once.
const ROUND: Duration = Duration::from_millis(200);
const PARALLEL: usize = 8;
/// When no node serves for this long, addresses are taken back.
const NO_NODE: Duration = Duration::from_secs(60);
/// Looks that are further apart do not belong to one absence: in between nobody could look.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// Nodes and their addresses are read again after this time, however often the world changes.
const LOOK: Duration = Duration::from_secs(5);

/// What to publish.
#[derive(Clone, Debug)]
pub struct StatusSettings {
    /// Published instead of everything else.
    pub fixed: Vec<String>,
    /// A Service's addresses are published.
    pub of_service: bool,
    /// Only the addresses of these pools; empty: of all.
    pub pools: Vec<String>,
    /// Namespace of the data plane's pods.
    pub pods_namespace: String,
    /// Labels of the data plane's pods; empty: the node below serves alone.
    pub pods_selector: String,
    /// Node of this process, where no pods are looked for.
    pub node_name: String,
    /// Internal node addresses even where there are external ones.
    pub prefers_internal: bool,
}

/// Writes status. One object that cannot be written does not keep others from it.
pub struct Publisher {
    client: Client,
    settings: StatusSettings,
    /// What an object holds through us, and when this replica wrote it.
    written: BTreeMap<ObjectRef, (BTreeSet<String>, Option<Instant>)>,
    /// Since when every look found that nobody serves, and the last of these looks.
    unserved: Option<(Instant, Instant)>,
    /// Nodes that serve, as of the last look.
    nodes: Option<(BTreeSet<String>, Instant)>,
    /// Their addresses.
    of_nodes: Option<(BTreeSet<String>, Instant)>,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The object now says so.
    Written,
    /// This object takes it not, or not any more.
    Refused,
    /// Now nothing can be written.
    Failed,
}

impl Publisher {
    /// Begins with nothing written.
    pub fn new(client: Client, settings: StatusSettings) -> Self {
        Self { client, settings, written: BTreeMap::new(), unserved: None, nodes: None, of_nodes: None }
    }

    /// Brings the status of all Ingresses to what it should be; whether some are left for the next round, which should come
    /// soon: Events are not kept waiting by thousands of writes.
    pub async fn publish(&mut self, edge: &Edge, service: Option<&Service>, ours: &[OurIngress]) -> bool {
        let addresses = match self.addresses(edge, service).await {
            Ok(Some(addresses)) => addresses,
            // Nobody serves just now, which a roll-out or a restart may be: what is published stays.
            Ok(None) => return false,
            Err(error) => {
                warn!(%error, "the addresses to publish could not be read");
                return false;
            }
        };
        let mut differing = Vec::new();
        for ingress in ours {
            let is: BTreeSet<String> = ingress.published.iter().cloned().collect();
            if is == addresses {
                self.written.entry(ingress.object.clone()).or_insert((is, None));
            } else if !self.was_just_written(&ingress.object) {
                differing.push(&ingress.object);
            }
        }
        let end = Instant::now() + ROUND;
        for objects in differing.chunks(PARALLEL) {
            if Instant::now() >= end {
                return true;
            }
            let client = &self.client;
            let writes = objects.iter().map(|object| write(client, object, &addresses));
            let outcomes = join_all(writes).await;
            for (object, outcome) in objects.iter().zip(&outcomes) {
                if *outcome == Outcome::Written {
                    let entry = (addresses.clone(), Some(Instant::now()));
                    self.written.insert((*object).clone(), entry);
                }
            }
            if outcomes.contains(&Outcome::Failed) {
                // Thousands of others would fare no better: in the next round.
                return false;
            }
        }
        let known: BTreeSet<&ObjectRef> = ours.iter().map(|ingress| &ingress.object).collect();
        let left: Vec<ObjectRef> =
            self.written.keys().filter(|object| !known.contains(object)).cloned().collect();
        for object in left {
            if Instant::now() >= end {
                return true;
            }
            // No longer ours, or gone: an empty answer for an object that another controller may now own.
            if self.clear(&object).await == Outcome::Failed {
                return false;
            }
        }
        false
    }

    fn was_just_written(&self, object: &ObjectRef) -> bool {
        self.written.get(object).is_some_and(|(_, at)| at.is_some_and(|at| at.elapsed() < PAUSE))
    }

    /// Empties the status of an object that we wrote, if it still says what we wrote.
    async fn clear(&mut self, object: &ObjectRef) -> Outcome {
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), &object.namespace);
        let outcome = match call(api.get_opt(&object.name)).await {
            Ok(Some(ingress)) => {
                let is_same_object = ingress.metadata.uid.as_deref() == Some(object.uid.as_str());
                let wrote = self.written.get(object).map(|(addresses, _)| addresses);
                if is_same_object && wrote.is_some_and(|wrote| *wrote == published(&ingress)) {
                    write(&self.client, object, &BTreeSet::new()).await
                } else {
                    Outcome::Written
                }
            }
            Ok(None) => Outcome::Written,
            Err(error) => {
                warn!(%object, %error, "the status could not be read");
                Outcome::Failed
            }
        };
        if outcome != Outcome::Failed {
            self.written.remove(object);
        }
        outcome
    }

    /// What to publish; `None`: leave it as it is.
    async fn addresses(
        &mut self,
        edge: &Edge,
        service: Option<&Service>,
    ) -> Result<Option<BTreeSet<String>>> {
        if !self.settings.fixed.is_empty() {
            return Ok(Some(self.settings.fixed.iter().cloned().collect()));
        }
        if self.settings.of_service {
            let addresses = service.map(of_service).unwrap_or_default();
            // Whoever gives the Service its address may be away for a moment.
            let is_over = self.is_over(addresses.is_empty());
            return Ok((!addresses.is_empty() || is_over).then_some(addresses));
        }
        let is_fresh = |at: &Instant| at.elapsed() < LOOK;
        let names = match self.nodes.clone().filter(|(_, at)| is_fresh(at)) {
            Some((names, _)) => names,
            None => {
                let names = self.node_names().await?;
                if self.nodes.as_ref().is_some_and(|(before, _)| *before != names) {
                    self.of_nodes = None;
                }
                self.nodes = Some((names.clone(), Instant::now()));
                names
            }
        };
        let is_over = self.is_over(names.is_empty());
        if names.is_empty() {
            return Ok(is_over.then(BTreeSet::new));
        }
        let pools = of_pools(edge, &self.settings.pools);
        if !pools.is_empty() {
            return Ok(Some(pools));
        }
        if let Some((addresses, _)) = self.of_nodes.as_ref().filter(|(_, at)| is_fresh(at)) {
            return Ok(Some(addresses.clone()));
        }
        let mut addresses = BTreeSet::new();
        let nodes: Api<Node> = Api::all(self.client.clone());
        for name in names {
            if let Some(node) = call(nodes.get_opt(&name)).await? {
                addresses.extend(of_node(&node, self.settings.prefers_internal));
            }
        }
        self.of_nodes = Some((addresses.clone(), Instant::now()));
        Ok(Some(addresses))
    }

    /// Whether nobody has served for so long that addresses are taken back. Time in which nobody could look (the API server
    /// was away, another replica was the leader) says nothing: after it, pods need a moment to be reported ready again.
    fn is_over(&mut self, is_unserved: bool) -> bool {
        let now = Instant::now();
        let before = self.unserved.filter(|(_, last)| now.duration_since(*last) < LONGEST_GAP);
        let since = before.map_or(now, |(since, _)| since);
        self.unserved = is_unserved.then_some((since, now));
        is_unserved && now.duration_since(since) >= NO_NODE
    }

    /// Nodes with a ready pod of the data plane.
    async fn node_names(&self) -> Result<BTreeSet<String>> {
        if self.settings.pods_selector.is_empty() {
            return Ok(BTreeSet::from([self.settings.node_name.clone()]));
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.pods_namespace);
        let pods = call(api.list(&ListParams::default().labels(&self.settings.pods_selector))).await?;
        Ok(pods.items.into_iter().filter(is_ready).filter_map(|pod| pod.spec?.node_name).collect())
    }
}

async fn write(client: &Client, object: &ObjectRef, addresses: &BTreeSet<String>) -> Outcome {
    let api: Api<Ingress> = Api::namespaced(client.clone(), &object.namespace);
    let patch = Patch::Merge(status(object, addresses));
    match call(api.patch_status(&object.name, &PatchParams::default(), &patch)).await {
        Ok(_) => {
            debug!(%object, ?addresses, "status written");
            Outcome::Written
        }
        // Deleted; or deleted and made again, which the next build knows.
        Err(error) if matches!(refusal(&error), Some(404 | 409)) => Outcome::Refused,
        Err(error) => {
            warn!(%object, %error, "the status could not be written");
            // Refused by a policy about this object, or for what it says; else it is about the server, or about us.
            let is_of_object = matches!(refusal(&error), Some(400 | 403 | 413 | 422));
            if is_of_object { Outcome::Refused } else { Outcome::Failed }
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The first address of each block: every address of a pool serves every Ingress, and one is enough to find it.
fn of_pools(edge: &Edge, only: &[String]) -> BTreeSet<String> {
    let pools = edge.pools.iter().filter(|pool| only.is_empty() || only.contains(&pool.name));
    pools.flat_map(|pool| &pool.blocks).map(|block| block.first.to_string()).collect()
}

/// As ingress-nginx: what a load balancer was given, with the external addresses; of a NodePort the external ones, else
/// as of a ClusterIP its cluster address; of an ExternalName the name.
fn of_service(service: &Service) -> BTreeSet<String> {
    let Some(spec) = &service.spec else { return BTreeSet::new() };
    let external = spec.external_ips.iter().flatten().cloned();
    let cluster = spec.cluster_ip.iter().filter(|address| !address.is_empty() && *address != "None").cloned();
    match spec.type_.as_deref() {
        Some("ExternalName") => spec.external_name.iter().cloned().collect(),
        Some("LoadBalancer") => {
            let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
            let given = entries
                .iter()
                .filter_map(|entry| status_entry(entry.ip.as_deref(), entry.hostname.as_deref()));
            external.chain(given).collect()
        }
        Some("NodePort") if spec.external_ips.as_ref().is_some_and(|external| !external.is_empty()) => {
            external.collect()
        }
        _ => cluster.collect(),
    }
}

fn of_node(node: &Node, prefers_internal: bool) -> BTreeSet<String> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let of_type = |wanted: &str| -> BTreeSet<String> {
        addresses
            .iter()
            .filter(|address| address.type_ == wanted)
            .map(|address| address.address.clone())
            .collect()
    };
    let external = of_type("ExternalIP");
    if prefers_internal || external.is_empty() { of_type("InternalIP") } else { external }
}

/// Addresses and host names in the status of an Ingress.
fn published(ingress: &Ingress) -> BTreeSet<String> {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    entries.iter().filter_map(|entry| status_entry(entry.ip.as_deref(), entry.hostname.as_deref())).collect()
}

fn status(object: &ObjectRef, addresses: &BTreeSet<String>) -> Value {
    let entry = |address: &String| match address.split_once(' ') {
        Some((ip, hostname)) => json!({ "ip": ip, "hostname": hostname }),
        None if address.parse::<IpAddr>().is_ok() => json!({ "ip": address }),
        None => json!({ "hostname": address }),
    };
    let entries: Vec<Value> = addresses.iter().map(entry).collect();
    // An empty list would leave `{}` entries of other fields; null removes the field in a merge patch.
    let entries = if entries.is_empty() { Value::Null } else { Value::Array(entries) };
    // With the UID, the API server refuses the write to another object that took the name meanwhile.
    json!({ "metadata": { "uid": object.uid }, "status": { "loadBalancer": { "ingress": entries } } })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::{Method, StatusCode};

    use super::super::testing::{self, Log};
    use super::*;
    use crate::model::edge::{AddressRange, Pool};

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn addresses_and_host_names_go_into_their_own_fields() {
        let expected = json!({ "metadata": { "uid": "uid-a" }, "status": { "loadBalancer": { "ingress": [
            { "ip": "198.18.0.1" }, { "ip": "198.18.0.2", "hostname": "two.example.test" }, { "ip": "2001:db8::1" },
            { "hostname": "edge.example.test" }
        ] } } });
        let all = ["198.18.0.1", "198.18.0.2 two.example.test", "2001:db8::1", "edge.example.test"];
        assert_eq!(status(&object("a"), &set(&all)), expected);
        assert_eq!(
            status(&object("a"), &set(&[])),
            json!({ "metadata": { "uid": "uid-a" }, "status": { "loadBalancer": { "ingress": null } } })
        );
    }

    #[test]
    fn each_block_of_a_pool_is_named_by_its_first_address() {
        let range = |first: &str, last: &str| AddressRange {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        };
        let blocks = vec![range("198.18.100.0", "198.18.100.15"), range("2001:db8::10", "2001:db8::1f")];
        let edge = Edge { pools: vec![Pool::new("edge", blocks)], ..Edge::default() };
        assert_eq!(of_pools(&edge, &[]), set(&["198.18.100.0", "2001:db8::10"]));
        assert_eq!(of_pools(&edge, &["other".to_owned()]), set(&[]));
    }

    #[test]
    fn external_node_addresses_win_unless_told_otherwise() {
        let node: Node = serde_json::from_value(json!({ "status": { "addresses": [
            { "type": "InternalIP", "address": "198.18.0.1" }, { "type": "ExternalIP", "address": "203.0.113.1" },
            { "type": "Hostname", "address": "node-1" }
        ] } }))
        .unwrap();
        assert_eq!(of_node(&node, false), set(&["203.0.113.1"]));
        assert_eq!(of_node(&node, true), set(&["198.18.0.1"]));
    }

    #[test]
    fn a_service_publishes_what_it_was_given() {
        let given = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }, { "hostname": "lb.example.test" }] } });
        for (spec, status, expected) in [
            (
                json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.9", "externalIPs": ["203.0.113.9"] }),
                &given,
                &["203.0.113.1", "203.0.113.9", "lb.example.test"][..],
            ),
            (json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.9" }), &Value::Null, &[]),
            (
                json!({ "type": "LoadBalancer" }),
                &json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.1", "hostname": "lb.example.test" }] } }),
                &["203.0.113.1 lb.example.test"],
            ),
            (
                json!({ "type": "NodePort", "clusterIP": "10.96.0.9", "externalIPs": ["203.0.113.9"] }),
                &Value::Null,
                &["203.0.113.9"],
            ),
            (json!({ "type": "NodePort", "clusterIP": "10.96.0.9" }), &Value::Null, &["10.96.0.9"]),
            (json!({ "type": "ClusterIP", "clusterIP": "10.96.0.9" }), &Value::Null, &["10.96.0.9"]),
            (json!({ "type": "ClusterIP", "clusterIP": "None" }), &Value::Null, &[]),
            (
                json!({ "type": "ExternalName", "externalName": "edge.example.test" }),
                &Value::Null,
                &["edge.example.test"],
            ),
        ] {
            let service: Service = serde_json::from_value(json!({ "spec": spec, "status": status })).unwrap();
            assert_eq!(of_service(&service), set(expected), "{service:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_loses_its_address_has_a_minute_to_find_it_again() {
        let (client, log) = cluster(&Arc::new(AtomicBool::new(true)), "203.0.113.1");
        let mut publisher = Publisher::new(client, StatusSettings { of_service: true, ..settings() });
        let service = |given: Value| -> Service {
            serde_json::from_value(
                json!({ "spec": { "type": "LoadBalancer" }, "status": { "loadBalancer": given } }),
            )
            .unwrap()
        };
        let assigned = service(json!({ "ingress": [{ "ip": "203.0.113.1" }] }));
        publisher.publish(&Edge::default(), Some(&assigned), &[ours(&[])]).await;
        assert_eq!(patches(&log), [json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }] } })]);
        let lost = service(json!({}));
        for (seconds, expected) in [(1, 1), (20, 1), (20, 1), (19, 1), (2, 2)] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            publisher.publish(&Edge::default(), Some(&lost), &[ours(&["203.0.113.1"])]).await;
            assert_eq!(patches(&log).len(), expected, "{seconds} s later");
        }
    }

    fn object(name: &str) -> ObjectRef {
        ObjectRef {
            api_version: "networking.k8s.io/v1".to_owned(),
            kind: "Ingress".to_owned(),
            namespace: "web".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
        }
    }

    fn ours(published: &[&str]) -> OurIngress {
        OurIngress {
            object: object("a"),
            published: published.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn settings() -> StatusSettings {
        StatusSettings {
            fixed: Vec::new(),
            of_service: false,
            pools: vec![],
            pods_namespace: "edge".to_owned(),
            pods_selector: "component=data-plane".to_owned(),
            node_name: String::new(),
            prefers_internal: false,
        }
    }

    /// A cluster with one node, whose pod of the data plane is ready or not, and the Ingress `a`.
    fn cluster(ready: &Arc<AtomicBool>, published: &'static str) -> (Client, Log) {
        let ready = Arc::clone(ready);
        testing::client(move |seen| {
            let path = seen.path.split('?').next().unwrap_or_default();
            let ready = if ready.load(Ordering::Relaxed) { "True" } else { "False" };
            let body = match path {
                "/api/v1/namespaces/edge/pods" => json!({ "metadata": {}, "items": [{
                    "metadata": {}, "spec": { "nodeName": "node-0", "containers": [] },
                    "status": { "conditions": [{ "type": "Ready", "status": ready }] },
                }] }),
                "/api/v1/nodes/node-0" => json!({
                    "metadata": {}, "status": { "addresses": [{ "type": "InternalIP", "address": "198.18.0.10" }] },
                }),
                _ => json!({
                    "metadata": { "name": "a", "uid": "uid-a" }, "spec": {},
                    "status": { "loadBalancer": { "ingress": [{ "ip": published }] } },
                }),
            };
            (StatusCode::OK, body)
        })
    }

    fn patches(log: &Log) -> Vec<Value> {
        let log = log.lock().expect("lock");
        log.iter()
            .filter(|seen| seen.method == Method::PATCH)
            .map(|seen| seen.body["status"].clone())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_written_when_it_differs_and_once_in_ten_seconds() {
        let (client, log) = cluster(&Arc::new(AtomicBool::new(true)), "198.18.0.10");
        let mut publisher = Publisher::new(client, settings());
        publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
        assert!(patches(&log).is_empty(), "what is right is left alone");
        publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.9"])]).await;
        publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.9"])]).await;
        assert_eq!(patches(&log), [json!({ "loadBalancer": { "ingress": [{ "ip": "198.18.0.10" }] } })]);
        tokio::time::advance(PAUSE).await;
        publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.9"])]).await;
        assert_eq!(patches(&log).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_taken_back_only_when_nobody_served_for_a_minute() {
        let ready = Arc::new(AtomicBool::new(false));
        let (client, log) = cluster(&ready, "198.18.0.10");
        let mut publisher = Publisher::new(client, settings());
        for seconds in [0, 20, 20, 19] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
            assert!(patches(&log).is_empty(), "a restarted controller gives the data plane a minute");
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
        assert_eq!(patches(&log), [json!({ "loadBalancer": { "ingress": null } })]);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_minutes_without_the_api_server_do_not_count_as_an_absence_of_nodes() {
        let ready = Arc::new(AtomicBool::new(true));
        let (client, log) = cluster(&ready, "198.18.0.10");
        let mut publisher = Publisher::new(client, settings());
        publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
        tokio::time::advance(Duration::from_secs(600)).await;
        // It is back, and no kubelet has reported yet; then they do.
        ready.store(false, Ordering::Relaxed);
        for seconds in [0, 10, 10, 10, 10, 10] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
        }
        ready.store(true, Ordering::Relaxed);
        publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
        assert!(patches(&log).is_empty(), "the status was not touched");
    }

    #[tokio::test(start_paused = true)]
    async fn a_world_that_changes_all_the_time_asks_for_the_nodes_now_and_then() {
        let (client, log) = cluster(&Arc::new(AtomicBool::new(true)), "198.18.0.10");
        let mut publisher = Publisher::new(client, settings());
        for _ in 0..100 {
            publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let count =
            |part: &str| log.lock().expect("lock").iter().filter(|seen| seen.path.contains(part)).count();
        assert_eq!((count("/pods"), count("/nodes/")), (2, 2), "in ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_ends_where_the_api_server_is_overloaded_and_goes_on_past_one_object() {
        for (code, expected) in [(StatusCode::TOO_MANY_REQUESTS, 8), (StatusCode::UNPROCESSABLE_ENTITY, 100)]
        {
            let (client, log) = testing::client(move |_| testing::refuse(code, "Refused"));
            let fixed = vec!["198.18.0.10".to_owned()];
            let mut publisher = Publisher::new(client, StatusSettings { fixed, ..settings() });
            let all: Vec<OurIngress> = (0..100)
                .map(|number| OurIngress { object: object(&format!("a{number}")), published: Vec::new() })
                .collect();
            assert!(!publisher.publish(&Edge::default(), None, &all).await, "nothing to do at once");
            assert_eq!(patches(&log).len(), expected, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_ingress_that_is_not_ours_any_more_is_cleared_if_it_says_what_we_wrote() {
        for (says, expected) in [("198.18.0.10", 1), ("203.0.113.1", 0)] {
            let (client, log) = cluster(&Arc::new(AtomicBool::new(true)), says);
            let mut publisher = Publisher::new(client, settings());
            publisher.publish(&Edge::default(), None, &[ours(&["198.18.0.10"])]).await;
            publisher.publish(&Edge::default(), None, &[]).await;
            publisher.publish(&Edge::default(), None, &[]).await;
            assert_eq!(patches(&log).len(), expected, "the status says {says}");
        }
    }
}
