//! References to Services → backends.
//!
//! A Service that does not exist leaves a backend without endpoints: its routes answer 503. The endpoints of the others
//! are found last, by [`slices`](super::slices).

use std::net::{IpAddr, SocketAddr};

use super::ports::{Carrier, find_port, find_port_of, ports, show_port, target_number};
use super::slices::Wanted;
use super::{Build, external_name};
use crate::k8s::cluster::{ObjectKey, Origin};
use crate::model::backend::{Backend, BackendId, BackendState, Endpoint, EndpointCondition};
use crate::problem::{Code, ObjectRef, Severity, suggest};

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

impl PortRef<'_> {
    /// The field that is wrong: a part of the reference to a Service, or the entry of a ConfigMap, which has no parts.
    fn part(&self, carrier: Carrier, part: &str) -> String {
        match carrier {
            Carrier::Tcp => format!("{}.{part}", self.field),
            Carrier::Stream | Carrier::Udp => self.field.to_owned(),
        }
    }
}

/// Resolves a Service port to a backend of the model. Always gives an identity; what is missing is a Problem.
pub(super) fn backend(build: &mut Build<'_>, port: &PortRef<'_>) -> BackendId {
    backend_of(build, port, Carrier::Tcp)
}

/// The Service's own address in place of its endpoints. One that has none is resolved as any other, and that is reported.
pub(super) fn service_backend(build: &mut Build<'_>, port: &PortRef<'_>) -> BackendId {
    let key = ObjectKey::new(port.namespace, port.service);
    let service = build.cluster.services.get(&key).map(|service| &**service);
    let found = service.and_then(|service| find_port(service, port.port));
    let (Some(service), Some(found)) = (service, found) else { return backend(build, port) };
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        return backend(build, port);
    }
    let written = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    let address = written.parse::<IpAddr>().ok().zip(u16::try_from(found.port).ok());
    let Some((address, number)) = address else {
        let at = (format!("{}.name", port.field), port.service);
        // In a folder nobody gave the Service the address that it will have in a cluster.
        let (severity, message) = if written.is_empty() && build.cluster.origin == Origin::Folder {
            (
                Severity::Note,
                "the Service has no cluster IP in this folder, so its pods are asked as without service-upstream",
            )
        } else {
            (
                Severity::Warning,
                "the Service has no address of its own, so its pods are asked as without service-upstream; remove \
                 service-upstream, or give the Service a cluster IP",
            )
        };
        build.problem(port.owner, (Code::FieldInvalid, severity), at, message);
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

/// The same for a TCP port whose bytes are not read.
pub(super) fn stream_backend(build: &mut Build<'_>, port: &PortRef<'_>) -> BackendId {
    backend_of(build, port, Carrier::Stream)
}

/// The same for a UDP port.
pub(super) fn udp_backend(build: &mut Build<'_>, port: &PortRef<'_>) -> BackendId {
    backend_of(build, port, Carrier::Udp)
}

fn backend_of(build: &mut Build<'_>, port: &PortRef<'_>, carrier: Carrier) -> BackendId {
    let key = ObjectKey::new(port.namespace, port.service);
    let service = build.cluster.services.get(&key).map(|service| &**service);
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
        // A number that such a Service does not declare is meant as it is; of a stream, where it declares none.
        let is_free = carrier == Carrier::Tcp || ports(external).is_empty();
        let asked = port.port.filter(|_| is_free).and_then(|text| text.parse().ok());
        if let Some(number) = declared.or(asked) {
            if !build.backends.contains_key(&id) {
                let external_name = external_name::name(build, external, number, carrier);
                let backend = Backend { state: BackendState::Resolved, external_name, endpoints: Vec::new() };
                build.backends.insert(id.clone(), backend);
            }
            return id;
        }
    }
    match (service, found) {
        (None, _) => {
            let hint = suggest(port.service, build.cluster.services.names(&key.namespace))
                .map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
            let message = format!(
                "there is no Service {key}; {} until it exists; create it or correct the name{hint}",
                carrier.loss()
            );
            let field = port.part(carrier, "name");
            build.problem(
                port.owner,
                (Code::BackendMissing, Severity::Error),
                (field, port.service),
                message,
            );
        }
        (Some(service), None) => {
            let names: Vec<String> = ports(service).iter().map(show_port).collect();
            let message = format!(
                "Service {key} has no such {} port, it has {}; {}; correct the port",
                carrier.name(),
                if names.is_empty() { "none".to_owned() } else { names.join(", ") },
                carrier.loss()
            );
            let field = port.part(carrier, "port");
            let value = port.port.unwrap_or_default();
            build.problem(port.owner, (Code::BackendMissing, Severity::Error), (field, value), message);
        }
        (Some(_), Some(_)) => {
            build.wanted.entry(id.clone()).or_insert_with(|| Wanted {
                service: key,
                port: port.port.map(str::to_owned),
                carrier,
                owner: port.owner.clone(),
            });
            return id;
        }
    }
    let missing = Backend { state: BackendState::Missing, external_name: None, endpoints: Vec::new() };
    build.backends.insert(id.clone(), missing);
    id
}
