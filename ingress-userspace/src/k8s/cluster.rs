//! [`Cluster`]: a read-only view over the objects of a cluster or a folder at one moment.
//!
//! Objects are shared (`Arc`) with the store they come from, so taking a view is cheap and an unchanged object keeps
//! its address. Everything is ordered by namespace and name: equal worlds translate to equal models.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::Resource;

use super::crd::{AddressPool, EdgePolicy};
use crate::problem::{ObjectRef, Problem};

/// Identity of an object within its kind; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// From its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Reads `namespace/name`, as flags spell it.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let is_plain = |part: &str| !part.is_empty() && !part.contains('/');
        (is_plain(namespace) && is_plain(name)).then(|| Self::new(namespace, name))
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The objects of one kind.
pub type Objects<T> = BTreeMap<ObjectKey, Arc<T>>;

/// Where the objects come from. A folder has no API server that validated them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A folder of manifests: no timestamps, loopback endpoints allowed, no other controller beside us.
    #[default]
    Folder,
    /// An API server.
    Api,
}

/// Everything that translation reads.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Where it comes from.
    pub origin: Origin,
    /// `networking.k8s.io/v1` Ingress.
    pub ingresses: Objects<Ingress>,
    /// `networking.k8s.io/v1` IngressClass.
    pub ingress_classes: Objects<IngressClass>,
    /// `v1` Service.
    pub services: Objects<Service>,
    /// `discovery.k8s.io/v1` EndpointSlice.
    pub endpoint_slices: Objects<EndpointSlice>,
    /// `v1` Secret.
    pub secrets: Objects<Secret>,
    /// `v1` ConfigMap.
    pub config_maps: Objects<ConfigMap>,
    /// `v1` Namespace; only their labels are read, and only where a selector asks for them.
    pub namespaces: Objects<Namespace>,
    /// `v1` Node, of a folder alone: of a cluster, the controller lists those that serve pools.
    pub nodes: Objects<Node>,
    /// `portcullis.dev/v1alpha1` EdgePolicy.
    pub edge_policies: Objects<EdgePolicy>,
    /// `portcullis.dev/v1alpha1` AddressPool.
    pub address_pools: Objects<AddressPool>,
    /// What the source itself found wrong: unreadable files, kinds that are not installed.
    pub problems: Vec<Problem>,
}

/// The key of an object.
pub fn key<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Names an object in Problems and Events.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectRef {
    let meta = object.meta();
    ObjectRef {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// Seconds since the epoch at which the API server created the object; absent in hand-written manifests.
pub fn created_at<K: Resource>(object: &K) -> Option<i64> {
    object.meta().creation_timestamp.as_ref().map(|time| time.0.as_second())
}

/// The older of two Ingresses first, which has what both ask for. Equal time stamps: the greater `namespace/name` first, as
/// ingress-nginx. Without time stamps (a folder, an object that is about to be stored): by name, after those that have one.
pub fn by_age(one: (&ObjectKey, &Ingress), other: (&ObjectKey, &Ingress)) -> Ordering {
    /// The bytes of `namespace/name`: `a-b/x` comes before `a/x`.
    fn text(key: &ObjectKey) -> impl Iterator<Item = u8> + '_ {
        key.namespace.bytes().chain(std::iter::once(b'/')).chain(key.name.bytes())
    }
    match (created_at(one.1), created_at(other.1)) {
        (Some(first), Some(second)) => first.cmp(&second).then_with(|| text(other.0).cmp(text(one.0))),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.0.cmp(other.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_two_plain_parts() {
        assert_eq!(ObjectKey::parse("a/b"), Some(ObjectKey::new("a", "b")));
        for bad in ["", "a", "/b", "a/", "a/b/c"] {
            assert_eq!(ObjectKey::parse(bad), None, "{bad}");
        }
    }
}
