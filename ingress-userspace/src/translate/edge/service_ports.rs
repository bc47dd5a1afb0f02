//! The ports of Services with an address of a pool → the listeners that serve them there.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::{Assignment, Build};
use crate::k8s::cluster::{Cluster, ObjectKey};
use crate::model::edge::PoolService;
use crate::model::listener::{Listener, ListenerName};
use crate::problem::{Code, ObjectRef, Severity};

/// The Services that have addresses, with what is served on these besides the ports of all addresses.
pub(super) fn services(
    build: &mut Build<'_>,
    cluster: &Cluster,
    assigned: &[Assignment],
    listeners: &[Listener],
) -> Vec<PoolService> {
    let mut found = Vec::new();
    for Assignment { object, addresses, .. } in assigned.iter().filter(|given| !given.addresses.is_empty()) {
        let (namespace, name) = (object.namespace.clone(), object.name.clone());
        let service = cluster.services.get(&ObjectKey::new(&*namespace, &*name));
        let ports = service.map(|service| ports(build, object, service, listeners)).unwrap_or_default();
        found.push(PoolService { namespace, name, addresses: addresses.clone(), ports });
    }
    found
}

fn ports(
    build: &mut Build<'_>,
    object: &ObjectRef,
    service: &Service,
    listeners: &[Listener],
) -> Vec<(u16, ListenerName)> {
    let mut served = Vec::new();
    let all = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    for (index, port) in all.iter().enumerate() {
        let is_udp = port.protocol.as_deref() == Some("UDP");
        let (Ok(number), Some(listener)) = (u16::try_from(port.port), target(port, is_udp, listeners)) else {
            let shown = port.target_port.as_ref().map_or_else(|| port.port.to_string(), show);
            let of_kind = listeners.iter().filter(|listener| listener.protocol.is_udp() == is_udp);
            let known: Vec<String> =
                of_kind.map(|listener| format!("{} ({})", listener.port, listener.name.0)).collect();
            let message = format!(
                "the proxies listen on no such port, so port {} of the Service is not served; they listen on {}",
                port.port,
                if known.is_empty() { "none of this protocol".to_owned() } else { known.join(", ") }
            );
            let at = (format!("spec.ports[{index}].targetPort"), shown.as_str());
            build.problem(object, (Code::FieldInvalid, Severity::Error), at, message);
            continue;
        };
        if listener.port == number {
            continue;
        }
        // Ports of listeners are served on every address: another listener's is not taken from it.
        let is_taken =
            listeners.iter().find(|other| other.port == number && other.protocol.is_udp() == is_udp);
        let reason = match is_taken {
            Some(other) => format!("port {number} belongs to {} on every address", other.name.0),
            None if is_udp => "a UDP port must be the port of its listener".to_owned(),
            None => {
                served.push((number, listener.name.clone()));
                continue;
            }
        };
        let message = format!("{reason}, so this one is not served; write port {}", listener.port);
        let at = (format!("spec.ports[{index}].port"), &*number.to_string());
        build.problem(object, (Code::FieldInvalid, Severity::Error), at, message);
    }
    served.sort();
    served.dedup();
    served
}

fn target<'l>(port: &ServicePort, is_udp: bool, listeners: &'l [Listener]) -> Option<&'l Listener> {
    let mut all = listeners.iter().filter(|listener| listener.protocol.is_udp() == is_udp);
    match &port.target_port {
        None => all.find(|listener| i32::from(listener.port) == port.port),
        Some(IntOrString::Int(number)) => all.find(|listener| i32::from(listener.port) == *number),
        Some(IntOrString::String(name)) => {
            all.find(|listener| listener.name.0 == *name || Ok(listener.port) == name.parse())
        }
    }
}

fn show(target: &IntOrString) -> String {
    match target {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}
