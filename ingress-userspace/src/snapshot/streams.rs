//! What is carried without being read: where a listener sends, and which server names are passed through.

use std::collections::HashMap;
use std::sync::Arc;

use crate::upstream::backend::BackendCell;

/// Where a listener for TCP or UDP sends.
#[derive(Debug)]
pub struct StreamTarget {
    /// The backend.
    pub backend: Arc<BackendCell>,
    /// Clients begin with a PROXY header.
    pub accepts_proxy_protocol: bool,
    /// Endpoints get a PROXY header.
    pub sends_proxy_protocol: bool,
}

/// Server names whose TLS goes to a backend as it is.
#[derive(Debug, Default)]
pub struct Passthrough {
    /// Lower case.
    pub exact: HashMap<Box<str>, Arc<BackendCell>>,
    /// By the suffix after `*.`.
    pub wildcard: HashMap<Box<str>, Arc<BackendCell>>,
    /// Names that are served here although a wildcard covers them.
    pub terminated: Vec<Box<str>>,
}

impl Passthrough {
    /// Whether nothing is passed through, and no ClientHello must be looked at.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// The backend of a name, in lower case.
    pub fn backend(&self, name: &str) -> Option<&Arc<BackendCell>> {
        if let Some(backend) = self.exact.get(name) {
            return Some(backend);
        }
        let (label, suffix) = name.split_once('.')?;
        let backend = self.wildcard.get(suffix).filter(|_| !label.is_empty())?;
        (!self.terminated.iter().any(|own| **own == *name)).then_some(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::backend::EndpointSet;

    #[test]
    fn names_are_exact_or_one_label_below_a_suffix() {
        let cell = || Arc::new(BackendCell::new("b".into(), EndpointSet::default()));
        let table = Passthrough {
            exact: [("a.example".into(), cell())].into(),
            wildcard: [("wild.example".into(), cell())].into(),
            terminated: vec!["own.wild.example".into()],
        };
        let rows = [
            ("a.example", true),
            ("b.example", false),
            ("x.wild.example", true),
            ("y.x.wild.example", false),
            ("own.wild.example", false),
            (".wild.example", false),
            ("wild.example", false),
        ];
        for (name, expected) in rows {
            assert_eq!(table.backend(name).is_some(), expected, "{name}");
        }
        assert!(!table.is_empty() && Passthrough::default().is_empty());
    }
}
