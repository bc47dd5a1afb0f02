//! Backends → endpoint cells. A backend keeps its cell for as long as it exists, so that endpoint churn is one store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::compile::transports::Transports;
use crate::model::backend::{Backend, BackendId, BackendState, EndpointCondition, ExternalName};
use crate::model::health::HealthCheck;
use crate::snapshot::buckets::now;
use crate::upstream::backend::{BackendCell, Endpoint, EndpointSet};
use crate::upstream::health::{Checked, Plan, Verdict};
use crate::upstream::resolve::Named;
use crate::upstream::transport::RouteTransport;

/// The cells of all backends, by identity.
#[derive(Debug, Default)]
pub struct Pools(HashMap<BackendId, Pool>);

#[derive(Debug)]
struct Pool {
    cell: Arc<BackendCell>,
    /// Every endpoint of the model, in its order. A known one is taken over, with what was measured of it.
    known: Vec<(Arc<Endpoint>, EndpointCondition)>,
    is_missing: bool,
    /// What checks found, of those that are checked.
    unhealthy: HashSet<SocketAddr>,
    /// Looked up instead.
    external_name: Option<ExternalName>,
}

impl Pool {
    fn update(&mut self, backend: &Backend, now: u64) {
        self.is_missing = backend.state == BackendState::Missing;
        let is_same_name = self.external_name == backend.external_name;
        self.external_name.clone_from(&backend.external_name);
        if backend.external_name.is_some() {
            self.known.clear();
            self.unhealthy.clear();
            if !is_same_name {
                self.cell.replace(EndpointSet::default());
            }
            // The lookup fills the cell.
            return;
        }
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
            let known = &self.known;
            self.unhealthy.retain(|address| known.iter().any(|(endpoint, _)| endpoint.address == *address));
        }
        self.cell.replace(self.usable());
    }

    fn checked(&self, id: &BackendId, check: &HealthCheck, transport: &RouteTransport) -> Checked {
        let plan = Plan {
            question: check.question.clone(),
            interval: check.interval,
            timeout: check.timeout,
            unhealthy_threshold: check.unhealthy_threshold,
            healthy_threshold: check.healthy_threshold,
            transport: Arc::clone(transport.of_checks()),
        };
        let ready = self.known.iter().filter(|(_, condition)| *condition == EndpointCondition::Ready);
        let endpoints = ready.map(|(endpoint, _)| endpoint.address).collect();
        Checked { backend: id.clone(), plan, endpoints }
    }

    /// Ready endpoints, without those that checks found unhealthy unless all are; terminating ones only when none is ready.
    fn usable(&self) -> EndpointSet {
        let of = |condition| {
            let found = self.known.iter().filter(move |(_, known)| *known == condition);
            found.map(|(endpoint, _)| Arc::clone(endpoint)).collect::<Vec<_>>()
        };
        let mut usable = of(EndpointCondition::Ready);
        if usable.iter().any(|endpoint| !self.unhealthy.contains(&endpoint.address)) {
            usable.retain(|endpoint| !self.unhealthy.contains(&endpoint.address));
        }
        if usable.is_empty() {
            usable = of(EndpointCondition::Terminating);
        }
        EndpointSet { usable, is_missing: self.is_missing }
    }
}

/// What checks found of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `<namespace>-<service>-<port>`.
    pub backend: String,
    /// Endpoints that take requests.
    pub healthy: usize,
    /// Endpoints that take none, unless all are like that.
    pub unhealthy: usize,
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
                    let mut pool = Pool {
                        cell,
                        known: Vec::new(),
                        is_missing: false,
                        unhealthy: HashSet::new(),
                        external_name: None,
                    };
                    // What is there with the backend is not new to it.
                    pool.update(backend, 0);
                    self.0.insert(id.clone(), pool);
                }
            }
        }
    }

    /// What is checked: how, and which endpoints. What was found of backends that are not checked any more is forgotten.
    pub fn checked(
        &mut self,
        checks: &BTreeMap<BackendId, HealthCheck>,
        transports: &Transports,
    ) -> (Vec<Checked>, Vec<String>) {
        for (id, pool) in &mut self.0 {
            if !checks.contains_key(id) && !pool.unhealthy.is_empty() {
                pool.unhealthy.clear();
                pool.cell.replace(pool.usable());
            }
        }
        let mut refused = Vec::new();
        let mut checked = Vec::new();
        for (id, check) in checks {
            let Some(pool) = self.0.get(id) else { continue };
            match transports.of(&check.upstream) {
                Ok(transport) => checked.push(pool.checked(id, check, &transport)),
                Err(reason) => refused.push(format!("backend {id} is not checked: {reason}")),
            }
        }
        (checked, refused)
    }

    /// Takes an endpoint out or back in.
    pub fn judge(&mut self, verdict: &Verdict) {
        let Some(pool) = self.0.get_mut(&verdict.backend) else { return };
        let known = pool.known.iter().find(|(endpoint, _)| endpoint.address == verdict.endpoint);
        let Some((endpoint, _)) = known else { return };
        if verdict.is_healthy {
            endpoint.returned(now());
            pool.unhealthy.remove(&verdict.endpoint);
        } else {
            pool.unhealthy.insert(verdict.endpoint);
        }
        pool.cell.replace(pool.usable());
    }

    /// How many endpoints of each backend are healthy and how many are not, where they are checked.
    pub fn health(&self, checks: &BTreeMap<BackendId, HealthCheck>) -> Vec<Health> {
        let pools = checks.keys().filter_map(|id| Some((id, self.0.get(id)?)));
        let health = pools.map(|(id, pool)| Health {
            backend: id.to_string(),
            healthy: pool.known.len().saturating_sub(pool.unhealthy.len()),
            unhealthy: pool.unhealthy.len(),
        });
        health.collect()
    }

    /// The backends whose endpoints are looked up.
    pub fn named(&self) -> Vec<Named> {
        let named = self.0.iter().filter_map(|(id, pool)| {
            let name = pool.external_name.clone()?;
            Some(Named { id: id.clone(), name, cell: Arc::clone(&pool.cell) })
        });
        named.collect()
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
