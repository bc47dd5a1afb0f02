//! Reflectors: one per kind (and namespace), each a store that follows the API server.
//!
//! A lost API server leaves the stores as they are; after a new list they change at once, when it is complete. A kind whose
//! definition is not installed counts as empty and is asked for again with the watcher's backoff. Nothing may be published
//! before [`Reflectors::is_ready`]. What is never read is not kept: managed fields, resource versions, and the parts of
//! Secrets that can be neither a certificate, nor a password's hash, nor the login of a server that limits are shared by.

mod follow;
pub mod freshness;
mod kept;
pub mod sources;
mod store;

pub use follow::Pace;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::cluster::{Cluster, ObjectKey, Objects, Origin, key};
use super::crd::{AddressPool, EdgePolicy};
use super::{copies, members};
use crate::problem::{Code, ObjectRef, Problem, Severity};
use follow::Follow;
use freshness::Freshness;
use kept::Kept;
use sources::{Access, Sources, named};
use store::{Store, store};

/// What is watched of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only this namespace; `None`: all.
    pub namespace: Option<String>,
    /// How Secrets and ConfigMaps are read.
    pub access: Access,
    /// ConfigMaps that flags name, wherever they are, each once.
    pub config_maps: Vec<ObjectKey>,
    /// Only Secrets of these namespaces; empty: all that are watched.
    pub secret_namespaces: Vec<String>,
    /// Secrets that flags name, wherever they are.
    pub secrets: Vec<ObjectKey>,
    /// Services that flags name, wherever they are.
    pub services: Vec<ObjectKey>,
    /// The labels of all namespaces, for a selector.
    pub namespaces: bool,
    /// The Nodes, for the list of those that serve pools.
    pub nodes: bool,
    /// When everything is listed again.
    pub pace: Pace,
}

/// The stores of all kinds and the tasks that fill them, which end with this value.
#[derive(Debug)]
pub struct Reflectors {
    changed: Arc<Notify>,
    freshness: Freshness,
    _tasks: JoinSet<()>,
    ingresses: Vec<Watched<Ingress>>,
    ingress_classes: Vec<Watched<IngressClass>>,
    services: Vec<Watched<Service>>,
    endpoint_slices: Vec<Watched<EndpointSlice>>,
    secrets: Vec<Watched<Secret>>,
    config_maps: Vec<Watched<ConfigMap>>,
    /// What the controller copied, where it is not what is read.
    secret_copies: Vec<Watched<Secret>>,
    config_map_copies: Vec<Watched<ConfigMap>>,
    /// Copies are what is read.
    reads_copies: bool,
    namespaces: Vec<Watched<Namespace>>,
    nodes: Vec<Watched<Node>>,
    /// The namespace in which the controller keeps what it makes, where this process is the controller.
    made: Option<String>,
    edge_policies: Vec<Watched<EdgePolicy>>,
    address_pools: Vec<Watched<AddressPool>>,
}

#[derive(Debug)]
struct Watched<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Was listed once, or is known to be absent.
    is_ready: AtomicBool,
    /// The API server does not know the kind.
    is_missing: AtomicBool,
}

