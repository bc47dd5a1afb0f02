//! Flags → what translation needs to know, and what must be watched.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use crate::args::{PortArgs, RuleArgs};
use crate::k8s::class::ClassRules;
use crate::k8s::cluster::ObjectKey;
use crate::k8s::reflect::sources::Access;
use crate::k8s::reflect::{Pace, Wanted};
use crate::k8s::selector::Selector;
use crate::translate::{Proxies, Settings};

/// A flag whose value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The name of an object.
    #[error("--{flag} {value}: write namespace/name")]
    Object {
        /// Which.
        flag: &'static str,
        /// As given.
        value: String,
    },
    /// `--proxy-pods`.
    #[error("--proxy-pods {value}: write name=value, with commas between several")]
    Labels {
        /// As given.
        value: String,
    },
    /// `--watch-namespace-selector`.
    #[error("--watch-namespace-selector {value}: {reason}")]
    Selector {
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What translation needs of the flags.
pub fn settings(rules: &RuleArgs, ports: &PortArgs) -> Result<Settings, SettingsError> {
    let object = |flag, value: &Option<String>| match value {
        None => Ok(None),
        Some(text) => match ObjectKey::parse(text) {
            Some(key) => Ok(Some(key)),
            None => Err(SettingsError::Object { flag, value: text.clone() }),
        },
    };
    Ok(Settings {
        classes: ClassRules {
            controllers: rules.controller_class.clone(),
            name: rules.ingress_class.clone(),
            by_name: rules.ingress_class_by_name,
            with_classless: rules.watch_ingress_without_class,
        },
        annotations_prefix: rules.annotations_prefix.clone(),
        namespace_selector: selector(rules)?,
        is_catch_all_disabled: rules.disable_catch_all,
        watch_namespace: rules.watch_namespace.clone().filter(|namespace| !namespace.is_empty()),
        access: Access::Originals,
        secret_namespaces: Vec::new(),
        config_map: object("configmap", &rules.configmap)?,
        default_backend: object("default-backend-service", &rules.default_backend_service)?,
        published_service: None,
        default_certificate: object("default-ssl-certificate", &rules.default_ssl_certificate)?,
        is_serving: true,
        http_port: ports.http_port,
        https_port: ports.https_port,
        healthz_port: Settings::default().healthz_port,
        tcp_services: object("tcp-services-configmap", &rules.tcp_services_configmap)?,
        udp_services: object("udp-services-configmap", &rules.udp_services_configmap)?,
        enable_external_names: !rules.disable_svc_external_name,
        enable_ssl_passthrough: rules.enable_ssl_passthrough,
        cluster_key: object("cluster-key-secret", &rules.cluster_key_secret)?,
        proxies: Proxies {
            namespace: rules.proxy_pods_namespace.clone().filter(|namespace| !namespace.is_empty()),
            labels: labels(&rules.proxy_pods)?,
        },
        zone: zone(rules),
    })
}

/// `name=value,…`.
fn labels(text: &str) -> Result<BTreeMap<String, String>, SettingsError> {
    let pair = |part: &str| {
        let pair =
            part.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        pair.filter(|(name, _)| !name.is_empty())
    };
    let pairs = text.split(',').filter(|part| !part.trim().is_empty());
    pairs.map(pair).collect::<Option<_>>().ok_or_else(|| SettingsError::Labels { value: text.to_owned() })
}

/// The zone whose endpoints are preferred.
fn zone(rules: &RuleArgs) -> Option<String> {
    let zone = rules.node_zone.clone().filter(|zone| !zone.is_empty());
    if rules.enable_topology_aware_routing && zone.is_none() {
        warn!(
            "--enable-topology-aware-routing needs --node-zone (NODE_ZONE), endpoints of all zones are used"
        );
    }
    zone.filter(|_| rules.enable_topology_aware_routing)
}

fn selector(rules: &RuleArgs) -> Result<Option<Selector>, SettingsError> {
    let Some(text) = rules.watch_namespace_selector.as_ref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match Selector::parse(text) {
        Ok(selector) => Ok(Some(selector)),
        Err(reason) => Err(SettingsError::Selector { value: text.clone(), reason }),
    }
}

/// What of a cluster must be watched.
pub fn wanted(settings: &Settings) -> Wanted {
    Wanted {
        namespace: settings.watch_namespace.clone(),
        config_maps: {
            let named = [&settings.config_map, &settings.tcp_services, &settings.udp_services];
            let named: BTreeSet<&ObjectKey> = named.into_iter().flatten().collect();
            named.into_iter().cloned().collect()
        },
        access: settings.access.clone(),
        secret_namespaces: settings.secret_namespaces.clone(),
        secrets: settings.default_certificate.iter().chain(&settings.cluster_key).cloned().collect(),
        services: settings.default_backend.iter().chain(&settings.published_service).cloned().collect(),
        namespaces: settings.namespace_selector.is_some(),
        nodes: matches!(settings.access, Access::Copying(_)),
        pace: Pace::default(),
    }
}
