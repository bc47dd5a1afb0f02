//! Which Secrets and ConfigMaps a cluster's Ingresses and flags refer to: what the controller copies for the agents.
//!
//! A new annotation or ConfigMap key that names such an object is a row in one of the tables below. A reference to a Secret
//! that translation would refuse (another namespace's, unless `allow-cross-namespace-resources`) is none: a copy must not
//! put a Secret into reach that its Ingress may not use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;

use super::{Settings, classes};
use crate::annotation::{OWN_PREFIX, value};
use crate::k8s::class::is_our_class;
use crate::k8s::cluster::{Cluster, ObjectKey};

/// Kinds that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// `v1` Secret.
    Secret,
    /// `v1` ConfigMap.
    ConfigMap,
}

/// A referenced object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: ReferenceKind,
    /// Its namespace and name.
    pub key: ObjectKey,
}

/// Annotations whose value names an object, as `name` or `namespace/name`.
const ANNOTATIONS: &[(&str, ReferenceKind)] = &[
    ("auth-proxy-set-headers", ReferenceKind::ConfigMap),
    ("auth-secret", ReferenceKind::Secret),
    ("auth-tls-secret", ReferenceKind::Secret),
    ("custom-headers", ReferenceKind::ConfigMap),
    ("proxy-ssl-secret", ReferenceKind::Secret),
];

/// Keys of the ConfigMap whose value names an object, as `name` or `namespace/name`.
const CONFIG_KEYS: &[(&str, ReferenceKind)] = &[
    ("add-headers", ReferenceKind::ConfigMap),
    ("proxy-set-headers", ReferenceKind::ConfigMap),
    ("rate-limit-redis-secret", ReferenceKind::Secret),
];

/// The annotations that name an object, without prefix.
pub fn annotations() -> impl Iterator<Item = &'static str> {
    ANNOTATIONS.iter().map(|(key, _)| *key)
}

/// What our Ingresses, their classes, the cluster-wide settings and the flags refer to.
pub(super) fn references(
    cluster: &Cluster,
    settings: &Settings,
    ours: &[&Arc<Ingress>],
) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind, key: ObjectKey| {
        found.insert(Reference { kind, key });
    };
    let of_flags = settings.default_certificate.iter().chain(&settings.cluster_key);
    of_flags.for_each(|key| add(ReferenceKind::Secret, key.clone()));
    let streams = settings.tcp_services.iter().chain(&settings.udp_services);
    streams.for_each(|key| add(ReferenceKind::ConfigMap, key.clone()));
    let classes = cluster
        .ingress_classes
        .values()
        .filter(|class| is_our_class(cluster.origin, &settings.classes, class));
    let parameters = classes.filter_map(|class| class.spec.as_ref()?.parameters.as_ref());
    let of_classes = parameters.filter_map(|parameters| classes::config_map(parameters)?.ok());
    let none = BTreeMap::new();
    let data = |key: &ObjectKey| {
        cluster.config_maps.get(key).and_then(|object| object.data.as_ref()).unwrap_or(&none)
    };
    for key in settings.config_map.iter().cloned().chain(of_classes) {
        for (name, kind) in CONFIG_KEYS {
            if let Some(named) = data(&key).get(*name).and_then(|text| named(text, &key.namespace)) {
                add(*kind, named);
            }
        }
        add(ReferenceKind::ConfigMap, key);
    }
    let is_cross_allowed = settings.config_map.as_ref().is_some_and(|key| {
        data(key)
            .get("allow-cross-namespace-resources")
            .is_some_and(|text| value::boolean(text.trim()) == Ok(true))
    });
    for ingress in ours {
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
        let tls = ingress.spec.iter().flat_map(|spec| spec.tls.as_deref().unwrap_or_default());
        for name in tls.filter_map(|tls| tls.secret_name.as_deref()).filter(|name| !name.is_empty()) {
            add(ReferenceKind::Secret, ObjectKey::new(namespace, name));
        }
        for (name, text) in ingress.metadata.annotations.iter().flatten() {
            let Some((prefix, name)) = name.rsplit_once('/') else { continue };
            if prefix != OWN_PREFIX && prefix != settings.annotations_prefix {
                continue;
            }
            let Some((_, kind)) = ANNOTATIONS.iter().find(|(key, _)| *key == name) else { continue };
            let key = named(text, namespace);
            let is_readable = |key: &ObjectKey| {
                *kind == ReferenceKind::ConfigMap || is_cross_allowed || key.namespace == namespace
            };
            if let Some(key) = key.filter(is_readable) {
                add(*kind, key);
            }
        }
    }
    found
}

/// What a text names, in this namespace unless it says another.
fn named(text: &str, namespace: &str) -> Option<ObjectKey> {
    match text.trim() {
        "" => None,
        text if text.contains('/') => ObjectKey::parse(text),
        text => Some(ObjectKey::new(namespace, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::cluster::Origin;
    use crate::translate::translate;

    fn ingress(annotations: &[(&str, &str)]) -> Ingress {
        let mut ingress = Ingress::default();
        ingress.metadata.namespace = Some("shop".to_owned());
        ingress.metadata.name = Some("web".to_owned());
        let prefixed = annotations
            .iter()
            .map(|(key, text)| (format!("nginx.ingress.kubernetes.io/{key}"), (*text).to_owned()));
        ingress.metadata.annotations = Some(prefixed.collect());
        ingress
    }

    fn found(annotations: &[(&str, &str)], config: &[(&str, &str)]) -> Vec<String> {
        let mut cluster = Cluster { origin: Origin::Folder, ..Cluster::default() };
        cluster.ingresses.insert(ObjectKey::new("shop", "web"), Arc::new(ingress(annotations)));
        let id = ObjectKey::new("system", "settings");
        let mut object = k8s_openapi::api::core::v1::ConfigMap::default();
        let data = config.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        object.data = Some(data.collect());
        cluster.config_maps.insert(id.clone(), Arc::new(object));
        let settings = Settings { config_map: Some(id), ..Settings::default() };
        let all = translate(&cluster, &settings).references;
        all.iter().map(|reference| format!("{:?} {}", reference.kind, reference.key)).collect()
    }

    #[test]
    fn what_annotations_and_settings_name_is_found() {
        let names = found(
            &[
                ("auth-secret", "users"),
                ("custom-headers", "other/headers"),
                ("proxy-ssl-secret", "shop/client"),
            ],
            &[("add-headers", "system/answers"), ("rate-limit-redis-secret", "system/redis")],
        );
        let expected = [
            "Secret shop/client",
            "Secret shop/users",
            "Secret system/redis",
            "ConfigMap other/headers",
            "ConfigMap system/answers",
            "ConfigMap system/settings",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_secret_of_another_namespace_counts_only_where_it_may_be_used() {
        let names = |allowed: &str| {
            found(&[("auth-tls-secret", "bank/ca")], &[("allow-cross-namespace-resources", allowed)])
        };
        assert_eq!(names("false"), ["ConfigMap system/settings"]);
        assert_eq!(names("true"), ["Secret bank/ca", "ConfigMap system/settings"]);
    }
}
