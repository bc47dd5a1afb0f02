//! Copies every referenced Secret and ConfigMap into one namespace, the only one where agents may read such objects.
//!
//! Compared is content, never a resource version: a restored etcd may count anew. A copy whose original is gone or is not
//! referenced any more is removed. When all copies were made once, a mark says so, and agents begin to publish.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tracing::{debug, warn};

use super::{call, refusal};
use crate::k8s::cluster::ObjectKey;
use crate::k8s::copies::{self, LABEL, MARK, SECRET_TYPE, meta, origin, stored_name};

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

/// Keeps the copies.
pub struct Copier {
    client: Client,
    namespace: String,
}

/// An object that is written or removed.
enum Change<K> {
    Put(K),
    Remove(Arc<K>),
}

impl Copier {
    /// For the copies in `namespace`.
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    /// Brings the copies to what they should be; whether all of it worked.
    pub async fn sync(&self, work: &Work) -> bool {
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
        self.apply(vec![Change::Put(mark)]).await
    }

    async fn apply<K>(&self, changes: Vec<Change<K>>) -> bool
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let api = &api;
        let outcomes = stream::iter(changes).map(|change| async move {
            match change {
                Change::Put(copy) => {
                    let name = copy.meta().name.clone().unwrap_or_default();
                    let params = PatchParams::apply(MANAGER).force();
                    let answer = call(api.patch(&name, &params, &Patch::Apply(&copy))).await;
                    said(&name, "written", answer.map(|_| ()))
                }
                Change::Remove(copy) => {
                    let name = stored_name(copy.meta());
                    let preconditions =
                        Preconditions { uid: copy.meta().uid.clone(), resource_version: None };
                    let params =
                        DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                    said(&name, "removed", call(api.delete(&name, &params)).await.map(|_| ()))
                }
            }
        });
        outcomes.buffer_unordered(PARALLEL).all(|is_done| async move { is_done }).await
    }
}

fn said(name: &str, done: &'static str, answer: kube::Result<()>) -> bool {
    match answer {
        Ok(()) => debug!(copy = name, done, "copy changed"),
        // Gone, or another object of the name already.
        Err(error) if done == "removed" && matches!(refusal(&error), Some(404 | 409)) => {}
        Err(error) => {
            warn!(copy = name, done, %error, "a copy could not be changed");
            return false;
        }
    }
    true
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
            changes.push(Change::Put(copy));
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
