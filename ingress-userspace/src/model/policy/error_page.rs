//! Pages that replace errors.

use serde::{Deserialize, Serialize};

use crate::model::backend::BackendId;

/// Answers with one of these statuses are replaced by what a backend says about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPages {
    /// Ordered, never empty.
    pub statuses: Vec<u16>,
    /// Who makes the pages: the first that has endpoints. If none has, errors stay as they are.
    pub backends: Vec<BackendId>,
    /// Whether a backend's own answers are replaced, or only those of the proxy.
    pub replaces_upstream: bool,
}

impl std::fmt::Display for ErrorPages {
    /// For the stable text form of the model.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { statuses, backends, replaces_upstream } = self;
        write!(f, "{statuses:?} by")?;
        for backend in backends {
            write!(f, " {backend}")?;
        }
        if backends.is_empty() {
            f.write_str(" nobody")?;
        }
        f.write_str(if *replaces_upstream { "" } else { ", not those of the backend" })
    }
}
