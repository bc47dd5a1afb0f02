//! Pods of the data plane that do not serve, for the Event `DataplaneDegraded` on them.
//!
//! A pod that starts or ends is no news; one that stays unready means a node without service. Why stands in the log and
//! in `/readyz` of its containers: here is only said which.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::time::Instant;
use tracing::warn;

use super::call;
use super::events::Notice;
use crate::k8s::cluster::reference;

/// A pod may be unready for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Watches over the pods of the data plane.
pub struct DataPlane {
    client: Client,
    namespace: String,
    selector: String,
    /// Since when a pod is unready, by UID.
    unready: HashMap<String, Instant>,
}

impl DataPlane {
    /// Looks for pods of `namespace` with the labels of `selector`; an empty one finds none.
    pub fn new(client: Client, namespace: &str, selector: &str) -> Self {
        let (namespace, selector) = (namespace.to_owned(), selector.to_owned());
        Self { client, namespace, selector, unready: HashMap::new() }
    }

    /// What is degraded now.
    pub async fn degraded(&mut self) -> Vec<Notice> {
        if self.selector.is_empty() {
            return Vec::new();
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        match call(api.list(&ListParams::default().labels(&self.selector))).await {
            Ok(pods) => self.judge(&pods.items, Instant::now()),
            Err(error) => {
                warn!(%error, "the pods of the data plane could not be read");
                Vec::new()
            }
        }
    }

    fn judge(&mut self, pods: &[Pod], now: Instant) -> Vec<Notice> {
        let mut before = std::mem::take(&mut self.unready);
        let mut found = Vec::new();
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let containers = unready_containers(pod);
            if containers.is_empty() {
                continue;
            }
            let object = reference(pod);
            let since = before.remove(&object.uid).unwrap_or(now);
            if now.duration_since(since) >= PATIENCE {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
                let note = format!(
                    "not ready: {}; new connections to {node} may not be served; see the log of the container, and /readyz",
                    containers.join(", ")
                );
                found.push(Notice::degraded(object.clone(), note));
            }
            self.unready.insert(object.uid, since);
        }
        found
    }
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
mod tests {
    use serde_json::json;

    use super::super::testing;
    use super::*;

    fn pod(agent_is_ready: bool) -> Pod {
        let pod = json!({
            "metadata": { "name": "edge-1", "namespace": "edge", "uid": "1" },
            "spec": { "nodeName": "node-1", "containers": [{ "name": "agent" }, { "name": "proxy" }] },
            "status": { "containerStatuses": [
                { "name": "agent", "ready": agent_is_ready, "image": "", "imageID": "", "restartCount": 0 },
                { "name": "proxy", "ready": true, "image": "", "imageID": "", "restartCount": 0 },
            ] },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_pod_that_stays_unready_is_told() {
        let (client, _) = testing::client(|_| testing::refuse(http::StatusCode::NOT_FOUND, "NotFound"));
        let mut plane = DataPlane::new(client, "edge", "component=data-plane");
        let start = Instant::now();
        assert!(plane.judge(&[pod(false)], start).is_empty());
        assert!(plane.judge(&[pod(true)], start + Duration::from_secs(20)).is_empty());
        assert!(
            plane.judge(&[pod(false)], start + Duration::from_secs(31)).is_empty(),
            "it was ready meanwhile"
        );
        let told = plane.judge(&[pod(false)], start + Duration::from_secs(61));
        assert_eq!(told.len(), 1);
        assert!(format!("{told:?}").contains("not ready: agent; new connections to node-1"), "{told:?}");
    }
}
