//! `.status` of AddressPools and EdgePolicies: whether they are accepted, how many addresses are left, and which nodes do
//! not do what they say.
//!
//! Stores hold these objects without status, so that writing one rebuilds nothing. What an object holds is read once, before
//! the first write.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::events::Notice;
use super::members::Sources;
use super::{call, refusal};
use crate::k8s::cluster::{ObjectKey, Objects, reference};
use crate::k8s::crd::{AddressPool, EdgePolicy, StatusCondition};
use crate::model::edge::{Edge, Pool};
use crate::problem::{Code, ObjectRef, Problem, Severity};
use crate::translate::Assignment;

/// One object is not written more often.
const PAUSE: Duration = Duration::from_secs(5);
/// So many failing nodes are named.
const MOST_NAMED: usize = 10;

/// The nodes of the data plane, by what they do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// They serve the newest configuration.
    pub ready: BTreeSet<String>,
    /// They do not, or do not say so any more.
    pub failing: BTreeSet<String>,
    /// The nodes that do not enforce a policy as a whole, by its name: they serve in `userspace` mode, or lack room.
    pub unenforced: BTreeMap<String, BTreeSet<String>>,
    /// Whom nodes banned for a policy, in words, by its name and by node.
    pub bans: BTreeMap<String, BTreeMap<String, String>>,
}

impl Nodes {
    /// Only these.
    fn only(&self, names: &BTreeSet<&str>) -> Self {
        let of = |set: &BTreeSet<String>| {
            set.iter().filter(|name| names.contains(name.as_str())).cloned().collect()
        };
        Self { ready: of(&self.ready), failing: of(&self.failing), ..Self::default() }
    }

    /// As a policy has them: who does not enforce it as a whole fails it.
    fn of_policy(&self, policy: &str) -> Self {
        let Some(unenforced) = self.unenforced.get(policy) else { return self.clone() };
        Self {
            ready: self.ready.difference(unenforced).cloned().collect(),
            failing: self.failing.union(unenforced).cloned().collect(),
            ..self.clone()
        }
    }

    /// Events on policies: that some nodes do not enforce them as a whole, and whom nodes banned.
    pub fn notices(&self, policies: &Objects<EdgePolicy>) -> Vec<Notice> {
        let of =
            |name: &String| policies.get(&ObjectKey::new("", &**name)).map(|policy| reference(&**policy));
        let told = self
            .unenforced
            .iter()
            .filter_map(|(name, nodes)| Some(Notice::problem(&unenforced(of(name)?, nodes))));
        let bans = self.bans.iter().filter_map(|(name, nodes)| Some((of(name)?, nodes)));
        let banned = bans.flat_map(|(policy, nodes)| {
            nodes.iter().map(move |(node, words)| Notice::banned(policy.clone(), node, words))
        });
        told.chain(banned).collect()
    }
}

/// What is wrong with a policy that these nodes do not enforce as a whole.
fn unenforced(policy: ObjectRef, nodes: &BTreeSet<String>) -> Problem {
    Problem {
        object: policy,
        code: Code::FieldUnsupported,
        severity: Severity::Warning,
        field: "spec".to_owned(),
        value: String::new(),
        message: format!(
            "parts of it do not hold on {} nodes: {}; the Events of their pods and `portcullis status` there name them: limits of \
             packets and bytes in userspace mode, which sees connections only (limit connectionsPerSecond there), or lists and \
             limits for which the kernel has no room (shorten them)",
            nodes.len(),
            named(nodes)
        ),
    }
}

