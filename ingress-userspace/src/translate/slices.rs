//! EndpointSlices → the endpoints of backends.
//!
//! Done last, for the Service ports that routes refer to, and from Services and EndpointSlices alone: pods come and go far
//! more often than anything else changes, and then nothing but this is done again. EndpointSlices only; `ready` absent
//! means ready; terminating endpoints that still serve are kept and used when none is ready. In a folder of manifests,
//! and only there, a Service without EndpointSlice may name its endpoints by an annotation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointPort, EndpointSlice};

use super::ports::{Carrier, find_port_of, show_port, target_number};
use super::{Settings, problem};
use crate::k8s::cluster::{Cluster, ObjectKey, Origin, reference};
use crate::model::backend::{Backend, BackendId, BackendState, Endpoint, EndpointCondition};
use crate::problem::{Code, ObjectRef, Problem, Severity};

/// Names the endpoints of a Service in a folder: `127.0.0.1:8081,[::1]:8081`.
const ENDPOINTS_ANNOTATION: &str = "portcullis.dev/endpoints";
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A Service port, which exists, whose endpoints are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The Service.
    pub(super) service: ObjectKey,
    /// Its port, as the reference writes it.
    pub(super) port: Option<String>,
    /// TCP or UDP.
    pub(super) carrier: Carrier,
    /// Who refers to it.
    pub(super) owner: ObjectRef,
}

/// A backend as the EndpointSlices have it, and what is wrong there.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) backend: Backend,
    pub(super) problems: Vec<Problem>,
}

/// The Service that a slice belongs to.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some(ObjectKey::new(slice.metadata.namespace.clone().unwrap_or_default(), service.clone()))
}

/// The endpoints of what is wanted.
pub(super) fn resolve<'w>(
    cluster: &Cluster,
    settings: &Settings,
    wanted: impl Iterator<Item = (&'w BackendId, &'w Wanted)>,
) -> Vec<(BackendId, Resolved)> {
    let mut by_service: HashMap<ObjectKey, Vec<&EndpointSlice>> = HashMap::new();
    for slice in cluster.endpoint_slices.values() {
        if let Some(service) = service_of(slice) {
            by_service.entry(service).or_default().push(slice);
        }
    }
    let resolved = wanted.filter_map(|(id, wanted)| {
        let service = cluster.services.get(&wanted.service)?;
        let port = find_port_of(service, wanted.port.as_deref(), wanted.carrier)?;
        let slices = by_service.get(&wanted.service).map(Vec::as_slice).unwrap_or_default();
        let mut search = Search { cluster, settings, wanted, slices, problems: Vec::new() };
        let endpoints = search.endpoints(service, port);
        let backend = Backend { state: BackendState::Resolved, external_name: None, endpoints };
        Some((id.clone(), Resolved { backend, problems: search.problems }))
    });
    resolved.collect()
}

/// The endpoints of one Service port.
struct Search<'a> {
    cluster: &'a Cluster,
    settings: &'a Settings,
    wanted: &'a Wanted,
    /// Those of the Service.
    slices: &'a [&'a EndpointSlice],
    problems: Vec<Problem>,
}

