//! The Cluster as a translation sees it: what is looked up by name is written down.
//!
//! So a part of the world is known to depend on these objects and on no others, whether they were there or not, and an
//! edited Secret, ConfigMap or Service costs the parts that asked for it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service};
use k8s_openapi::api::networking::v1::IngressClass;

use crate::k8s::cluster::{Cluster, ObjectKey, Objects, Origin};
use crate::k8s::crd::{AddressPool, EdgePolicy};

/// The objects of a kind, and which of them were asked for.
pub(super) struct Tracked<'a, T> {
    objects: &'a Objects<T>,
    asked: RefCell<BTreeSet<ObjectKey>>,
}

impl<'a, T> Tracked<'a, T> {
    fn new(objects: &'a Objects<T>) -> Self {
        Self { objects, asked: RefCell::default() }
    }

    /// The object of this name.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&'a Arc<T>> {
        self.asked.borrow_mut().insert(key.clone());
        self.objects.get(key)
    }

    /// Whether there is an object of this name.
    pub(super) fn contains_key(&self, key: &ObjectKey) -> bool {
        self.get(key).is_some()
    }

    /// The names that a namespace has.
    pub(super) fn names(&self, namespace: &str) -> impl Iterator<Item = &'a str> + use<'a, T> {
        let all = all_of(namespace);
        let names = self.objects.range(all.clone()..).map(|(key, _)| key);
        let names = names.take_while({
            let namespace = all.namespace.clone();
            move |key| key.namespace == namespace
        });
        self.asked.borrow_mut().insert(all);
        names.map(|key| key.name.as_str())
    }

    fn into_asked(self) -> Box<[ObjectKey]> {
        self.asked.into_inner().into_iter().collect()
    }
}

/// Stands for which names a namespace has. No object has an empty name.
fn all_of(namespace: &str) -> ObjectKey {
    ObjectKey::new(namespace, "")
}

/// What a translation reads of a [`Cluster`].
pub(super) struct View<'a> {
    pub(super) origin: Origin,
    pub(super) ingress_classes: &'a Objects<IngressClass>,
    pub(super) nodes: &'a Objects<Node>,
    pub(super) edge_policies: &'a Objects<EdgePolicy>,
    pub(super) address_pools: &'a Objects<AddressPool>,
    pub(super) services: Tracked<'a, Service>,
    pub(super) secrets: Tracked<'a, Secret>,
    pub(super) config_maps: Tracked<'a, ConfigMap>,
}

impl<'a> View<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self {
            origin: cluster.origin,
            ingress_classes: &cluster.ingress_classes,
            nodes: &cluster.nodes,
            edge_policies: &cluster.edge_policies,
            address_pools: &cluster.address_pools,
            services: Tracked::new(&cluster.services),
            secrets: Tracked::new(&cluster.secrets),
            config_maps: Tracked::new(&cluster.config_maps),
        }
    }

    /// What was asked for.
    pub(super) fn into_asked(self) -> Asked {
        Asked {
            services: self.services.into_asked(),
            secrets: self.secrets.into_asked(),
            config_maps: self.config_maps.into_asked(),
        }
    }
}

/// What a translation asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    services: Box<[ObjectKey]>,
    secrets: Box<[ObjectKey]>,
    config_maps: Box<[ObjectKey]>,
}

/// What came, went or changed between two worlds.
pub(super) struct Changed {
    services: BTreeSet<ObjectKey>,
    secrets: BTreeSet<ObjectKey>,
    config_maps: BTreeSet<ObjectKey>,
}

impl Changed {
    /// From one world to the next.
    pub(super) fn between(before: &Cluster, after: &Cluster) -> Self {
        Self {
            services: differences(&before.services, &after.services),
            secrets: differences(&before.secrets, &after.secrets),
            config_maps: differences(&before.config_maps, &after.config_maps),
        }
    }

    /// Whether something changed that was asked for.
    pub(super) fn touches(&self, asked: &Asked) -> bool {
        let any = |changed: &BTreeSet<ObjectKey>, asked: &[ObjectKey]| {
            !changed.is_empty() && asked.iter().any(|key| changed.contains(key))
        };
        any(&self.services, &asked.services)
            || any(&self.secrets, &asked.secrets)
            || any(&self.config_maps, &asked.config_maps)
    }
}

/// The objects that are not the same; one that changed has another address. Both worlds are in order.
fn differences<K>(before: &Objects<K>, after: &Objects<K>) -> BTreeSet<ObjectKey> {
    let mut found = BTreeSet::new();
    for (key, object) in before {
        match after.get(key) {
            Some(other) if Arc::ptr_eq(object, other) => {}
            Some(_) => drop(found.insert(key.clone())),
            None => found.extend([key.clone(), all_of(&key.namespace)]),
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        found.extend([key.clone(), all_of(&key.namespace)]);
    }
    found
}
