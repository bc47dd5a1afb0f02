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