fn named(nodes: &BTreeSet<String>) -> String {
    nodes.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Writes the status of both kinds.
pub struct Publisher {
    client: Client,
    /// What an object holds, and when it was written or read.
    held: BTreeMap<ObjectRef, (Value, Instant)>,
}

/// The part of an object that is read.
#[derive(Debug, Default, Deserialize)]
struct Held {
    #[serde(default)]
    status: Value,
}

impl Publisher {
    /// Begins with nothing known.
    pub fn new(client: Client) -> Self {
        Self { client, held: BTreeMap::new() }
    }

    /// Brings the status of all pools and policies to what it should be.
    pub async fn publish(
        &mut self,
        sources: &Sources,
        (edge, assignments): (&Edge, &[Assignment]),
        problems: &[Problem],
        nodes: &Nodes,
    ) {
        let mut known = BTreeSet::new();
        for (key, object) in &sources.pools {
            let owner = reference(&**object);
            let pool = edge.pools.iter().find(|pool| pool.name == key.name);
            let status = of_pool(object, &owner, pool, assignments, (problems, nodes));
            self.bring::<AddressPool>(&owner, status).await;
            known.insert(owner);
        }
        for object in sources.policies.values() {
            let owner = reference(&**object);
            let is_enforced = edge.policies.iter().any(|policy| policy.name == owner.name);
            let status = of_policy(object, &owner, is_enforced, (problems, nodes));
            self.bring::<EdgePolicy>(&owner, status).await;
            known.insert(owner);
        }
        self.held.retain(|object, _| known.contains(object));
    }

    async fn bring<K>(&mut self, object: &ObjectRef, status: Value)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let (held, at) = match self.held.get(object) {
            Some((held, at)) => (held.clone(), Some(*at)),
            None => match call(api.get_opt(&object.name)).await {
                Ok(Some(found)) => {
                    let text = serde_json::to_value(&found).unwrap_or_default();
                    let held: Held = serde_json::from_value(text).unwrap_or_default();
                    (held.status, None)
                }
                Ok(None) => return,
                Err(error) => {
                    warn!(%object, %error, "the status could not be read");
                    return;
                }
            },
        };
        if without_times(&held) == without_times(&status) {
            self.held.insert(object.clone(), (held, at.unwrap_or_else(Instant::now)));
            return;
        }
        if at.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let status = with_times(status, &held, &Timestamp::now().to_string());
        // What is not there any more is removed by null.
        let gone =
            held.as_object().into_iter().flat_map(|held| held.keys()).filter(|key| status.get(key).is_none());
        let mut patch = status.clone();
        if let Some(fields) = patch.as_object_mut() {
            fields.extend(gone.map(|key| (key.clone(), Value::Null)));
        }
        let patch = Patch::Merge(json!({ "metadata": { "uid": object.uid }, "status": patch }));
        match call(api.patch_status(&object.name, &PatchParams::default(), &patch)).await {
            Ok(_) => {
                debug!(%object, "status written");
                self.held.insert(object.clone(), (status, Instant::now()));
            }
            Err(error) if matches!(refusal(&error), Some(404 | 409)) => drop(self.held.remove(object)),
            Err(error) => warn!(%object, %error, "the status could not be written"),
        }
    }
}

fn of_pool(
    object: &AddressPool,
    owner: &ObjectRef,
    pool: Option<&Pool>,
    assignments: &[Assignment],
    (problems, nodes): (&[Problem], &Nodes),
) -> Value {
    let blocks = pool.map(|pool| pool.blocks.as_slice()).unwrap_or_default();
    let total: u128 = blocks.iter().map(crate::model::edge::AddressRange::count).sum();
    let given = assignments.iter().flat_map(|given| &given.addresses);
    let used = given.filter(|ip| blocks.iter().any(|block| block.contains(**ip))).count() as u128;
    let of_pool: Option<BTreeSet<&str>> = pool
        .filter(|pool| !pool.nodes.is_empty())
        .map(|pool| pool.nodes.iter().map(|node| node.name.as_str()).collect());
    let nodes = of_pool.map_or_else(|| nodes.clone(), |names| nodes.only(&names));
    let conditions = [accepted(owner, problems, total > 0), programmed(&nodes, total > 0)];
    let number = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
    json!({
        "conditions": conditions.map(|condition| written(condition, object.metadata.generation)),
        "addresses": { "total": number(total), "used": number(used), "free": number(total.saturating_sub(used)) },
        "nodes": { "ready": nodes.ready.len(), "failing": nodes.failing.len() },
    })
}

