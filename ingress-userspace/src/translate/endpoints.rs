//! Services and EndpointSlices → backends with their endpoints.
//!
//! EndpointSlices only; `ready` absent means ready; terminating endpoints that still serve are kept and used when none is
//! ready. A Service that does not exist leaves a backend without endpoints: its routes answer 503. In a folder of
//! manifests, and only there, a Service without EndpointSlice may name its endpoints by an annotation.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Build, external_name};
use crate::k8s::cluster::{Cluster, ObjectKey, Origin, reference};
use crate::model::backend::{Backend, BackendId, BackendState, Endpoint, EndpointCondition};
use crate::problem::{Code, ObjectRef, Severity, suggest};

/// Names the endpoints of a Service in a folder: `127.0.0.1:8081,[::1]:8081`.
const ENDPOINTS_ANNOTATION: &str = "portcullis.dev/endpoints";
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// EndpointSlices by the Service they belong to.
pub(super) struct Slices<'a> {
    by_service: HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    /// Slices whose bad addresses were reported already.
    reported: HashSet<ObjectKey>,
}

impl<'a> Slices<'a> {
    pub(super) fn index(cluster: &'a Cluster) -> Self {
        let mut by_service: HashMap<_, Vec<_>> = HashMap::new();
        for (key, slice) in &cluster.endpoint_slices {
            let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
            if let Some(service) = service {
                by_service.entry((key.namespace.as_str(), service.as_str())).or_default().push(&**slice);
            }
        }
        Self { by_service, reported: HashSet::new() }
    }
}

/// A reference to a Service port, and where it stands.
pub(super) struct PortRef<'a> {
    pub(super) namespace: &'a str,
    pub(super) service: &'a str,
    /// A number or a name; `None`: the first port of the Service.
    pub(super) port: Option<&'a str>,
    /// Whose mistake a missing Service is.
    pub(super) owner: &'a ObjectRef,
    /// Path of the field that names the Service.
    pub(super) field: &'a str,
}

/// The protocol of a Service port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Tcp,
    Udp,
}

impl Carrier {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Whether a field `protocol` says so; absent means TCP.
    fn is(self, protocol: Option<&str>) -> bool {
        protocol.unwrap_or("TCP") == self.name()
    }
}

/// Resolves a Service port to a backend of the model. Always gives an identity; what is missing is a Problem.
pub(super) fn backend(build: &mut Build<'_>, port: &PortRef<'_>) -> BackendId {
    backend_of(build, port, Carrier::Tcp)
}

/// The Service's own address in place of its endpoints. One that has none is resolved as any other, and that is reported.
pub(super) fn service_backend(build: &mut Build<'_>, port: &PortRef<'_>) -> BackendId {
    let cluster = build.cluster;
    let key = ObjectKey::new(port.namespace, port.service);
    let service = cluster.services.get(&key).map(|service| &**service);
    let found = service.and_then(|service| find_port(service, port.port));
    let (Some(service), Some(found)) = (service, found) else { return backend(build, port) };
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        return backend(build, port);
    }
    let written = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    let address = written.parse::<IpAddr>().ok().zip(u16::try_from(found.port).ok());
    let Some((address, number)) = address else {
        let message = "the Service has no address of its own, so its pods are asked as without service-upstream; remove \
                       service-upstream, or give the Service a cluster IP";
        let at = (format!("{}.name", port.field), port.service);
        build.problem(port.owner, (Code::FieldInvalid, Severity::Warning), at, message);
        return backend(build, port);
    };
    let shown_port = port.port.map_or_else(|| found.port.to_string(), str::to_owned);
    let id = BackendId { namespace: key.namespace, service: key.name, port: shown_port }.of_service();
    let endpoint =
        Endpoint { address: SocketAddr::new(address, number), condition: EndpointCondition::Ready };
    let state = BackendState::Resolved;
    let backend = Backend { state, external_name: None, endpoints: vec![endpoint] };
    build.backends.insert(id.clone(), backend);
    id
}

/// The same for a UDP port.
pub(super) fn udp_backend(build: &mut Build<'_>, port: &PortRef<'_>) -> BackendId {
    backend_of(build, port, Carrier::Udp)
}

