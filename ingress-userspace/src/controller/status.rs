//! `.status.loadBalancer` of the Ingresses that are ours: where clients reach them.
//!
//! In order of precedence: addresses that a flag names, a Service's addresses, the virtual addresses of the pools, the
//! addresses of the nodes that run the data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::model::edge::Edge;
use crate::translate::OurIngress;
use crate::translate::problem::ObjectRef;

/// One object is not written more often, unless it has just become ours.
const PAUSE: Duration = Duration::from_secs(10);
/// When no node serves for this long, addresses are taken back.
const NO_NODE: Duration = Duration::from_secs(60);

/// What to publish.
#[derive(Clone, Debug)]
pub struct StatusSettings {
    /// Published instead of everything else.
    pub fixed: Vec<String>,
    /// Service whose addresses are published, namespace and name.
    pub service: Option<(String, String)>,
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
    /// What this replica wrote, and when.
    written: BTreeMap<ObjectRef, (BTreeSet<String>, Instant)>,
    /// Last time that some node served.
    served: Instant,
    last: BTreeSet<String>,
}

impl Publisher {
    /// Begins with nothing written.
    pub fn new(client: Client, settings: StatusSettings) -> Self {
        Self { client, settings, written: BTreeMap::new(), served: Instant::now(), last: BTreeSet::new() }
    }

    /// Brings the status of all Ingresses to what it should be.
    pub async fn publish(&mut self, edge: &Edge, ours: &[OurIngress]) {
        let addresses = match self.addresses(edge).await {
            Ok(addresses) => addresses,
            Err(error) => {
                warn!(%error, "the addresses to publish could not be read");
                return;
            }
        };
        let addresses = self.without_flapping(addresses);
        for ingress in ours {
            let is: BTreeSet<String> = ingress.published.iter().cloned().collect();
            if is == addresses {
                self.written.insert(ingress.object.clone(), (is, Instant::now() - PAUSE));
            } else {
                self.write(&ingress.object, &addresses).await;
            }
        }
        let known: BTreeSet<&ObjectRef> = ours.iter().map(|ingress| &ingress.object).collect();
        let left: Vec<ObjectRef> =
            self.written.keys().filter(|object| !known.contains(object)).cloned().collect();
        for object in left {
            // No longer ours, or gone: an empty answer for an object that another controller may now own.
            self.clear(&object).await;
        }
    }

    /// Nodes that come and go must not empty the status at once: what was published stays for a while.
    fn without_flapping(&mut self, addresses: BTreeSet<String>) -> BTreeSet<String> {
        if !addresses.is_empty() {
            self.served = Instant::now();
            self.last.clone_from(&addresses);
        } else if self.served.elapsed() < NO_NODE {
            return self.last.clone();
        }
        addresses
    }

