//! Pages that replace errors.

use serde::{Deserialize, Serialize};

use crate::model::backend::BackendId;

/// Answers with one of these statuses are replaced by what a backend says about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPages {
    /// Ordered, never empty.
    pub statuses: Vec<u16>,
    /// Who makes the pages. `None`: nobody, so errors stay as they are.
    pub backend: Option<BackendId>,
    /// Whether a backend's own answers are replaced, or only those of the proxy.
    pub replaces_upstream: bool,
}
