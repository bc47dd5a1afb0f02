//! What the controller makes for the agents: the list of nodes that serve pools, and the key that they share.
//!
//! Both lie beside the copies and are written as copies are, so that an agent has them before it serves. A node is on the
//! list while its Node exists and its agent has told that it serves by the kernel half. The key changes once a month, in three
//! steps with ten minutes between them: the new one is accepted everywhere, then used, then the old one is accepted no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::rand;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use k8s_openapi::jiff::Timestamp;
use tracing::{info, warn};

use super::events::Notice;
use super::sync::Work;
use crate::k8s::cluster::{Objects, key};
use crate::k8s::copies::origin;
use crate::k8s::crd::{AddressPool, EdgePolicy};
use crate::k8s::members::{self, Members};

/// A key is used for so many seconds.
const ROTATE: i64 = 30 * 86_400;
/// Between two steps of a change, in seconds: every agent has the Secret by then.
const STEP: i64 = 600;

/// What is made of these objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// The Nodes of the cluster.
    pub nodes: Objects<Node>,
    /// The pools.
    pub pools: Objects<AddressPool>,
    /// The policies, of which nothing is made.
    pub policies: Objects<EdgePolicy>,
    /// Somebody else makes the key.
    pub has_key: bool,
}

/// Makes the list and the key.
#[derive(Debug)]
pub struct Maker {
    namespace: String,
    /// The newest, as long as it was not read back.
    list: Option<Members>,
    secret: Option<BTreeMap<String, String>>,
}

impl Maker {
    /// For the copies in `namespace`.
    pub fn new(namespace: String) -> Self {
        Self { namespace, list: None, secret: None }
    }

    /// Adds both to what is to be copied; what is wrong with Nodes. `serving` are the nodes whose agents told that they serve;
    /// `None`: not known just now.
    pub fn add(
        &mut self,
        sources: &Sources,
        serving: Option<&BTreeSet<String>>,
        work: &mut Work,
        now: Timestamp,
    ) -> Vec<Notice> {
        if sources.pools.is_empty() {
            (self.list, self.secret) = (None, None);
            return Vec::new();
        }
        let problems = self.add_list(sources, serving, work, now.as_second());
        if sources.has_key {
            self.secret = None;
        } else {
            self.add_key(work, now.as_second());
        }
        problems
    }

    fn add_list(
        &mut self,
        sources: &Sources,
        serving: Option<&BTreeSet<String>>,
        work: &mut Work,
        now: i64,
    ) -> Vec<Notice> {
        let place = members::list_key(&self.namespace);
        let found =
            work.config_map_copies.iter().find(|copy| origin(&copy.metadata).as_ref() == Some(&place));
        let before = self.list.take().or_else(|| found.map(|copy| members::read(copy).0));
        let Some(serving) = serving else {
            // Nobody could look: what is known stays.
            self.list.clone_from(&before);
            if let Some(list) = before.and_then(|before| written(&self.namespace, &before)) {
                work.config_maps.insert(place, Arc::new(list));
            }
            return Vec::new();
        };
        let (mut list, mut notices) = (Members::new(), Vec::new());
        for (name, node) in sources.nodes.iter().filter(|(name, _)| serving.contains(&name.name)) {
            let pools = members::pools_of(node, &sources.pools);
            let (member, problems) = members::member(node, pools);
            notices.extend(problems.iter().map(Notice::problem));
            let Some(mut member) = member else { continue };
            let known = before.as_ref().and_then(|before| before.get(&name.name));
            for (pool, joined) in &mut member.pools {
                let since = known.and_then(|known| known.pools.get(pool)).copied().flatten();
                *joined = Some(since.unwrap_or(now));
            }
            list.insert(name.name.clone(), member);
        }
        if before.as_ref() != Some(&list) {
            info!(nodes = list.len(), "the list of nodes that serve pools changes");
        }
        if let Some(object) = written(&self.namespace, &list) {
            work.config_maps.insert(place, Arc::new(object));
        }
        self.list = Some(list);
        notices
    }

    fn add_key(&mut self, work: &mut Work, now: i64) {
        let place = members::key_key(&self.namespace);
        let found = work.secret_copies.iter().find(|copy| origin(&copy.metadata).as_ref() == Some(&place));
        let before = self.secret.take().or_else(|| found.map(|copy| texts(copy)));
        let Some(data) = next(before.as_ref(), now) else {
            warn!("the system gives no random numbers, so the nodes get no new key");
            self.secret = before;
            return;
        };
        let secret = Secret {
            data: Some(
                data.iter()
                    .map(|(name, text)| (name.clone(), ByteString(text.clone().into_bytes())))
                    .collect(),
            ),
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some(place.name.clone()),
                namespace: Some(place.namespace.clone()),
                ..Default::default()
            },
            ..Secret::default()
        };
        work.secrets.insert(key(&secret), Arc::new(secret));
        self.secret = Some(data);
    }
}

fn written(namespace: &str, list: &Members) -> Option<ConfigMap> {
    match members::list(namespace, list) {
        Ok(object) => Some(object),
        Err(error) => {
            warn!(%error, "the list of nodes cannot be written");
            None
        }
    }
}

fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let text = |(name, value): (&String, &ByteString)| {
        Some((name.clone(), String::from_utf8(value.0.clone()).ok()?))
    };
    secret.data.iter().flatten().filter_map(text).collect()
}

