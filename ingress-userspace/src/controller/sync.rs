//! Copies every referenced Secret and ConfigMap into one namespace, the only one where agents may read such objects.
//!
//! Compared is content, never a resource version: a restored etcd may count anew. A copy whose original is gone or is not
//! referenced any more is removed. When all copies were made once, a mark says so, and agents begin to publish.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::events::Notice;
use super::{call, refusal};
use crate::k8s::cluster::{ObjectKey, reference};
use crate::k8s::copies::{self, LABEL, MARK, SECRET_TYPE, meta, origin, stored_name};
use crate::problem::ObjectRef;

/// Writes at once.
const PARALLEL: usize = 16;
/// Owner of the fields of copies.
const MANAGER: &str = "portcullis-controller";

/// What shall be copied, and what is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Referenced Secrets that exist.
    pub secrets: BTreeMap<ObjectKey, Arc<Secret>>,
    /// Referenced ConfigMaps that exist.
    pub config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    /// Copies of Secrets.
    pub secret_copies: Vec<Arc<Secret>>,
    /// Copies of ConfigMaps, and the mark.
    pub config_map_copies: Vec<Arc<ConfigMap>>,
}

/// A copy that the API server refuses is tried again after this time, or when its original changes.
const PAUSE: Duration = Duration::from_secs(60);

/// Keeps the copies.
pub struct Copier {
    client: Client,
    namespace: String,
    /// Copies that the API server will not take, by kind and name.
    refused: BTreeMap<(&'static str, String), Refusal>,
}

/// Why there is no copy of an object.
#[derive(Clone, Debug)]
struct Refusal {
    original: ObjectRef,
    reason: String,
    /// Of what was refused.
    content: u64,
    at: Instant,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// This object is refused, whenever it is tried.
    Refused(String),
    /// Now nothing can be written, or not this.
    Failed,
}

/// An object that is written or removed.
enum Change<K> {
    Put(ObjectRef, K),
    Remove(Arc<K>),
}

impl Copier {
    /// For the copies in `namespace`.
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace, refused: BTreeMap::new() }
    }

    /// Events on the originals of which there can be no copy.
    pub fn refused(&self) -> impl Iterator<Item = Notice> + '_ {
        self.refused.values().map(|refusal| {
            let note = format!(
                "agents cannot get it, what names it is served as if it did not exist: the API server refuses its copy in \
                 namespace {}: {}",
                self.namespace, refusal.reason
            );
            Notice::not_copied(refusal.original.clone(), &note)
        })
    }

    /// Brings the copies to what they should be; whether all of it worked that can. A copy that is refused for what it is
    /// keeps no other from being made, and no agent from serving.
    pub async fn sync(&mut self, work: &Work) -> bool {
        let secrets = changes(&work.secrets, &work.secret_copies, |original, key| {
            let copy = Secret {
                metadata: meta(&self.namespace, key),
                type_: Some(SECRET_TYPE.to_owned()),
                data: original.data.clone(),
                ..Secret::default()
            };
            let is_same = move |found: &Secret| found.data == original.data;
            (copy, is_same)
        });
        let config_maps = changes(&work.config_maps, &work.config_map_copies, |original, key| {
            let copy = ConfigMap {
                metadata: meta(&self.namespace, key),
                data: original.data.clone(),
                ..ConfigMap::default()
            };
            let is_same = move |found: &ConfigMap| found.data == original.data;
            (copy, is_same)
        });
        let is_done = self.apply(secrets).await & self.apply(config_maps).await;
        let has_mark = work.config_map_copies.iter().any(|copy| copy.metadata.name.as_deref() == Some(MARK));
        if !is_done || has_mark {
            return is_done;
        }
        let mut mark =
            ConfigMap { metadata: meta(&self.namespace, &ObjectKey::default()), ..ConfigMap::default() };
        mark.metadata.name = Some(MARK.to_owned());
        mark.metadata.annotations = None;
        self.apply(vec![Change::Put(ObjectRef::flag("sync-namespace"), mark)]).await
    }

    async fn apply<K>(&mut self, changes: Vec<Change<K>>) -> bool
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let kind = if K::kind(&()) == "Secret" { "Secret" } else { "ConfigMap" };
        // What is not to be changed any more is not refused either.
        let known = std::mem::take(&mut self.refused).into_iter();
        let (mut before, others): (BTreeMap<_, _>, _) = known.partition(|((known, _), _)| *known == kind);
        self.refused = others;
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut due = Vec::new();
        for change in changes {
            let Change::Put(_, copy) = &change else {
                due.push(change);
                continue;
            };
            let key = (kind, copy.meta().name.clone().unwrap_or_default());
            match before.remove(&key) {
                Some(known) if known.content == content(copy) && known.at.elapsed() < PAUSE => {
                    self.refused.insert(key, known);
                }
                _ => due.push(change),
            }
        }
        let api = &api;
        let mut outcomes = stream::iter(due)
            .map(|change| async move { (write(api, &change).await, change) })
            .buffer_unordered(PARALLEL);
        while let Some((outcome, change)) = outcomes.next().await {
            match (outcome, change) {
                (Outcome::Done, _) => {}
                (Outcome::Refused(reason), Change::Put(original, copy)) => {
                    let key = (kind, copy.meta().name.clone().unwrap_or_default());
                    let (content, at) = (content(&copy), Instant::now());
                    self.refused.insert(key, Refusal { original, reason, content, at });
                }
                // The rest would fare no better.
                (Outcome::Refused(_) | Outcome::Failed, _) => return false,
            }
        }
        true
    }
}

