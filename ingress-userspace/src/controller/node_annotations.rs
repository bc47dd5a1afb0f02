//! The annotation `portcullis.dev/mode` of Nodes: how each serves, beside what else is known of it (`kubectl describe node`).
//!
//! Agents may write no Node. What they tell in the Leases of their nodes is written here, by way of the Node's status, as a
//! kubelet does: that right changes neither taints nor whether pods are placed there. A Node that runs no pod of ours any
//! more loses the annotation.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Duration, Instant};
use tracing::{debug, warn};

use super::{call, refusal};
use crate::k8s::cluster::Objects;
use crate::k8s::node_lease::MODE;

/// Nodes written per round; the rest follows in the next ones.
const MOST: usize = 50;
/// One Node is not written again before its write was seen, or this time is over.
const PAUSE: Duration = Duration::from_secs(30);
/// While the right is missing, it is tried this seldom.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);

/// What is known of the nodes that run pods of ours: the mode, or that it cannot be told just now.
pub type Modes = BTreeMap<String, Option<String>>;

/// Writes the annotation.
pub struct Publisher {
    client: Client,
    written: BTreeMap<String, (Option<String>, Instant)>,
    /// When the API server refused.
    refused: Option<Instant>,
}

impl Publisher {
    /// Begins with nothing written.
    pub fn new(client: Client) -> Self {
        Self { client, written: BTreeMap::new(), refused: None }
    }

    /// Brings the Nodes to what is known.
    pub async fn publish(&mut self, nodes: &Objects<Node>, modes: &Modes) {
        self.written
            .retain(|name, (_, at)| at.elapsed() < PAUSE && nodes.keys().any(|key| key.name == *name));
        if self.refused.is_some_and(|at| at.elapsed() < REFUSED_PAUSE) {
            return;
        }
        let api: Api<Node> = Api::all(self.client.clone());
        for (name, wanted) in due(nodes, modes, &self.written).into_iter().take(MOST) {
            let patch = Patch::Merge(json!({ "metadata": { "annotations": { MODE: wanted } } }));
            match call(api.patch_status(&name, &PatchParams::default(), &patch)).await {
                Ok(_) => {
                    debug!(node = name, mode = wanted, "the annotation of a Node was written");
                    self.refused = None;
                    self.written.insert(name, (wanted, Instant::now()));
                }
                Err(error) if matches!(refusal(&error), Some(404 | 409)) => {}
                Err(error) if refusal(&error) == Some(403) => {
                    warn!(%error, "modes are not written to Nodes; allow the controller to patch nodes/status");
                    self.refused = Some(Instant::now());
                    return;
                }
                Err(error) => {
                    warn!(node = name, %error, "the annotation of a Node could not be written");
                    return;
                }
            }
        }
    }
}

/// The Nodes whose annotation is not what it should be, with what it should be.
fn due(
    nodes: &Objects<Node>,
    modes: &Modes,
    written: &BTreeMap<String, (Option<String>, Instant)>,
) -> Vec<(String, Option<String>)> {
    let mut due = Vec::new();
    for (key, node) in nodes {
        let is = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(MODE));
        let wanted = match modes.get(&key.name) {
            Some(None) => continue,
            Some(Some(mode)) => Some(mode.clone()),
            None => None,
        };
        let was_just_written = written.get(&key.name).is_some_and(|(before, _)| *before == wanted);
        if is != wanted.as_ref() && !was_just_written {
            due.push((key.name.clone(), wanted));
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, StatusCode};

    use super::super::testing;
    use super::*;
    use crate::k8s::cluster::ObjectKey;

    fn nodes(all: &[(&str, Option<&str>)]) -> Objects<Node> {
        let node = |(name, mode): &(&str, Option<&str>)| {
            let annotations = mode.map(|mode| json!({ MODE: mode }));
            let node = json!({ "metadata": { "name": name, "annotations": annotations } });
            (ObjectKey::new("", *name), Arc::new(serde_json::from_value(node).unwrap()))
        };
        all.iter().map(node).collect()
    }

    fn modes(all: &[(&str, Option<&str>)]) -> Modes {
        all.iter().map(|(name, mode)| ((*name).to_owned(), mode.map(str::to_owned))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_mode_is_written_once_and_goes_with_the_pod() {
        let (client, log) = testing::client(|_| (StatusCode::OK, json!({ "metadata": { "name": "a" } })));
        let mut publisher = Publisher::new(client);
        let all = nodes(&[
            ("new", None),
            ("same", Some("tc")),
            ("gone", Some("tc")),
            ("unknown", Some("tc")),
            ("elsewhere", None),
        ]);
        let known = modes(&[("new", Some("xdp-native")), ("same", Some("tc")), ("unknown", None)]);
        for _ in 0..2 {
            publisher.publish(&all, &known).await;
        }
        let seen: Vec<_> = log.lock().expect("lock").clone();
        let patches: Vec<_> = seen
            .iter()
            .map(|seen| {
                assert_eq!(seen.method, Method::PATCH);
                let path = seen.path.split('?').next().unwrap_or_default().to_owned();
                (path, seen.body["metadata"]["annotations"][MODE].clone())
            })
            .collect();
        assert_eq!(
            patches,
            [
                ("/api/v1/nodes/gone/status".to_owned(), json!(null)),
                ("/api/v1/nodes/new/status".to_owned(), json!("xdp-native")),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_right_is_told_and_not_tried_all_the_time() {
        let (client, log) = testing::client(|_| testing::refuse(StatusCode::FORBIDDEN, "Forbidden"));
        let mut publisher = Publisher::new(client);
        let (all, known) =
            (nodes(&[("a", None), ("b", None)]), modes(&[("a", Some("tc")), ("b", Some("tc"))]));
        for _ in 0..5 {
            publisher.publish(&all, &known).await;
        }
        assert_eq!(log.lock().expect("lock").len(), 1);
        tokio::time::advance(REFUSED_PAUSE).await;
        publisher.publish(&all, &known).await;
        assert_eq!(log.lock().expect("lock").len(), 2);
    }
}