fn backend_of(build: &mut Build<'_>, port: &PortRef<'_>, carrier: Carrier) -> BackendId {
    let cluster = build.cluster;
    let key = ObjectKey::new(port.namespace, port.service);
    let service = cluster.services.get(&key).map(|service| &**service);
    let found = service.and_then(|service| find_port_of(service, port.port, carrier));
    let shown_port = match (port.port, found) {
        (Some(written), _) => written.to_owned(),
        (None, Some(found)) => found.port.to_string(),
        (None, None) => String::new(),
    };
    // DNS has both on one number.
    let shown_port = if carrier == Carrier::Udp { format!("{shown_port}/udp") } else { shown_port };
    let id = BackendId { namespace: key.namespace.clone(), service: key.name.clone(), port: shown_port };
    if let Some(external) = service.filter(|service| external_name::is_external(service)) {
        let declared = found.and_then(|found| target_number(found).or(u16::try_from(found.port).ok()));
        // Such a Service may declare no ports; then the number that is asked for is meant.
        let asked = port.port.filter(|_| ports(external).is_empty()).and_then(|text| text.parse().ok());
        if let Some(number) = declared.or(asked) {
            if !build.backends.contains_key(&id) {
                let external_name = external_name::name(build, external, number);
                let backend = Backend { state: BackendState::Resolved, external_name, endpoints: Vec::new() };
                build.backends.insert(id.clone(), backend);
            }
            return id;
        }
    }
    let endpoints = match (service, found) {
        (None, _) => {
            let near = cluster.services.keys().filter(|other| other.namespace == key.namespace);
            let hint = suggest(port.service, near.map(|other| other.name.as_str()))
                .map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
            let message = format!(
                "there is no Service {key}; requests get 503 until it exists; create it or correct the name{hint}"
            );
            let field = format!("{}.name", port.field);
            build.problem(
                port.owner,
                (Code::BackendMissing, Severity::Error),
                (field, port.service),
                message,
            );
            None
        }
        (Some(service), None) => {
            let names: Vec<String> = ports(service).iter().map(show_port).collect();
            let message = format!(
                "Service {key} has no such {} port, it has {}; requests get 503; correct the port",
                carrier.name(),
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
            let field = format!("{}.port", port.field);
            let value = port.port.unwrap_or_default();
            build.problem(port.owner, (Code::BackendMissing, Severity::Error), (field, value), message);
            None
        }
        (Some(_), Some(_)) if build.backends.contains_key(&id) => return id,
        (Some(service), Some(found)) => Some(endpoints(build, service, found, (port, carrier))),
    };
    let state = if endpoints.is_some() { BackendState::Resolved } else { BackendState::Missing };
    let endpoints = endpoints.unwrap_or_default();
    build.backends.insert(id.clone(), Backend { state, external_name: None, endpoints });
    id
}

fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

fn show_port(port: &ServicePort) -> String {
    match &port.name {
        Some(name) if !name.is_empty() => format!("{} ({name})", port.port),
        _ => port.port.to_string(),
    }
}

pub(super) fn find_port<'a>(service: &'a Service, wanted: Option<&str>) -> Option<&'a ServicePort> {
    find_port_of(service, wanted, Carrier::Tcp)
}

fn find_port_of<'a>(service: &'a Service, wanted: Option<&str>, carrier: Carrier) -> Option<&'a ServicePort> {
    let is_carried = |port: &&ServicePort| carrier.is(port.protocol.as_deref());
    ports(service).iter().filter(is_carried).find(|port| match wanted {
        None => true,
        // ingress-nginx compares with the port of the pods, too.
        Some(wanted) => {
            port.name.as_deref() == Some(wanted) || wanted.parse() == Ok(port.port) || is_target(port, wanted)
        }
    })
}

fn is_target(port: &ServicePort, wanted: &str) -> bool {
    match &port.target_port {
        Some(IntOrString::Int(number)) => wanted.parse() == Ok(*number),
        Some(IntOrString::String(name)) => name == wanted,
        None => false,
    }
}

