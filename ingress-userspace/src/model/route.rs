//! A route: which requests of a host it takes, what is done to them, and where they go.

use serde::{Deserialize, Serialize};

use super::backend::BackendId;
use super::policy::Policies;
use super::policy::answer::LocationForm;

/// One match with its policies and backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The object that asked for it, for logs and metrics.
    pub source: RouteSource,
    /// Which requests it takes.
    pub matches: RouteMatch,
    /// What is done to them.
    pub policies: Policies,
    /// Where they go.
    pub action: RouteAction,
}

/// The object that a route comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteSource {
    /// Its namespace.
    pub namespace: String,
    /// Its name (of the Ingress).
    pub name: String,
    /// The host it was declared for, as written; empty for all.
    pub host: String,
    /// The path as written.
    pub path: String,
}

/// Which requests a route takes. All parts must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// On the normal form of the path.
    pub path: PathMatch,
}

/// How a path is compared. Always with the normal form of the request's path, without query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    /// Case-sensitive equality; `/foo` is not `/foo/`.
    Exact(String),
    /// Per path element, case-sensitive; `/foo` takes `/foo`, `/foo/` and `/foo/x`, not `/foobar`. Stored without a
    /// trailing slash, `/` as the empty string.
    Prefix(String),
    /// A case-insensitive regular expression, anchored at the start only (nginx's `location ~* "^…"`); within `(?-i:…)`
    /// capital letters differ from small ones.
    Regex(String),
}

/// Where the requests of a route go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteAction {
    /// To a share of these backends.
    Forward {
        /// At least one.
        backends: Vec<WeightedBackend>,
        /// Serves instead when the chosen backend has no ready endpoint; its own endpoints must be ready.
        fallback: Option<BackendId>,
    },
    /// Answered by us: the same scheme and host, another path. The query is kept.
    Redirect {
        /// HTTP status, 300 to 399.
        status: u16,
        /// The new path.
        path: String,
        /// How it becomes a URL.
        form: LocationForm,
    },
    /// Answered by us, without a backend.
    Respond {
        /// HTTP status, 200 to 599.
        status: u16,
    },
}

impl RouteAction {
    /// Every backend that it may send to.
    pub fn backends(&self) -> impl Iterator<Item = &BackendId> {
        let (shares, fallback) = match self {
            Self::Forward { backends, fallback } => (backends.as_slice(), fallback.as_ref()),
            Self::Redirect { .. } | Self::Respond { .. } => (&[][..], None),
        };
        shares.iter().map(|share| &share.backend).chain(fallback)
    }
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedBackend {
    /// Which.
    pub backend: BackendId,
    /// Share relative to the sum of the weights; 0 takes nothing.
    pub weight: u32,
}