async fn write<K>(api: &Api<K>, change: &Change<K>) -> Outcome
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    match change {
        Change::Put(_, copy) => {
            let name = copy.meta().name.clone().unwrap_or_default();
            let params = PatchParams::apply(MANAGER).force();
            let answer = call(api.patch(&name, &params, &Patch::Apply(copy))).await;
            said(&name, "written", answer.map(|_| ()))
        }
        Change::Remove(copy) => {
            let name = stored_name(copy.meta());
            let preconditions = Preconditions { uid: copy.meta().uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            said(&name, "removed", call(api.delete(&name, &params)).await.map(|_| ()))
        }
    }
}

fn said(name: &str, done: &'static str, answer: kube::Result<()>) -> Outcome {
    match answer {
        Ok(()) => debug!(copy = name, done, "copy changed"),
        // Gone, or another object of the name already.
        Err(error) if done == "removed" && matches!(refusal(&error), Some(404 | 409)) => {}
        // Malformed, too large, or not to be changed: a matter of this object alone.
        Err(error) if matches!(refusal(&error), Some(400 | 413 | 422)) => {
            warn!(copy = name, done, %error, "a copy is refused");
            return Outcome::Refused(error.to_string());
        }
        Err(error) => {
            warn!(copy = name, done, %error, "a copy could not be changed");
            return Outcome::Failed;
        }
    }
    Outcome::Done
}