/// The port of the pods where the Service says it by number, as the API server fills it in.
fn target_number(port: &ServicePort) -> Option<u16> {
    let number = match &port.target_port {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => name.parse().ok()?,
        None => port.port,
    };
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn endpoints(
    build: &mut Build<'_>,
    service: &Service,
    port: &ServicePort,
    (from, carrier): (&PortRef<'_>, Carrier),
) -> Vec<Endpoint> {
    let object = reference(service);
    let is_folder = build.cluster.origin == Origin::Folder;
    let slices = build.slices.by_service.get(&(object.namespace.as_str(), object.name.as_str())).cloned();
    let slices = slices.unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(ENDPOINTS_ANNOTATION));
    if let (Some(text), true) = (annotation, slices.is_empty()) {
        return named_endpoints(build, &object, text, is_folder);
    }
    let wanted = port.name.as_deref().unwrap_or_default();
    let mut found: BTreeMap<SocketAddr, EndpointCondition> = BTreeMap::new();
    let mut has_port = false;
    for slice in &slices {
        let numbers = numbers(slice, wanted, target_number(port), carrier);
        has_port |= !numbers.is_empty();
        for (address, condition) in addresses(build, slice) {
            for number in &numbers {
                let endpoint = SocketAddr::new(address, *number);
                found
                    .entry(endpoint)
                    .and_modify(|known| *known = (*known).min(condition))
                    .or_insert(condition);
            }
        }
    }
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let is_filled_later = !build.settings.is_serving && selector.is_some_and(|selector| !selector.is_empty());
    if slices.is_empty() && is_filled_later {
        return Vec::new();
    }
    if !has_port && (is_folder || !slices.is_empty()) {
        let message = match (slices.is_empty(), wanted) {
            (true, _) => format!(
                "Service has no EndpointSlice, so requests get 503; add one with the label {SERVICE_NAME_LABEL}, or in a \
                 folder of manifests the annotation {ENDPOINTS_ANNOTATION}"
            ),
            (false, "") => {
                format!(
                    "no EndpointSlice of the Service has a {} port; requests get 503; add one",
                    carrier.name()
                )
            }
            (false, name) => format!(
                "no EndpointSlice of the Service has a {} port named {name}; requests get 503; give both the same name",
                carrier.name()
            ),
        };
        build.problem(
            &object,
            (Code::BackendMissing, Severity::Warning),
            ("spec.ports", &show_port(port)),
            message,
        );
    } else if found.is_empty() {
        let message = format!("no endpoint serves it now (used by {}); requests get 503", from.owner);
        build.problem(
            &object,
            (Code::BackendMissing, Severity::Note),
            ("spec.ports", &show_port(port)),
            message,
        );
    }
    found.into_iter().map(|(address, condition)| Endpoint { address, condition }).collect()
}

/// The port numbers of a slice for a port of its Service: that of the same name; any, where the Service's has no name; else,
/// as in ingress-nginx, the number that the Service itself gives for the pods. Each slice has its own: of two versions of
/// a pod one may call 8080 `http` and the other 9090.
fn numbers(slice: &EndpointSlice, wanted: &str, target: Option<u16>, carrier: Carrier) -> BTreeSet<u16> {
    let is_carried = |port: &&EndpointPort| carrier.is(port.protocol.as_deref());
    let ports = slice.ports.as_deref().unwrap_or_default();
    let of_name = ports.iter().filter(is_carried).filter(|port| {
        let name = port.name.as_deref().unwrap_or_default();
        wanted.is_empty() || name == wanted
    });
    let numbers = of_name.filter_map(|port| port.port.and_then(|number| u16::try_from(number).ok()));
    let numbers: BTreeSet<u16> = numbers.filter(|number| *number != 0).collect();
    let is_open = ports.is_empty() || ports.iter().any(|port| is_carried(&port));
    if numbers.is_empty() && is_open { target.into_iter().collect() } else { numbers }
}

fn addresses(build: &mut Build<'_>, slice: &EndpointSlice) -> Vec<(IpAddr, EndpointCondition)> {
    let object = reference(slice);
    let key = ObjectKey::new(object.namespace.clone(), object.name.clone());
    let is_first = build.slices.reported.insert(key);
    if slice.address_type == "FQDN" {
        if is_first {
            build.problem(
                &object,
                (Code::FieldUnsupported, Severity::Error),
                ("addressType", "FQDN"),
                "names are not supported as endpoints; its endpoints are ignored; use IPv4 or IPv6",
            );
        }
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let conditions = endpoint.conditions.as_ref();
        let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let is_terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
        let is_serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(is_ready);
        let condition = match (is_ready, is_terminating && is_serving) {
            (true, _) => EndpointCondition::Ready,
            (false, true) => EndpointCondition::Terminating,
            (false, false) => continue,
        };
        for address in &endpoint.addresses {
            match address.parse::<IpAddr>() {
                Ok(address) => found.push((address, condition)),
                Err(_) if is_first => build.problem(
                    &object,
                    (Code::FieldInvalid, Severity::Warning),
                    (format!("endpoints[{index}].addresses"), address),
                    "not an IP address; it is ignored; correct it",
                ),
                Err(_) => {}
            }
        }
    }
    found
}

/// The annotation of folder mode.
fn named_endpoints(build: &mut Build<'_>, object: &ObjectRef, text: &str, is_folder: bool) -> Vec<Endpoint> {
    let field = format!("metadata.annotations[{ENDPOINTS_ANNOTATION}]");
    if !is_folder {
        build.problem(
            object,
            (Code::AnnotationUnknown, Severity::Warning),
            (field, text),
            "only read in a folder of manifests; in a cluster create an EndpointSlice",
        );
        return Vec::new();
    }
    let mut found = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => {
                found.insert(address, EndpointCondition::Ready);
            }
            _ => build.problem(
                object,
                (Code::AnnotationInvalid, Severity::Warning),
                (field.clone(), part),
                "not an address with port; it is ignored; write 127.0.0.1:8081 or [::1]:8081, separated by commas",
            ),
        }
    }
    if found.is_empty() {
        let message = "names no endpoint, so requests get 503; write at least one as 127.0.0.1:8081";
        build.problem(object, (Code::BackendMissing, Severity::Warning), (field, text), message);
    }
    found.into_iter().map(|(address, condition)| Endpoint { address, condition }).collect()
}
