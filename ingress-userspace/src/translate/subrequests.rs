//! URLs in settings → who is asked; and who may not be.
//!
//! `svc.ns.svc` and `svc.ns.svc.cluster.local` are looked up in the Cluster view, so that they follow endpoints as backends do.
//! Other names are looked up by the proxy when it needs them.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Build;
use super::endpoints::{PortRef, backend};
use super::ports::find_port;
use super::view::View;
use crate::annotation::config_map::Defaults;
use crate::annotation::value::url::UrlText;
use crate::k8s::cluster::{ObjectKey, Objects, Origin};
use crate::model::global::Subrequests;
use crate::model::url::{Authority, Url};
use crate::problem::{Code, ObjectRef, Severity};

/// The Service of the API server.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Whether a Service is that of the API server.
pub(super) fn is_api_server(service: &ObjectKey) -> bool {
    (&*service.namespace, &*service.name) == API_SERVER
}

/// What may not be asked: in a cluster, what is local to the node, and the API server.
pub(super) fn rules(view: &View<'_>, slices: &Objects<EndpointSlice>, defaults: &Defaults) -> Subrequests {
    let is_ipv4_only = defaults.looks_up_ipv4_only;
    if view.origin == Origin::Folder || defaults.allows_local_urls {
        return Subrequests { is_ipv4_only, ..Subrequests::default() };
    }
    let (namespace, name) = API_SERVER;
    let spec = view.services.get(&ObjectKey::new(namespace, name));
    let spec = spec.and_then(|service| service.spec.as_ref());
    let addresses =
        spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
    let slices =
        slices.values().filter(|slice| super::slices::service_of(slice).as_ref().is_some_and(is_api_server));
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses));
    let mut api_servers: Vec<IpAddr> =
        addresses.chain(endpoints).filter_map(|address| address.parse().ok()).collect();
    api_servers.sort();
    api_servers.dedup();
    Subrequests { forbids_local: true, api_servers, is_ipv4_only }
}

/// Where a URL stands.
pub(super) struct UrlRef<'a> {
    pub(super) object: &'a ObjectRef,
    pub(super) field: &'a str,
    /// As written.
    pub(super) written: &'a str,
    /// What comes of it when nobody is there, such as `requests get 500`.
    pub(super) consequence: &'a str,
    /// What comes of it when it may not be asked.
    pub(super) refusal: &'a str,
}

/// Who a URL asks. `None`: nobody, for it may not; the Problem is written.
pub(super) fn url(build: &mut Build<'_>, text: &UrlText, at: &UrlRef<'_>) -> Option<Url> {
    let of = |authority| Some(Url { is_https: text.is_https, authority, path: text.path.clone() });
    let Some((host, port)) = &text.literal else { return of(Authority::Variable(text.authority.clone())) };
    let service = service_of(&build.cluster, host);
    let is_api_server = service.as_ref().is_some_and(is_api_server);
    let is_local = host.parse::<IpAddr>().is_ok_and(|address| build.subrequests.forbids(address))
        || (build.subrequests.forbids_local
            && (is_api_server || host == "localhost" || host.ends_with(".localhost")));
    if is_local {
        let message = format!(
            "points to the node itself or to the API server, which is not allowed; {}; name another host, or set the \
             ConfigMap key allow-local-urls to true",
            at.refusal
        );
        build.problem(at.object, (Code::AnnotationInvalid, Severity::Error), (at.field, at.written), message);
        return None;
    }
    let literal = Authority::Literal { host: host.clone(), port: *port };
    let Some(key) = service else { return of(literal) };
    // The proxy asks the system's resolver about what we may not see.
    let is_watched = build.settings.watch_namespace.as_ref().is_none_or(|only| *only == key.namespace);
    let number = port.unwrap_or(if text.is_https { 443 } else { 80 }).to_string();
    let Some(service) = build.cluster.services.get(&key) else {
        if is_watched {
            let message =
                format!("there is no Service {key}; {}; create it or correct the name", at.consequence);
            let at_field = (at.field, at.written);
            build.problem(at.object, (Code::BackendMissing, Severity::Error), at_field, message);
        }
        return of(literal);
    };
    if find_port(service, Some(&number)).is_none() {
        let is_headless = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
        // The name of a headless Service stands for its pods, and the port is theirs.
        if !is_headless {
            let message =
                format!("Service {key} has no TCP port {number}; {}; correct the port", at.consequence);
            let at_field = (at.field, at.written);
            build.problem(at.object, (Code::BackendMissing, Severity::Error), at_field, message);
        }
        return of(literal);
    }
    let port = PortRef {
        namespace: &key.namespace,
        service: &key.name,
        port: Some(&number),
        owner: at.object,
        field: at.field,
    };
    let backend = backend(build, &port);
    of(Authority::Service { backend, host: host.clone() })
}

/// The Service that a name stands for in the cluster's DNS.
fn service_of(view: &View<'_>, host: &str) -> Option<ObjectKey> {
    let mut labels = host.trim_end_matches('.').split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let key = ObjectKey::new(namespace, name);
    match (labels.next(), labels.next(), labels.next(), labels.next()) {
        (Some("svc"), None, ..) | (Some("svc"), Some("cluster"), Some("local"), None) => Some(key),
        // `auth.example` is the name of a Service only if there is one.
        (None, ..) => view.services.contains_key(&key).then_some(key),
        _ => None,
    }
}