    async fn write(&mut self, object: &ObjectRef, addresses: &BTreeSet<String>) {
        let too_soon = self.written.get(object).is_some_and(|(_, at)| at.elapsed() < PAUSE);
        if too_soon {
            return;
        }
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), &object.namespace);
        let patch = Patch::Merge(status(addresses));
        match api.patch_status(&object.name, &PatchParams::default(), &patch).await {
            Ok(_) => {
                debug!(%object, ?addresses, "status written");
                self.written.insert(object.clone(), (addresses.clone(), Instant::now()));
            }
            Err(Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => warn!(%object, %error, "the status could not be written"),
        }
    }

    /// Empties the status of an object that we wrote, if it still says what we wrote.
    async fn clear(&mut self, object: &ObjectRef) {
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), &object.namespace);
        match api.get_opt(&object.name).await {
            Ok(Some(ingress)) => {
                let is_same_object = ingress.metadata.uid.as_deref() == Some(object.uid.as_str());
                let wrote = self.written.get(object).map(|(addresses, _)| addresses);
                if is_same_object && wrote.is_some_and(|wrote| *wrote == published(&ingress)) {
                    let patch = Patch::Merge(status(&BTreeSet::new()));
                    if let Err(error) = api.patch_status(&object.name, &PatchParams::default(), &patch).await
                    {
                        warn!(%object, %error, "the status could not be cleared");
                        return;
                    }
                }
            }
            Ok(None) => {}
            Err(error) => {
                warn!(%object, %error, "the status could not be read");
                return;
            }
        }
        self.written.remove(object);
    }

    async fn addresses(&self, edge: &Edge) -> Result<BTreeSet<String>, Error> {
        if !self.settings.fixed.is_empty() {
            return Ok(self.settings.fixed.iter().cloned().collect());
        }
        if let Some((namespace, name)) = &self.settings.service {
            let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
            return Ok(api.get_opt(name).await?.map(|service| of_service(&service)).unwrap_or_default());
        }
        let pools = of_pools(edge);
        if !pools.is_empty() {
            return Ok(pools);
        }
        let mut addresses = BTreeSet::new();
        let nodes: Api<Node> = Api::all(self.client.clone());
        for name in self.node_names().await? {
            if let Some(node) = nodes.get_opt(&name).await? {
                addresses.extend(of_node(&node, self.settings.prefers_internal));
            }
        }
        Ok(addresses)
    }

    /// Nodes with a ready pod of the data plane.
    async fn node_names(&self) -> Result<BTreeSet<String>, Error> {
        if self.settings.pods_selector.is_empty() {
            return Ok(BTreeSet::from([self.settings.node_name.clone()]));
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.pods_namespace);
        let pods = api.list(&ListParams::default().labels(&self.settings.pods_selector)).await?;
        Ok(pods.items.into_iter().filter(is_ready).filter_map(|pod| pod.spec?.node_name).collect())
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The first address of each block: every address of a pool serves every Ingress, and one is enough to find it.
fn of_pools(edge: &Edge) -> BTreeSet<String> {
    edge.pools.iter().flat_map(|pool| &pool.blocks).map(|block| block.first.to_string()).collect()
}

fn of_service(service: &Service) -> BTreeSet<String> {
    let external = service.spec.as_ref().and_then(|spec| spec.external_ips.clone()).unwrap_or_default();
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let assigned = ingress.iter().filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone()));
    external.into_iter().chain(assigned).collect()
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
    entries.iter().filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone())).collect()
}

fn status(addresses: &BTreeSet<String>) -> Value {
    let entry = |address: &String| match address.parse::<IpAddr>() {
        Ok(ip) => json!({ "ip": ip }),
        Err(_) => json!({ "hostname": address }),
    };
    let entries: Vec<Value> = addresses.iter().map(entry).collect();
    // An empty list would leave `{}` entries of other fields; null removes the field in a merge patch.
    let entries = if entries.is_empty() { Value::Null } else { Value::Array(entries) };
    json!({ "status": { "loadBalancer": { "ingress": entries } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::{AddressRange, Pool};

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn addresses_and_host_names_go_into_their_own_fields() {
        let expected = json!({ "status": { "loadBalancer": { "ingress": [
            { "ip": "198.18.0.1" }, { "ip": "2001:db8::1" }, { "hostname": "edge.example.test" }
        ] } } });
        assert_eq!(status(&set(&["198.18.0.1", "2001:db8::1", "edge.example.test"])), expected);
        assert_eq!(status(&set(&[])), json!({ "status": { "loadBalancer": { "ingress": null } } }));
    }

    #[test]
    fn each_block_of_a_pool_is_named_by_its_first_address() {
        let range = |first: &str, last: &str| AddressRange {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        };
        let blocks = vec![range("198.18.100.0", "198.18.100.15"), range("2001:db8::10", "2001:db8::1f")];
        let edge = Edge { pools: vec![Pool { name: "edge".to_owned(), blocks }], policies: Vec::new() };
        assert_eq!(of_pools(&edge), set(&["198.18.100.0", "2001:db8::10"]));
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
        let service: Service = serde_json::from_value(json!({
            "spec": { "externalIPs": ["203.0.113.9"] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }, { "hostname": "lb.example.test" }] } }
        }))
        .unwrap();
        assert_eq!(of_service(&service), set(&["203.0.113.1", "203.0.113.9", "lb.example.test"]));
    }
}
