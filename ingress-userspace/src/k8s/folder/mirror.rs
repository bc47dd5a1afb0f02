//! `Endpoints` objects, read as the EndpointSlices that a cluster would make of them. A Service that has slices of its own
//! is served by those.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::k8s::cluster::{Cluster, ObjectKey};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// No object's name has it: keys with it are of mirrored slices.
const MARK: char = '/';

/// The slices that say the same: one per subset and address family.
pub(super) fn slices(endpoints: &Endpoints) -> Vec<Arc<EndpointSlice>> {
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        for family in ["IPv4", "IPv6"] {
            let found: Vec<Endpoint> = addresses(subset)
                .filter(|(address, _)| family_of(&address.ip) == Some(family))
                .map(|(address, is_ready)| endpoint(address, is_ready))
                .collect();
            if !found.is_empty() {
                slices.push(Arc::new(slice(endpoints, subset, family, found)));
            }
        }
    }
    slices
}

/// The key of the slice with this number.
pub(super) fn key(endpoints: &ObjectKey, number: usize) -> ObjectKey {
    ObjectKey::new(endpoints.namespace.clone(), format!("{}{MARK}{number}", endpoints.name))
}

/// Leaves out mirrored slices of Services that have others.
pub(super) fn drop_shadowed(cluster: &mut Cluster) {
    let is_mirrored = |key: &ObjectKey| key.name.contains(MARK);
    if !cluster.endpoint_slices.keys().any(is_mirrored) {
        return;
    }
    let real: HashSet<(String, String)> = cluster
        .endpoint_slices
        .iter()
        .filter(|(key, _)| !is_mirrored(key))
        .filter_map(|(key, slice)| Some((key.namespace.clone(), service(slice)?.to_owned())))
        .collect();
    cluster.endpoint_slices.retain(|key, slice| {
        let of = service(slice).map(|name| (key.namespace.clone(), name.to_owned()));
        !is_mirrored(key) || of.is_some_and(|of| !real.contains(&of))
    });
}

fn service(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
}

fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    ready.chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)))
}

fn family_of(address: &str) -> Option<&'static str> {
    match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    endpoints: &Endpoints,
    subset: &EndpointSubset,
    family: &str,
    found: Vec<Endpoint>,
) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: port.name.clone(),
        port: Some(port.port),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    });
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: found,
        metadata: ObjectMeta {
            labels: Some([(SERVICE_NAME.to_owned(), name.clone())].into()),
            name: Some(name),
            namespace: endpoints.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        ports: Some(ports.collect()),
    }
}