/// Tells one content from another; in this process alone.
fn content<K: Serialize>(copy: &K) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(copy).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// The differences between originals and copies.
fn changes<'a, K, F>(
    originals: &'a BTreeMap<ObjectKey, Arc<K>>,
    present: &[Arc<K>],
    make: impl Fn(&'a K, &ObjectKey) -> (K, F),
) -> Vec<Change<K>>
where
    K: Resource<DynamicType = ()> + Clone,
    F: Fn(&K) -> bool,
{
    let by_name: BTreeMap<String, &Arc<K>> =
        present.iter().map(|copy| (stored_name(copy.meta()), copy)).collect();
    let mut wanted = HashSet::new();
    let mut changes = Vec::new();
    for (key, original) in originals {
        let (copy, is_same) = make(original, key);
        let name = copies::name(key);
        let found = by_name.get(&name);
        if !found.is_some_and(|found| origin(found.meta()).as_ref() == Some(key) && is_same(found)) {
            changes.push(Change::Put(reference(&**original), copy));
        }
        wanted.insert(name);
    }
    for copy in present {
        let name = stored_name(copy.meta());
        let is_copy = copy.meta().labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL));
        if is_copy && name != MARK && !wanted.contains(&name) {
            changes.push(Change::Remove(Arc::clone(copy)));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::super::testing;
    use super::*;

    fn secret(namespace: &str, name: &str, value: &str) -> Secret {
        let mut secret = Secret::default();
        (secret.metadata.namespace, secret.metadata.name) = (Some(namespace.into()), Some(name.into()));
        secret.data = Some([("tls.crt".to_owned(), ByteString(value.as_bytes().to_vec()))].into());
        secret
    }

    fn copy(of: &ObjectKey, value: &str) -> Arc<Secret> {
        Arc::new(Secret { metadata: meta("synced", of), ..secret("", "", value) })
    }

    fn mark() -> Arc<ConfigMap> {
        let mut mark = ConfigMap::default();
        mark.metadata.name = Some(MARK.to_owned());
        Arc::new(mark)
    }

    #[tokio::test]
    async fn only_differences_are_written_and_orphans_removed() {
        let (client, log) = testing::client(|seen| (StatusCode::OK, seen.body.clone()));
        let key = |name: &str| ObjectKey::new("shop", name);
        let original = |name: &str, value: &str| (key(name), Arc::new(secret("shop", name, value)));
        let work = Work {
            secrets: [original("same", "a"), original("changed", "b"), original("new", "c")].into(),
            secret_copies: vec![
                copy(&key("same"), "a"),
                copy(&key("changed"), "old"),
                copy(&key("orphan"), "d"),
            ],
            config_map_copies: vec![mark()],
            ..Work::default()
        };
        assert!(Copier::new(client, "synced".to_owned()).sync(&work).await);
        let log = log.lock().expect("lock");
        let mut seen: Vec<(Method, &str)> = log
            .iter()
            .map(|seen| {
                (seen.method.clone(), seen.path.split('?').next().unwrap().rsplit('/').next().unwrap())
            })
            .collect();
        seen.sort_by_key(|(_, name)| *name);
        let expected =
            [(Method::PATCH, "shop.changed"), (Method::PATCH, "shop.new"), (Method::DELETE, "shop.orphan")];
        assert_eq!(seen, expected);
        assert!(log.iter().all(|seen| seen.path.starts_with("/api/v1/namespaces/synced/secrets/")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_is_refused_for_what_it_is_keeps_nobody_waiting() {
        let (client, log) = testing::client(|seen| match seen.path.contains("shop.a-broken") {
            true => testing::refuse(StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
            false => (StatusCode::OK, seen.body.clone()),
        });
        let original =
            |name: &str, value: &str| (ObjectKey::new("shop", name), Arc::new(secret("shop", name, value)));
        let all = |broken: &str| Work {
            secrets: std::iter::once(original("a-broken", broken))
                .chain((0..40).map(|number| original(&format!("b-{number}"), "x")))
                .collect(),
            ..Work::default()
        };
        let mut copier = Copier::new(client, "synced".to_owned());
        assert!(copier.sync(&all("1")).await);
        let count = || {
            let log = log.lock().expect("lock");
            let marks = log.iter().filter(|seen| seen.path.contains(MARK)).count();
            let broken = log.iter().filter(|seen| seen.path.contains("a-broken")).count();
            (log.len() - marks - broken, broken, marks)
        };
        assert_eq!(count(), (40, 1, 1), "the others are made, and agents may begin");
        let told: Vec<String> = copier.refused().map(|notice| format!("{notice:?}")).collect();
        assert!(told.len() == 1 && told[0].contains("Secret") && told[0].contains("a-broken"), "{told:?}");
        let done = |broken: &str| {
            let copies = (0..40).map(|number| copy(&ObjectKey::new("shop", format!("b-{number}")), "x"));
            Work { secret_copies: copies.collect(), config_map_copies: vec![mark()], ..all(broken) }
        };
        copier.sync(&done("1")).await;
        assert_eq!(count().1, 1, "it is left alone for a while");
        assert_eq!(copier.refused().count(), 1, "and told all the while");
        copier.sync(&done("2")).await;
        assert_eq!(count().1, 2, "another content is tried at once");
        tokio::time::advance(PAUSE).await;
        copier.sync(&done("2")).await;
        assert_eq!(count().1, 3);
        copier.sync(&Work { secrets: BTreeMap::new(), ..done("2") }).await;
        assert_eq!(copier.refused().count(), 0, "nobody names it any more");
    }

    #[tokio::test]
    async fn the_mark_is_set_only_when_everything_was_copied() {
        for (status, expected) in [(StatusCode::OK, true), (StatusCode::FORBIDDEN, false)] {
            let (client, log) = testing::client(move |seen| match seen.path.contains("/secrets/") {
                true if status != StatusCode::OK => testing::refuse(status, "Forbidden"),
                _ => (StatusCode::OK, json!(seen.body)),
            });
            let key = ObjectKey::new("shop", "new");
            let work =
                Work { secrets: [(key, Arc::new(secret("shop", "new", "c")))].into(), ..Work::default() };
            assert_eq!(Copier::new(client, "synced".to_owned()).sync(&work).await, expected);
            let marked = log.lock().expect("lock").iter().any(|seen| seen.path.contains(MARK));
            assert_eq!(marked, expected);
        }
    }
}