fn of_policy(
    object: &EdgePolicy,
    owner: &ObjectRef,
    is_enforced: bool,
    (problems, nodes): (&[Problem], &Nodes),
) -> Value {
    let nodes = nodes.of_policy(&owner.name);
    let mut programmed = programmed(&nodes, is_enforced);
    if let Some(found) = nodes.unenforced.get(&owner.name).filter(|_| is_enforced) {
        let Problem { field, message, .. } = unenforced(owner.clone(), found);
        (programmed.reason, programmed.message) = ("NotEnforced".to_owned(), format!("{field}: {message}"));
    }
    let conditions = [accepted(owner, problems, is_enforced), programmed];
    let mut status = json!({
        "conditions": conditions.map(|condition| written(condition, object.metadata.generation)),
        "nodes": { "ready": nodes.ready.len(), "failing": nodes.failing.len() },
    });
    if !nodes.failing.is_empty() {
        let named: Vec<&String> = nodes.failing.iter().take(MOST_NAMED).collect();
        if let Some(fields) = status.as_object_mut() {
            fields.insert("failing".to_owned(), json!(named));
        }
    }
    status
}

/// Whether the object is taken as it is written; the message is the first of what is wrong.
fn accepted(owner: &ObjectRef, problems: &[Problem], is_served: bool) -> StatusCondition {
    let of_object =
        problems.iter().filter(|problem| problem.object == *owner && problem.severity != Severity::Note);
    let worst = of_object.max_by(|one, other| one.severity.cmp(&other.severity).then_with(|| other.cmp(one)));
    let (status, reason, message) = match worst {
        Some(problem) => {
            let is_taken = is_served && problem.severity != Severity::Error;
            let message = format!("{}: {}", problem.field, problem.message);
            (is_taken, problem.code.name(), message)
        }
        None => (true, "Accepted", "every field is as it should be".to_owned()),
    };
    condition("Accepted", status, reason, message)
}

/// Whether the nodes do what the object says.
fn programmed(nodes: &Nodes, is_served: bool) -> StatusCondition {
    let (status, reason, message) = match (is_served, nodes.ready.is_empty(), nodes.failing.len()) {
        (false, _, _) => (false, "NotAccepted", "there is nothing to do for the nodes".to_owned()),
        (true, true, 0) => (false, "NoNode", "no node of the data plane is known".to_owned()),
        (true, _, 0) => (true, "Programmed", "every node does what the object says".to_owned()),
        (true, _, count) => {
            let named = named(&nodes.failing);
            (false, "NodesFailing", format!("{count} nodes do not, or do not say so: {named}"))
        }
    };
    condition("Programmed", status, reason, message)
}

fn condition(type_: &str, status: bool, reason: &str, message: String) -> StatusCondition {
    let status = if status { "True" } else { "False" };
    StatusCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        ..StatusCondition::default()
    }
}

fn written(condition: StatusCondition, generation: Option<i64>) -> Value {
    let condition = StatusCondition { observed_generation: generation, ..condition };
    serde_json::to_value(condition).unwrap_or_default()
}

/// The conditions of a status.
fn conditions(status: &mut Value) -> impl Iterator<Item = &mut Value> {
    status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten()
}

