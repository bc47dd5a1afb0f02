//! The ports of Services: which one a reference means, and what it carries.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The protocol of a Service port, and whether what it carries is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// TCP, for requests.
    Tcp,
    /// TCP, for connections of a TCP service.
    Stream,
    /// UDP.
    Udp,
}

impl Carrier {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp | Self::Stream => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Whether a field `protocol` says so; absent means TCP.
    pub(super) fn is(self, protocol: Option<&str>) -> bool {
        protocol.unwrap_or("TCP") == self.name()
    }

    /// What clients see while there is no endpoint.
    pub(super) fn loss(self) -> &'static str {
        match self {
            Self::Tcp => "requests get 503",
            Self::Stream => "connections are closed",
            Self::Udp => "datagrams get no answer",
        }
    }
}

/// The ports of a Service.
pub(super) fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

pub(super) fn show_port(port: &ServicePort) -> String {
    match &port.name {
        Some(name) if !name.is_empty() => format!("{} ({name})", port.port),
        _ => port.port.to_string(),
    }
}

pub(super) fn find_port<'a>(service: &'a Service, wanted: Option<&str>) -> Option<&'a ServicePort> {
    find_port_of(service, wanted, Carrier::Tcp)
}

pub(super) fn find_port_of<'a>(
    service: &'a Service,
    wanted: Option<&str>,
    carrier: Carrier,
) -> Option<&'a ServicePort> {
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
pub(super) fn target_number(port: &ServicePort) -> Option<u16> {
    let number = match &port.target_port {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => name.parse().ok()?,
        None => port.port,
    };
    u16::try_from(number).ok().filter(|number| *number != 0)
}
