//! The nodes that serve pools: what a Node says of itself, and the list that the controller makes of all of them.
//!
//! Agents never watch Nodes. The controller keeps the list in one ConfigMap in the namespace of the copies, which agents
//! read with the other copies: a line per node with its addresses of both families, its state, its weight, and since when it
//! serves each pool. In a folder, the Nodes themselves are read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use serde::{Deserialize, Serialize};

use super::cluster::{ObjectKey, Objects, created_at, reference};
use super::crd::AddressPool;
use super::selector::Selector;
use crate::problem::{Code, Problem, Severity, shorten, suggest};

/// Name of the list; its namespace is that of the copies.
pub const LIST: &str = "portcullis.nodes";
/// Name of the Secret with the key that the nodes share, made by the controller; it lies beside the list.
pub const KEY: &str = "portcullis.key";
/// Annotation of a Node: `active` or `draining`.
pub const STATE: &str = "portcullis.dev/state";
/// Annotation of a Node: its share of new flows beside the others'.
pub const WEIGHT: &str = "portcullis.dev/weight";
/// The share of a node that names none.
const DEFAULT_WEIGHT: u16 = 100;
/// The greatest share.
const MOST_WEIGHT: u16 = 1000;

/// A node that serves pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Internal addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// Whether it takes new flows.
    pub state: State,
    /// Its share of new flows, 1 to 1000.
    pub weight: u16,
    /// The pools that it serves, each with the time since when, in seconds since the epoch, where that is known.
    pub pools: BTreeMap<String, Option<i64>>,
}

/// What a node does with flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes new ones.
    #[default]
    Active,
    /// It keeps those that it has, and takes no new ones.
    Draining,
}

/// The nodes by name.
pub type Members = BTreeMap<String, Member>;

/// The key of the list in this namespace.
pub fn list_key(namespace: &str) -> ObjectKey {
    ObjectKey::new(namespace, LIST)
}

/// The key of the Secret in this namespace.
pub fn key_key(namespace: &str) -> ObjectKey {
    ObjectKey::new(namespace, KEY)
}

/// Whether an object of this key is made by the controller, which keeps it in the namespace of the copies.
pub fn is_made(origin: &ObjectKey, namespace: &str) -> bool {
    origin.namespace == namespace && [LIST, KEY].contains(&origin.name.as_str())
}

/// The list as an object.
pub fn list(namespace: &str, members: &Members) -> serde_json::Result<ConfigMap> {
    let line = |(name, member): (&String, &Member)| Ok((name.clone(), serde_json::to_string(member)?));
    let mut list = ConfigMap {
        data: Some(members.iter().map(line).collect::<serde_json::Result<_>>()?),
        ..ConfigMap::default()
    };
    list.metadata.name = Some(LIST.to_owned());
    list.metadata.namespace = Some(namespace.to_owned());
    Ok(list)
}

/// The nodes of a list. A line that cannot be read is a Problem, and its node is left out.
pub fn read(list: &ConfigMap) -> (Members, Vec<Problem>) {
    let (mut members, mut problems) = (Members::new(), Vec::new());
    for (name, line) in list.data.iter().flatten() {
        match serde_json::from_str::<Member>(line) {
            Ok(member) => drop(members.insert(name.clone(), member)),
            Err(error) => problems.push(Problem {
                object: reference(list),
                code: Code::FieldInvalid,
                severity: Severity::Error,
                field: format!("data[{name}]"),
                value: shorten(line),
                message: format!(
                    "is no line of the list of nodes ({error}), so the node is in no pool; the controller writes the list, let it"
                ),
            }),
        }
    }
    (members, problems)
}

/// The pools whose `nodeSelector` selects a Node, by name. A selector that cannot be read selects none, and is a Problem of
/// its pool ([`selector`]).
pub fn pools_of(node: &Node, pools: &Objects<AddressPool>) -> Vec<String> {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selects = |pool: &AddressPool| selector(pool).is_ok_and(|selector| selector.matches(labels));
    pools.iter().filter(|(_, pool)| selects(pool)).map(|(key, _)| key.name.clone()).collect()
}

/// The nodes that a pool asks for; without a selector all.
pub fn selector(pool: &AddressPool) -> Result<Selector, String> {
    pool.spec.node_selector.as_ref().map_or_else(|| Ok(Selector::default()), Selector::of)
}