impl Search<'_> {
    fn endpoints(&mut self, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
        let object = reference(service);
        let is_folder = self.cluster.origin == Origin::Folder;
        let (slices, carrier) = (self.slices, self.wanted.carrier);
        let loss = carrier.loss();
        let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(ENDPOINTS_ANNOTATION));
        if let (Some(text), true) = (annotation, slices.is_empty()) {
            return self.named_endpoints(&object, text, is_folder);
        }
        let wanted = port.name.as_deref().unwrap_or_default();
        let mut found: BTreeMap<SocketAddr, EndpointCondition> = BTreeMap::new();
        let mut has_port = false;
        let zone = self.settings.zone.as_deref().filter(|zone| is_split(slices, zone));
        for slice in slices {
            let numbers = numbers(slice, wanted, target_number(port), carrier);
            has_port |= !numbers.is_empty();
            for (address, condition) in self.addresses(slice, zone) {
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
        let is_filled_later =
            !self.settings.is_serving && selector.is_some_and(|selector| !selector.is_empty());
        if slices.is_empty() && is_filled_later {
            return Vec::new();
        }
        if !has_port && (is_folder || !slices.is_empty()) {
            let message = match (slices.is_empty(), wanted) {
                (true, _) => format!(
                    "Service has no EndpointSlice, so {loss}; add one with the label {SERVICE_NAME_LABEL}, or in a \
                 folder of manifests the annotation {ENDPOINTS_ANNOTATION}"
                ),
                (false, "") => {
                    format!("no EndpointSlice of the Service has a {} port; {loss}; add one", carrier.name())
                }
                (false, name) => format!(
                    "no EndpointSlice of the Service has a {} port named {name}; {loss}; give both the same name",
                    carrier.name()
                ),
            };
            self.problem(
                &object,
                (Code::BackendMissing, Severity::Warning),
                ("spec.ports", &show_port(port)),
                message,
            );
        } else if found.is_empty() {
            let message = format!("no endpoint serves it now (used by {}); {loss}", self.wanted.owner);
            self.problem(
                &object,
                (Code::BackendMissing, Severity::Note),
                ("spec.ports", &show_port(port)),
                message,
            );
        }
        found.into_iter().map(|(address, condition)| Endpoint { address, condition }).collect()
    }

    /// The endpoints of a slice, of this zone alone if one is given.
    fn addresses(&mut self, slice: &EndpointSlice, zone: Option<&str>) -> Vec<(IpAddr, EndpointCondition)> {
        let object = reference(slice);
        if slice.address_type == "FQDN" {
            self.problem(
                &object,
                (Code::FieldUnsupported, Severity::Error),
                ("addressType", "FQDN"),
                "names are not supported as endpoints; its endpoints are ignored; use IPv4 or IPv6",
            );
            return Vec::new();
        }
        let mut found = Vec::new();
        for (index, endpoint) in slice.endpoints.iter().enumerate() {
            if zone.is_some_and(|zone| !zones(endpoint).any(|hinted| hinted == zone)) {
                continue;
            }
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
                    Err(_) => self.problem(
                        &object,
                        (Code::FieldInvalid, Severity::Warning),
                        (format!("endpoints[{index}].addresses"), address),
                        "not an IP address; it is ignored; correct it",
                    ),
                }
            }
        }
        found
    }

    /// The annotation of folder mode.
    fn named_endpoints(&mut self, object: &ObjectRef, text: &str, is_folder: bool) -> Vec<Endpoint> {
        let field = format!("metadata.annotations[{ENDPOINTS_ANNOTATION}]");
        if !is_folder {
            self.problem(
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
                _ => {
                    let message = "not an address with port; it is ignored; write 127.0.0.1:8081 or [::1]:8081, separated by \
                                   commas";
                    let at = (field.clone(), part);
                    self.problem(object, (Code::AnnotationInvalid, Severity::Warning), at, message);
                }
            }
        }
        if found.is_empty() {
            let loss = self.wanted.carrier.loss();
            let message = format!("names no endpoint, so {loss}; write at least one as 127.0.0.1:8081");
            self.problem(object, (Code::BackendMissing, Severity::Warning), (field, text), message);
        }
        found.into_iter().map(|(address, condition)| Endpoint { address, condition }).collect()
    }

    fn problem(
        &mut self,
        object: &ObjectRef,
        what: (Code, Severity),
        at: (impl Into<String>, &str),
        message: impl Into<String>,
    ) {
        self.problems.push(problem(object, what, at, message));
    }
}

/// The zones that an endpoint is meant for.
fn zones(endpoint: &SliceEndpoint) -> impl Iterator<Item = &str> {
    let hints = endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
    hints.map(|zone| zone.name.as_str())
}

/// Whether the ready endpoints of a Service are split over zones, each of them, and this zone has some.
fn is_split(slices: &[&EndpointSlice], zone: &str) -> bool {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let is_ready = |endpoint: &&SliceEndpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    };
    let mut has_own = false;
    for endpoint in endpoints.filter(is_ready) {
        if zones(endpoint).next().is_none() {
            return false;
        }
        has_own |= zones(endpoint).any(|hinted| hinted == zone);
    }
    has_own
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
