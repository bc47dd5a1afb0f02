//! What translation needs of the flags.

use std::collections::BTreeMap;

use crate::k8s::class::ClassRules;
use crate::k8s::cluster::ObjectKey;
use crate::k8s::reflect::sources::Access;
use crate::k8s::selector::Selector;

/// What the flags say; everything else comes from objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which classes are ours.
    pub classes: ClassRules,
    /// Prefix of the annotations, beside our own `portcullis.dev`.
    pub annotations_prefix: String,
    /// Only this namespace.
    pub watch_namespace: Option<String>,
    /// Only namespaces with these labels.
    pub namespace_selector: Option<Selector>,
    /// `--disable-catch-all`: an Ingress that has a default backend and no rules is not served.
    pub is_catch_all_disabled: bool,
    /// How Secrets and ConfigMaps are read.
    pub access: Access,
    /// Only Secrets of these namespaces can be read; empty: all.
    pub secret_namespaces: Vec<String>,
    /// ConfigMap with cluster-wide settings.
    pub config_map: Option<ObjectKey>,
    /// Service for requests that no rule matches.
    pub default_backend: Option<ObjectKey>,
    /// Service whose addresses the controller publishes.
    pub published_service: Option<ObjectKey>,
    /// Secret with the certificate for names that no other covers.
    pub default_certificate: Option<ObjectKey>,
    /// A Service with a selector and without EndpointSlice is a Problem. Not for `lint`: a cluster will fill it in.
    pub is_serving: bool,
    /// Port of the implicit listener `http`.
    pub http_port: u16,
    /// Port of the implicit listener `https`.
    pub https_port: u16,
    /// Port of health checks, which no service may have.
    pub healthz_port: u16,
    /// ConfigMap with services of TCP ports.
    pub tcp_services: Option<ObjectKey>,
    /// ConfigMap with services of UDP ports.
    pub udp_services: Option<ObjectKey>,
    /// Services of type ExternalName are served.
    pub enable_external_names: bool,
    /// `ssl-passthrough` is honoured.
    pub enable_ssl_passthrough: bool,
    /// Our proxies' pods.
    pub proxies: Proxies,
    /// Secret with the key that the nodes of pools share, instead of the one that the controller makes.
    pub cluster_key: Option<ObjectKey>,
    /// The zone whose endpoints are preferred, where EndpointSlices say which those are.
    pub zone: Option<String>,
}

/// How Services select our proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// Where they are; `None`: anywhere.
    pub namespace: Option<String>,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
}

impl Default for Proxies {
    fn default() -> Self {
        let labels = [("app.kubernetes.io/name".to_owned(), "portcullis".to_owned())];
        Self { namespace: None, labels: labels.into() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            classes: ClassRules::default(),
            annotations_prefix: "nginx.ingress.kubernetes.io".to_owned(),
            watch_namespace: None,
            namespace_selector: None,
            is_catch_all_disabled: false,
            access: Access::Originals,
            secret_namespaces: Vec::new(),
            config_map: None,
            default_backend: None,
            published_service: None,
            default_certificate: None,
            is_serving: true,
            http_port: 80,
            https_port: 443,
            healthz_port: 10254,
            tcp_services: None,
            udp_services: None,
            enable_external_names: true,
            enable_ssl_passthrough: false,
            proxies: Proxies::default(),
            cluster_key: None,
            zone: None,
        }
    }
}
