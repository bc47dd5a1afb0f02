//! Stage 5: what workers read. A snapshot is immutable and published whole; a request pins one and keeps it to its end.
//!
//! What changes faster than routes lives in cells that the snapshot only points to: the endpoints of a backend
//! (`upstream::backend`) and the state of limits (`buckets`). They survive from snapshot to snapshot.

pub mod access_log;
pub mod block;
pub mod buckets;
pub mod cell;
pub mod delivery;
pub mod edge;
pub mod globals;
pub mod in_flight;
pub mod networks;
pub mod nonces;
pub mod router;
pub mod streams;
pub mod users;
pub mod verdicts;

use std::sync::Arc;

use http::StatusCode;

use crate::filter::Chain;
use crate::model::policy::Timeouts;
use crate::model::policy::answer::LocationForm;
use crate::telemetry::labels::RouteLabels;
use crate::tls::server::TlsTable;
use crate::upstream::backend::BackendCell;
use crate::upstream::transport::RouteTransport;
use delivery::Delivery;
use edge::EdgeTable;
use globals::Globals;
use router::Router;
use streams::{Passthrough, StreamTarget};

/// One build of the configuration, ready to serve.
#[derive(Debug)]
pub struct Snapshot {
    /// Number of the model that it was compiled from; 0 before the first.
    pub version: u64,
    /// What each listener serves. Few, so a list.
    pub listeners: Vec<ListenerTable>,
    /// Which connections are refused at accept.
    pub edge: Arc<EdgeTable>,
    /// What holds for the whole proxy.
    pub globals: Arc<Globals>,
}

impl Snapshot {
    /// What is served before the first model: nothing.
    pub fn empty() -> Self {
        Self {
            version: 0,
            listeners: Vec::new(),
            edge: Arc::new(EdgeTable::default()),
            globals: Arc::default(),
        }
    }

    /// The tables of a listener.
    pub fn listener(&self, name: &str) -> Option<&ListenerTable> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }
}

/// The hosts and certificates of one listener.
#[derive(Clone, Debug)]
pub struct ListenerTable {
    /// Its name in the model.
    pub name: Box<str>,
    /// Host and path → route.
    pub router: Arc<Router>,
    /// Server name → certificate and cipher suites; `None` for a listener without TLS.
    pub tls: Option<Arc<TlsTable>>,
    /// Server names whose TLS goes to a backend as it is.
    pub passthrough: Arc<Passthrough>,
    /// Where everything goes, as it is; `None` for HTTP.
    pub stream: Option<Arc<StreamTarget>>,
}

/// What is done with the requests of one match.
#[derive(Debug)]
pub struct Route {
    /// The filters, in their order.
    pub chain: Chain,
    /// Where requests go.
    pub action: Action,
    /// Deadlines towards the backend.
    pub timeouts: Timeouts,
    /// How its endpoints are spoken to.
    pub transport: RouteTransport,
    /// Which endpoint takes a request, and over which connection.
    pub delivery: Delivery,
    /// Its requests stand in the access log.
    pub is_logged: bool,
    /// How the access log and metrics name the route before a backend is chosen.
    pub labels: Arc<RouteLabels>,
}

/// Where the requests of a route go.
#[derive(Debug)]
pub enum Action {
    /// To a share of these backends.
    Forward {
        /// With their weights.
        targets: Vec<Target>,
        /// Sum of the weights.
        total_weight: u32,
        /// Serves when the chosen backend has no usable endpoint.
        fallback: Option<Target>,
    },
    /// Answered by the proxy: the same scheme and host, another path; the query is kept.
    Redirect {
        /// 300 to 308.
        status: StatusCode,
        /// The new path, encoded.
        path: Box<str>,
        /// How it becomes a URL.
        form: LocationForm,
    },
    /// Answered by the proxy.
    Respond(StatusCode),
}

/// A backend of a route.
#[derive(Debug)]
pub struct Target {
    /// Which, with its endpoints.
    pub backend: Arc<BackendCell>,
    /// Its share.
    pub weight: u32,
    /// How the access log and metrics name it.
    pub labels: Arc<RouteLabels>,
}
