//! Where Secrets and ConfigMaps are read: in place, as copies, or not at all.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher;

use super::{Start, Wanted, Watched};
use crate::k8s::cluster::ObjectKey;

/// How Secrets and ConfigMaps are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Where they are.
    #[default]
    Originals,
    /// Where they are, to keep copies of them in this namespace.
    Copying(String),
    /// As copies in this namespace, and nowhere else.
    Copies(String),
    /// No Secrets, and ConfigMaps as copies in this namespace or, without one, only the cluster-wide one.
    WithoutSecrets(Option<String>),
}

/// What is watched of Secrets and ConfigMaps.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) secrets: Vec<Watched<Secret>>,
    pub(super) config_maps: Vec<Watched<ConfigMap>>,
    pub(super) secret_copies: Vec<Watched<Secret>>,
    pub(super) config_map_copies: Vec<Watched<ConfigMap>>,
}

impl Sources {
    /// Starts to watch what may be read.
    pub(super) fn start(start: &mut Start<'_>, wanted: &Wanted) -> Self {
        let mut sources = Self::default();
        match &wanted.access {
            Access::Originals => sources.originals(start, wanted),
            Access::Copying(copies) => {
                sources.originals(start, wanted);
                sources.secret_copies = vec![start.copies(copies)];
                sources.config_map_copies = vec![start.copies(copies)];
            }
            Access::Copies(copies) => {
                sources.secrets = vec![start.copies(copies)];
                sources.config_maps = vec![start.copies(copies)];
            }
            Access::WithoutSecrets(Some(copies)) => {
                sources.config_maps = vec![start.copies(copies)];
            }
            Access::WithoutSecrets(None) => {
                let named =
                    wanted.config_maps.iter().map(|key| start.namespaced(Some(&key.namespace), named(key)));
                sources.config_maps = named.collect();
            }
        }
        sources
    }

    fn originals(&mut self, start: &mut Start<'_>, wanted: &Wanted) {
        let namespace = wanted.namespace.as_deref();
        // A list of all namespaces would be refused where only some may be read.
        let readable: Vec<Option<&str>> = if wanted.secret_namespaces.is_empty() {
            vec![namespace]
        } else {
            wanted.secret_namespaces.iter().map(|name| Some(name.as_str())).collect()
        };
        let is_not_read =
            |key: &&ObjectKey| !readable.iter().any(|name| name.is_none_or(|name| name == key.namespace));
        // Releases of helm are large, and never what an Ingress names.
        let of_users = || watcher::Config::default().fields("type!=helm.sh/release.v1");
        self.secrets = readable.iter().map(|name| start.namespaced(*name, of_users())).collect();
        for key in wanted.secrets.iter().filter(is_not_read) {
            self.secrets.push(start.namespaced(Some(&key.namespace), named(key)));
        }
        self.config_maps = vec![start.namespaced(namespace, watcher::Config::default())];
        // The settings name others, which mostly lie beside them.
        let places = wanted.config_maps.iter().map(|key| key.namespace.as_str());
        let elsewhere: BTreeSet<&str> =
            places.filter(|place| namespace.is_some_and(|only| only != *place)).collect();
        for place in elsewhere {
            self.config_maps.push(start.namespaced(Some(place), watcher::Config::default()));
        }
    }
}

/// Only the object of this name.
pub(super) fn named(key: &ObjectKey) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={}", key.name))
}
