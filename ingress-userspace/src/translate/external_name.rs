//! Services of type ExternalName → backends that are a name of DNS. The proxy looks it up, for only there is it known when
//! it changes; here stands what can be said beforehand.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use super::Build;
use super::ports::Carrier;
use crate::k8s::cluster::{ObjectKey, reference};
use crate::model::backend::ExternalName;
use crate::problem::{Code, Severity};

/// Whether a Service names another host.
pub(super) fn is_external(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// The name behind a Service, with the port of its endpoints; `None` with a Problem.
pub(super) fn name(
    build: &mut Build<'_>,
    service: &Service,
    port: u16,
    carrier: Carrier,
) -> Option<ExternalName> {
    let object = reference(service);
    let written = service.spec.as_ref().and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
    let host = written.trim_end_matches('.').to_ascii_lowercase();
    let trouble = if !build.settings.enable_external_names {
        Some(
            "the flag --disable-svc-external-name forbids Services of this type; use one with EndpointSlices",
        )
    } else if !is_host(&host) {
        Some("is not a host name; correct it")
    } else if build.subrequests.forbids_local && is_local(build, &host) {
        Some(
            "names an address of the node or of the API server; set the ConfigMap key allow-local-urls to true if that is \
             meant",
        )
    } else if names_a_service(build, &host) {
        let message = "names a Service of this cluster; it is looked up in DNS, and its endpoints are not seen; point the Ingress \
                       at that Service";
        let at = ("spec.externalName", written);
        build.problem(&object, (Code::FieldInvalid, Severity::Note), at, message);
        None
    } else {
        None
    };
    if let Some(reason) = trouble {
        let message = format!("{reason}; {}", carrier.loss());
        let at = ("spec.externalName", written);
        build.problem(&object, (Code::FieldInvalid, Severity::Error), at, message);
        return None;
    }
    Some(ExternalName { host, port })
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(is_label))
}

fn is_local(build: &Build<'_>, host: &str) -> bool {
    let is_address = host.parse().is_ok_and(|address| build.subrequests.forbids(address));
    let is_api_server =
        ["kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    is_address || host == "localhost" || host.ends_with(".localhost") || is_api_server.contains(&host)
}

fn names_a_service(build: &Build<'_>, host: &str) -> bool {
    let short = host.strip_suffix(".svc.cluster.local").or_else(|| host.strip_suffix(".svc"));
    short.and_then(|short| short.split_once('.')).is_some_and(|(service, namespace)| {
        build.cluster.services.contains_key(&ObjectKey::new(namespace, service))
    })
}
