//! How logs and metrics name a route.

/// The labels of a route's metrics. One allocation per route and backend, kept across snapshots.
#[derive(Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Clone)]
pub struct RouteLabels {
    /// Namespace of the object that asked for the route.
    pub namespace: String,
    /// Its name.
    pub ingress: String,
    /// Name of the Service.
    pub service: String,
    /// The path as written.
    pub path: String,
    /// The host as written; empty for all.
    pub host: String,
    /// `<namespace>-<service>-<port>`; empty when there is no backend.
    pub upstream: String,
    /// The same of the canary that took the request; empty when the main backend did.
    pub canary: String,
}

impl RouteLabels {
    /// Number or name of the Service's port.
    pub fn service_port(&self) -> &str {
        // Namespaces and Services have as many bytes in the joined name as by themselves.
        self.upstream.get(self.namespace.len() + self.service.len() + 2..).unwrap_or_default()
    }
}
