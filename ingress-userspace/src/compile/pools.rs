//! Backends → endpoint cells. A backend keeps its cell for as long as it exists, so that endpoint churn is one store.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::backend::{Backend, BackendId, BackendState, EndpointCondition};
use crate::snapshot::buckets::now;
use crate::upstream::backend::{BackendCell, Endpoint, EndpointSet};

/// The cells of all backends, by identity.
#[derive(Debug, Default)]
pub struct Pools(HashMap<BackendId, Pool>);

#[derive(Debug)]
struct Pool {
    cell: Arc<BackendCell>,
    /// Every endpoint of the model, in its order. A known one is taken over, with what was measured of it.
    known: Vec<(Arc<Endpoint>, EndpointCondition)>,
    is_missing: bool,
}

impl Pool {
    fn update(&mut self, backend: &Backend, now: u64) {
        self.is_missing = backend.state == BackendState::Missing;
        let is_same = self.known.len() == backend.endpoints.len()
            && self.known.iter().zip(&backend.endpoints).all(|((known, condition), endpoint)| {
                known.address == endpoint.address && *condition == endpoint.condition
            });
        if !is_same {
            let known = self.known.drain(..).map(|(endpoint, _)| (endpoint.address, endpoint));
            let mut known: HashMap<SocketAddr, Arc<Endpoint>> = known.collect();
            let endpoints = backend.endpoints.iter().map(|endpoint| {
                let address = endpoint.address;
                let kept = known.remove(&address);
                (kept.unwrap_or_else(|| Arc::new(Endpoint::new(address, now))), endpoint.condition)
            });
            self.known = endpoints.collect();
        }
        self.cell.replace(self.usable());
    }

    /// Ready endpoints; terminating ones only when none is ready.
    fn usable(&self) -> EndpointSet {
        let of = |condition| {
            let found = self.known.iter().filter(move |(_, known)| *known == condition);
            found.map(|(endpoint, _)| Arc::clone(endpoint)).collect::<Vec<_>>()
        };
        let mut usable = of(EndpointCondition::Ready);
        if usable.is_empty() {
            usable = of(EndpointCondition::Terminating);
        }
        EndpointSet { usable, is_missing: self.is_missing }
    }
}

impl Pools {
    /// Brings every backend of the model up to date; new ones get a cell.
    pub fn update(&mut self, backends: &BTreeMap<BackendId, Backend>) {
        let now = now();
        for (id, backend) in backends {
            match self.0.get_mut(id) {
                Some(pool) => pool.update(backend, now),
                None => {
                    let cell = Arc::new(BackendCell::new(id.to_string(), EndpointSet::default()));
                    let mut pool = Pool { cell, known: Vec::new(), is_missing: false };
                    // What is there with the backend is not new to it.
                    pool.update(backend, 0);
                    self.0.insert(id.clone(), pool);
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
        self.0.get(id).map_or_else(
            || Arc::new(BackendCell::new(id.to_string(), EndpointSet::default())),
            |pool| Arc::clone(&pool.cell),
        )
    }
}