fn without_times(status: &Value) -> Value {
    let mut status = status.clone();
    for condition in conditions(&mut status) {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    status
}

/// With the time since when each condition is as it is.
fn with_times(mut status: Value, before: &Value, now: &str) -> Value {
    for condition in conditions(&mut status) {
        let same =
            |other: &&Value| other["type"] == condition["type"] && other["status"] == condition["status"];
        let since = before["conditions"].as_array().into_iter().flatten().find(same);
        let since = since.and_then(|other| other["lastTransitionTime"].as_str()).unwrap_or(now).to_owned();
        condition["lastTransitionTime"] = json!(since);
    }
    status
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, StatusCode};

    use super::super::testing;
    use super::*;
    use crate::model::edge::AddressRange;

    fn sources() -> Sources {
        let pool = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "AddressPool",
            "metadata": {"name": "edge", "uid": "p", "generation": 3}, "spec": {"blocks": []},
        });
        let pool = (ObjectKey::new("", "edge"), Arc::new(serde_json::from_value(pool).unwrap()));
        Sources { pools: [pool].into(), ..Sources::default() }
    }

    fn edge() -> Edge {
        let block =
            AddressRange { first: "198.18.100.0".parse().unwrap(), last: "198.18.100.3".parse().unwrap() };
        Edge { pools: vec![Pool::new("edge", vec![block])], ..Edge::default() }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_tells_its_free_addresses_and_its_nodes() {
        let (client, log) = testing::client(|_| {
            let object = json!({
                "apiVersion": "portcullis.dev/v1alpha1", "kind": "AddressPool",
                "metadata": {"name": "edge"}, "spec": {"blocks": []},
            });
            (StatusCode::OK, object)
        });
        let object = reference(&**sources().pools.values().next().unwrap());
        let given = [Assignment {
            object: object.clone(),
            addresses: vec!["198.18.100.1".parse().unwrap()],
            published: vec![],
        }];
        let nodes = Nodes { ready: names(&["a"]), failing: names(&["b"]), ..Nodes::default() };
        let mut publisher = Publisher::new(client);
        for _ in 0..2 {
            publisher.publish(&sources(), (&edge(), &given), &[], &nodes).await;
            tokio::time::advance(PAUSE).await;
        }
        let seen = log.lock().expect("lock").clone();
        let written: Vec<&Value> = seen
            .iter()
            .filter(|seen| seen.method == Method::PATCH)
            .map(|seen| &seen.body["status"])
            .collect();
        assert_eq!(written.len(), 1, "once");
        assert_eq!(written[0]["addresses"], json!({"total": 4, "used": 1, "free": 3}));
        assert_eq!(written[0]["nodes"], json!({"ready": 1, "failing": 1}));
        let conditions = written[0]["conditions"].as_array().unwrap();
        let shown: Vec<_> =
            conditions.iter().map(|one| (one["type"].as_str(), one["status"].as_str())).collect();
        assert_eq!(shown, [(Some("Accepted"), Some("True")), (Some("Programmed"), Some("False"))]);
        assert_eq!(conditions[1]["observedGeneration"], 3);
    }

    #[test]
    fn a_policy_names_the_nodes_that_do_not_enforce_all_of_it() {
        let policy = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "EdgePolicy",
            "metadata": {"name": "floods", "uid": "p"}, "spec": {"scope": "Cluster"},
        });
        let policy: Arc<EdgePolicy> = Arc::new(serde_json::from_value(policy).unwrap());
        let owner = reference(&*policy);
        let nodes = Nodes {
            ready: names(&["a", "b"]),
            unenforced: BTreeMap::from([("floods".to_owned(), names(&["b"]))]),
            bans: BTreeMap::from([("floods".to_owned(), [("a".to_owned(), "2 sources".to_owned())].into())]),
            ..Nodes::default()
        };
        let status = of_policy(&policy, &owner, true, (&[], &nodes));
        assert_eq!(status["nodes"], json!({"ready": 1, "failing": 1}));
        assert_eq!(status["failing"], json!(["b"]));
        assert_eq!(status["conditions"][1]["reason"], "NotEnforced");
        let other = ObjectRef { name: "lists".into(), ..owner };
        let status = of_policy(&policy, &other, true, (&[], &nodes));
        assert_eq!(status["conditions"][1]["reason"], "Programmed");
        let notices = nodes.notices(&[(ObjectKey::new("", "floods"), policy)].into());
        assert_eq!(notices.len(), 2);
        assert!(format!("{notices:?}").contains("parts of it do not hold on 1 nodes"), "{notices:?}");
        assert!(format!("{notices:?}").contains("a banned 2 sources; "), "{notices:?}");
    }

    #[test]
    fn the_worst_problem_is_the_reason() {
        let object = reference(&**sources().pools.values().next().unwrap());
        let problem = |severity, code, message: &str| Problem {
            object: object.clone(),
            code,
            severity,
            field: "spec.blocks[0]".into(),
            value: String::new(),
            message: message.into(),
        };
        let problems = [
            problem(Severity::Warning, Code::FieldInvalid, "odd"),
            problem(Severity::Error, Code::Conflict, "taken"),
            problem(Severity::Note, Code::FieldInvalid, "note"),
        ];
        let found = accepted(&object, &problems, true);
        assert_eq!((found.status.as_str(), found.reason.as_str()), ("False", "Conflict"));
        assert_eq!(found.message, "spec.blocks[0]: taken");
        assert_eq!(accepted(&object, &problems[..1], true).status, "True");
        assert_eq!(accepted(&object, &problems[..1], false).status, "False");
    }
}