/// The Secret as it should be now: `None` when there is no randomness.
fn next(before: Option<&BTreeMap<String, String>>, now: i64) -> Option<BTreeMap<String, String>> {
    let text = |name: &str| before.and_then(|before| before.get(name)).filter(|text| !text.is_empty());
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let (Some(key), Some(seed), Some(changed)) = (text("key"), text("seed"), number("changed")) else {
        return secret([("key", random()?), ("seed", random()?), ("changed", now.to_string())]);
    };
    let same = || before.cloned();
    let age = now.saturating_sub(changed);
    let data = |key: &str, previous: Option<String>, is_next: bool| {
        let previous = previous.map(|previous| ("previous", previous));
        let step = is_next.then(|| ("next", "previous".to_owned()));
        let fixed = [("key", key.to_owned()), ("seed", seed.clone()), ("changed", now.to_string())];
        secret(fixed.into_iter().chain(previous).chain(step))
    };
    match (text("previous"), text("next").is_some()) {
        // Every node accepts the new one: it is used.
        (Some(coming), true) if age >= STEP => data(coming, Some(key.clone()), false),
        // Nobody uses the old one any more.
        (Some(_), false) if age >= STEP => data(key, None, false),
        (None, _) if age >= ROTATE => data(key, Some(random()?), true),
        _ => same(),
    }
}

fn secret(parts: impl IntoIterator<Item = (&'static str, String)>) -> Option<BTreeMap<String, String>> {
    Some(parts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect())
}

/// 16 hexadecimal digits.
fn random() -> Option<String> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).ok()?;
    Some(format!("{:016x}", u64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::k8s::cluster::ObjectKey;
    use crate::k8s::copies;

    fn node(name: &str) -> (ObjectKey, Arc<Node>) {
        let node = json!({
            "metadata": {"name": name, "uid": name, "labels": {"edge": "true"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "198.18.0.1"}]},
        });
        (ObjectKey::new("", name), Arc::new(serde_json::from_value(node).unwrap()))
    }

    fn sources() -> Sources {
        let pool = json!({
            "metadata": {"name": "edge"},
            "spec": {"blocks": [{"cidr": "198.18.100.0/28"}], "nodeSelector": {"matchLabels": {"edge": "true"}}},
        });
        let pool = (ObjectKey::new("", "edge"), Arc::new(serde_json::from_value(pool).unwrap()));
        Sources { nodes: [node("a"), node("b")].into(), pools: [pool].into(), ..Sources::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn nodes(work: &Work) -> Members {
        let list = work.config_maps.get(&members::list_key("synced")).map(|list| members::read(list).0);
        list.unwrap_or_default()
    }

    #[test]
    fn a_node_is_listed_while_its_agent_serves_and_keeps_the_time_it_joined() {
        let mut maker = Maker::new("synced".to_owned());
        let serving = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut first = Work::default();
        maker.add(&sources(), Some(&serving(&["a", "elsewhere"])), &mut first, at(100));
        assert_eq!(nodes(&first).keys().collect::<Vec<_>>(), ["a"]);
        let mut second = Work::default();
        maker.add(&sources(), Some(&serving(&["a", "b"])), &mut second, at(200));
        let joined: Vec<_> = nodes(&second).values().map(|member| member.pools["edge"]).collect();
        assert_eq!(joined, [Some(100), Some(200)]);
        // Another replica reads what the first one wrote.
        let mut copy = (*second.config_maps[&members::list_key("synced")]).clone();
        copy.metadata = copies::meta("synced", &members::list_key("synced"));
        let mut third = Work { config_map_copies: vec![Arc::new(copy)], ..Work::default() };
        let mut other = Maker::new("synced".to_owned());
        other.add(&sources(), None, &mut third, at(300));
        assert_eq!(nodes(&third), nodes(&second), "nobody could look");
        other.add(&sources(), Some(&serving(&["b"])), &mut third, at(400));
        assert_eq!(nodes(&third).get("b"), nodes(&second).get("b"));
        let mut none = Work::default();
        other.add(&Sources { pools: Objects::new(), ..sources() }, None, &mut none, at(500));
        assert_eq!(none, Work::default(), "without pools there is nothing to list");
    }

    #[test]
    fn a_key_changes_once_a_month_and_never_at_once() {
        let data = |data: &BTreeMap<String, String>| {
            (data["key"].clone(), data.get("previous").cloned(), data["seed"].clone())
        };
        let first = next(None, 0).unwrap();
        let (key, none, seed) = data(&first);
        assert_eq!((key.len(), none), (16, None));
        assert_eq!(next(Some(&first), ROTATE - 1), Some(first.clone()));
        let announced = next(Some(&first), ROTATE).unwrap();
        let (still, coming, _) = data(&announced);
        assert_eq!(still, key, "the new one is accepted before it is used");
        assert_eq!(next(Some(&announced), ROTATE + STEP - 1), Some(announced.clone()));
        let used = next(Some(&announced), ROTATE + STEP).unwrap();
        assert_eq!(data(&used), (coming.clone().unwrap(), Some(key), seed.clone()));
        let done = next(Some(&used), ROTATE + 2 * STEP).unwrap();
        assert_eq!(data(&done), (coming.unwrap(), None, seed));
    }
}