impl Reflectors {
    /// Starts to watch. Must be called on a tokio runtime.
    pub fn start(client: &Client, wanted: &Wanted) -> Self {
        let mut start = Start {
            client,
            pace: wanted.pace,
            changed: Arc::new(Notify::new()),
            freshness: Freshness::default(),
            tasks: JoinSet::new(),
        };
        let namespace = wanted.namespace.as_deref();
        let elsewhere = |key: &&ObjectKey| namespace.is_some_and(|only| only != key.namespace);
        let mut services = vec![start.namespaced(namespace, watcher::Config::default())];
        let mut endpoint_slices = vec![start.namespaced(namespace, watcher::Config::default())];
        for key in wanted.services.iter().filter(elsewhere) {
            services.push(start.namespaced(Some(&key.namespace), named(key)));
            let of_service =
                watcher::Config::default().labels(&format!("kubernetes.io/service-name={}", key.name));
            endpoint_slices.push(start.namespaced(Some(&key.namespace), of_service));
        }
        let Sources { secrets, config_maps, secret_copies, config_map_copies } =
            Sources::start(&mut start, wanted);
        Self {
            ingresses: vec![start.namespaced(namespace, watcher::Config::default())],
            ingress_classes: vec![start.cluster_wide()],
            services,
            endpoint_slices,
            secrets,
            config_maps,
            secret_copies,
            config_map_copies,
            reads_copies: matches!(wanted.access, Access::Copies(_) | Access::WithoutSecrets(Some(_))),
            namespaces: wanted.namespaces.then(|| start.cluster_wide()).into_iter().collect(),
            nodes: wanted.nodes.then(|| start.cluster_wide()).into_iter().collect(),
            made: match &wanted.access {
                Access::Copying(namespace) => Some(namespace.clone()),
                _ => None,
            },
            edge_policies: vec![start.cluster_wide()],
            address_pools: vec![start.cluster_wide()],
            changed: start.changed,
            freshness: start.freshness,
            _tasks: start.tasks,
        }
    }

    /// The kinds that were not listed yet.
    pub fn waiting(&self) -> Vec<&'static str> {
        fn is_waiting<K: Resource<DynamicType = ()>>(watched: &[Watched<K>]) -> bool {
            watched.iter().any(|watched| !watched.state.is_ready.load(Ordering::Acquire))
        }
        let kinds = [
            (is_waiting(&self.ingresses), "Ingress"),
            (is_waiting(&self.ingress_classes), "IngressClass"),
            (is_waiting(&self.services), "Service"),
            (is_waiting(&self.endpoint_slices), "EndpointSlice"),
            (is_waiting(&self.secrets), "Secret"),
            (is_waiting(&self.config_maps), "ConfigMap"),
            (is_waiting(&self.secret_copies), "copied Secret"),
            (is_waiting(&self.config_map_copies), "copied ConfigMap"),
            (is_waiting(&self.namespaces), "Namespace"),
            (is_waiting(&self.nodes), "Node"),
            (self.reads_copies && !self.is_marked(), "the mark of the controller that everything was copied"),
            (is_waiting(&self.edge_policies), "EdgePolicy"),
            (is_waiting(&self.address_pools), "AddressPool"),
        ];
        kinds.into_iter().filter_map(|(is_waiting, kind)| is_waiting.then_some(kind)).collect()
    }

    /// Resolves when a store changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether what is known is followed.
    pub fn freshness(&self) -> Freshness {
        self.freshness.clone()
    }

    /// Whether every kind was listed once.
    pub fn is_ready(&self) -> bool {
        self.waiting().is_empty()
    }

    /// The stores as they are now.
    pub fn cluster(&self) -> Cluster {
        let mut problems = Vec::new();
        let (secret_copies, config_map_copies) = self.copies();
        Cluster {
            origin: Origin::Api,
            ingresses: objects(&self.ingresses, &mut problems),
            ingress_classes: objects(&self.ingress_classes, &mut problems),
            services: objects(&self.services, &mut problems),
            endpoint_slices: objects(&self.endpoint_slices, &mut problems),
            secrets: self.with_made(self.read(&self.secrets, &mut problems), secret_copies),
            config_maps: self.with_made(self.read(&self.config_maps, &mut problems), config_map_copies),
            namespaces: objects(&self.namespaces, &mut problems),
            nodes: objects(&self.nodes, &mut problems),
            edge_policies: objects(&self.edge_policies, &mut problems),
            address_pools: objects(&self.address_pools, &mut problems),
            problems,
        }
    }
}

impl Reflectors {
    /// Whether the controller has made every copy once.
    fn is_marked(&self) -> bool {
        let is_mark = |object: Arc<ConfigMap>| object.metadata.name.as_deref() == Some(copies::MARK);
        self.config_maps.iter().any(|watched| watched.store.state().into_iter().any(is_mark))
    }

