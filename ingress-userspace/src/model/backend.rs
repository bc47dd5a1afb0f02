//! A backend: one port of a Service, with the endpoints that serve it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Identity of a backend. Ordered, so that models compare and print stably.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BackendId {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// The port as the route names it: a number or a name.
    pub port: String,
}

/// Ends the port of a backend that is the Service's own address.
const OF_SERVICE: &str = "/service";

impl BackendId {
    /// The same port by the Service's own address, in place of its endpoints.
    pub fn of_service(self) -> Self {
        Self { port: format!("{}{OF_SERVICE}", self.port), ..self }
    }

    /// Whether it is the Service's own address.
    pub fn is_of_service(&self) -> bool {
        self.port.ends_with(OF_SERVICE)
    }

    /// How logs and metrics name it, whichever way it is reached: `<namespace>-<service>-<port>`.
    pub fn upstream_name(&self) -> String {
        let port = self.port.strip_suffix(OF_SERVICE).unwrap_or(&self.port);
        format!("{}-{}-{port}", self.namespace, self.service)
    }
}

impl std::fmt::Display for BackendId {
    /// The upstream name of access logs and metrics: `<namespace>-<service>-<port>`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.namespace, self.service, self.port)
    }
}

/// A Service port and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Why there may be no endpoint.
    pub state: BackendState,
    /// Where its endpoints come from, when not from the model.
    pub external_name: Option<ExternalName>,
    /// Ordered by address, no duplicates.
    pub endpoints: Vec<Endpoint>,
}

/// Whether the Service behind a backend could be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendState {
    /// The Service and its port exist.
    Resolved,
    /// The Service does not exist, or has no such port.
    Missing,
}

/// A name of DNS that is looked up for endpoints, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalName {
    /// Lower case, without a dot at its end; or an address.
    pub host: String,
    /// The port of all its addresses.
    pub port: u16,
}

/// One address that serves a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it takes new requests.
    pub condition: EndpointCondition,
}

/// What the EndpointSlice says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndpointCondition {
    /// Takes new requests.
    Ready,
    /// Terminating but still serving: used only when no endpoint is ready.
    Terminating,
}
