//! Backends → endpoint cells. A backend keeps its cell for as long as it exists, so that endpoint churn is one store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::backend::{Backend, BackendId, BackendState, EndpointCondition};
use crate::upstream::backend::{BackendCell, EndpointSet};

/// The cells of all backends, by identity.
#[derive(Debug, Default)]
pub struct Pools(HashMap<BackendId, Arc<BackendCell>>);

impl Pools {
    /// Brings every backend of the model up to date; new ones get a cell.
    pub fn update(&mut self, backends: &BTreeMap<BackendId, Backend>) {
        for (id, backend) in backends {
            let set = endpoint_set(backend);
            match self.0.get(id) {
                Some(cell) => cell.replace(set),
                None => {
                    self.0.insert(id.clone(), Arc::new(BackendCell::new(id.to_string(), set)));
                }
            }
        }
    }

    /// Forgets backends that the model no longer has. Requests in flight keep theirs.
    pub fn retain(&mut self, backends: &BTreeMap<BackendId, Backend>) {
        self.0.retain(|id, _| backends.contains_key(id));
    }

    /// The cell of a backend. One that the model does not have (it always does) has no endpoints.
    pub fn cell(&self, id: &BackendId) -> Arc<BackendCell> {
        self.0
            .get(id)
            .map_or_else(|| Arc::new(BackendCell::new(id.to_string(), EndpointSet::default())), Arc::clone)
    }
}

/// Ready endpoints; terminating ones only when none is ready.
fn endpoint_set(backend: &Backend) -> EndpointSet {
    let of = |condition| {
        backend
            .endpoints
            .iter()
            .filter(move |e| e.condition == condition)
            .map(|e| e.address)
            .collect::<Vec<_>>()
    };
    let mut usable = of(EndpointCondition::Ready);
    if usable.is_empty() {
        usable = of(EndpointCondition::Terminating);
    }
    EndpointSet { usable, is_missing: backend.state == BackendState::Missing }
}