    /// Secrets or ConfigMaps under the keys of their originals.
    fn read<K>(&self, watched: &[Watched<K>], problems: &mut Vec<Problem>) -> Objects<K>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        let found = objects(watched, problems);
        if !self.reads_copies {
            return found;
        }
        // The mark is a copy of nothing.
        found.into_iter().filter(|(_, copy)| copies::origin(copy.meta()).is_some()).collect()
    }

    /// Adds what the controller made itself, which has no original.
    fn with_made<K: Resource<DynamicType = ()>>(
        &self,
        mut objects: Objects<K>,
        copies: Vec<Arc<K>>,
    ) -> Objects<K> {
        let Some(namespace) = &self.made else { return objects };
        let keyed = copies.into_iter().map(|copy| (key(&*copy), copy));
        objects.extend(keyed.filter(|(key, _)| members::is_made(key, namespace)));
        objects
    }

    /// What the controller copied so far: Secrets, and ConfigMaps with the mark.
    pub fn copies(&self) -> (Vec<Arc<Secret>>, Vec<Arc<ConfigMap>>) {
        let secrets = self.secret_copies.iter().flat_map(|watched| watched.store.state());
        let config_maps = self.config_map_copies.iter().flat_map(|watched| watched.store.state());
        (secrets.collect(), config_maps.collect())
    }
}

fn objects<K>(watched: &[Watched<K>], problems: &mut Vec<Problem>) -> Objects<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut objects = Objects::new();
    for Watched { store, state } in watched {
        if state.is_missing.load(Ordering::Acquire) {
            problems.push(not_installed::<K>());
        } else {
            objects.extend(store.state().into_iter().map(|object| (key(&*object), object)));
        }
    }
    objects
}

/// The Problem of a kind that the API server does not know.
pub(super) fn not_installed<K: Resource<DynamicType = ()>>() -> Problem {
    let name = format!("{}.{}", K::plural(&()), K::group(&()));
    Problem {
        object: ObjectRef {
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            namespace: String::new(),
            name: name.clone(),
            uid: String::new(),
        },
        code: Code::KindNotInstalled,
        severity: Severity::Warning,
        field: "metadata.name".into(),
        value: name,
        message: format!(
            "the API server does not know {}; none is assumed; install the definitions of the chart (portcullis reference \
             crds prints them)",
            K::kind(&())
        ),
    }
}

struct Start<'a> {
    client: &'a Client,
    pace: Pace,
    changed: Arc<Notify>,
    freshness: Freshness,
    tasks: JoinSet<()>,
}

impl Start<'_> {
    fn namespaced<K>(&mut self, namespace: Option<&str>, config: watcher::Config) -> Watched<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Kept,
    {
        let api = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        self.watch(api, config, K::trim)
    }

    /// Copies in a namespace, which from here on go by the names of their originals.
    fn copies<K>(&mut self, namespace: &str) -> Watched<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Kept,
    {
        let config = watcher::Config::default().labels(&format!("{}=true", copies::LABEL));
        let api = Api::namespaced(self.client.clone(), namespace);
        self.watch(api, config, |copy: &mut K| {
            copy.trim();
            copies::restore(copy.meta_mut());
        })
    }

    fn cluster_wide<K: Kept>(&mut self) -> Watched<K> {
        self.watch(Api::all(self.client.clone()), watcher::Config::default(), K::trim)
    }

    fn watch<K: Kept>(&mut self, api: Api<K>, config: watcher::Config, kept: fn(&mut K)) -> Watched<K> {
        let (store, writer) = store(kept);
        let state = Arc::new(State::default());
        let follow = Follow {
            api,
            config,
            pace: self.pace,
            writer,
            state: Arc::clone(&state),
            changed: Arc::clone(&self.changed),
            freshness: self.freshness.clone(),
            number: self.tasks.len(),
            failure: String::new(),
        };
        self.tasks.spawn(follow.run());
        Watched { store, state }
    }
}

#[cfg(test)]
mod tests;