/// What a Node says of itself. One without an internal address cannot be sent anything, and is left out.
pub fn member(node: &Node, pools: Vec<String>) -> (Option<Member>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut problem = |code, severity, field: &str, value: &str, message: String| {
        let (field, value) = (field.to_owned(), shorten(value));
        problems.push(Problem { object: reference(node), code, severity, field, value, message });
    };
    let annotation = |name: &str| node.metadata.annotations.as_ref()?.get(name).map(String::as_str);
    let state = match annotation(STATE) {
        None | Some("active") => State::Active,
        Some("draining") => State::Draining,
        Some(other) => {
            let near = suggest(other, ["active", "draining"]);
            let hint = near.map_or_else(|| "correct it".to_owned(), |near| format!("did you mean {near}?"));
            let message = format!("is neither active nor draining; read as active; {hint}");
            let field = format!("metadata.annotations[{STATE}]");
            problem(Code::AnnotationInvalid, Severity::Warning, &field, other, message);
            State::Active
        }
    };
    let weight = annotation(WEIGHT).map(|text| (text, text.parse().ok()));
    let weight = match weight {
        None => DEFAULT_WEIGHT,
        Some((_, Some(weight))) if (1..=MOST_WEIGHT).contains(&weight) => weight,
        Some((text, _)) => {
            let message =
                format!("is no number from 1 to {MOST_WEIGHT}; {DEFAULT_WEIGHT} is taken; correct it");
            let field = format!("metadata.annotations[{WEIGHT}]");
            problem(Code::AnnotationInvalid, Severity::Warning, &field, text, message);
            DEFAULT_WEIGHT
        }
    };
    let addresses = addresses(node);
    if addresses.is_empty() {
        if !pools.is_empty() {
            let message = format!(
                "names no InternalIP, so the node serves none of the pools {}; add it",
                pools.join(", ")
            );
            problem(Code::FieldInvalid, Severity::Error, "status.addresses", "", message);
        }
        return (None, problems);
    }
    let since = created_at(node);
    let pools = pools.into_iter().map(|pool| (pool, since)).collect();
    (Some(Member { addresses, state, weight, pools }), problems)
}

/// The first internal address of each family, IPv4 first.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let internal = all.iter().filter(|address| address.type_ == "InternalIP");
    let internal: Vec<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).collect();
    let usable = |ip: &&IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    let first = |is_v4: bool| internal.iter().filter(usable).find(|ip| ip.is_ipv4() == is_v4).copied();
    [first(true), first(false)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(value: serde_json::Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_node_says_its_addresses_state_and_weight() {
        let node = node(json!({
            "metadata": {"name": "a", "annotations": {STATE: "draining", WEIGHT: "300"}},
            "status": {"addresses": [
                {"type": "Hostname", "address": "a"},
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "InternalIP", "address": "2001:db8::1"},
                {"type": "InternalIP", "address": "198.18.0.1"},
                {"type": "InternalIP", "address": "198.18.0.2"},
            ]},
        }));
        let (member, problems) = member(&node, vec!["edge".to_owned()]);
        assert_eq!(problems, []);
        let member = member.unwrap();
        let expected: Vec<IpAddr> = vec!["198.18.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(member.addresses, expected);
        assert_eq!((member.state, member.weight), (State::Draining, 300));
        let members = Members::from([("a".to_owned(), member)]);
        assert_eq!(read(&list("synced", &members).unwrap()), (members, Vec::new()));
    }

    #[test]
    fn a_mistake_leaves_the_node_in_its_pools() {
        for (state, weight, expected) in
            [("drainign", "100", "did you mean draining?"), ("active", "0", "1 to 1000")]
        {
            let node = node(json!({
                "metadata": {"name": "a", "annotations": {STATE: state, WEIGHT: weight}},
                "status": {"addresses": [{"type": "InternalIP", "address": "198.18.0.1"}]},
            }));
            let (member, problems) = member(&node, vec!["edge".to_owned()]);
            assert!(member.is_some_and(|member| member.weight == 100 && member.state == State::Active));
            assert!(problems.len() == 1 && problems[0].message.contains(expected), "{problems:?}");
        }
    }
}
