//! Stage 4: the model → what workers read, and what the kernel maps hold. Pure: no IO, no clock.
//!
//! A part that cannot be compiled degrades to a refusal of its own route and is named in the report. What did not
//! change since the model before is taken over as it is: routes, certificates, the endpoint cells and the limits.

pub mod chain;
pub mod delivery;
pub mod edge;
pub mod maps;
pub mod pools;
pub mod rendezvous;
pub mod routes;
pub mod steering;
mod streams;
pub mod tls;
pub mod transports;
pub mod unmet;

use std::sync::Arc;

use crate::model::Model;
use crate::snapshot::Snapshot;
use crate::snapshot::buckets::Buckets;
use crate::snapshot::globals::Globals;
use crate::snapshot::in_flight::Limits;
use crate::snapshot::nonces::Nonces;
use crate::snapshot::users::{self, UserLists};
use crate::snapshot::verdicts::Verdicts;
use crate::tls::resolver::Certificates;
use crate::tls::server::Sessions;
use crate::upstream::health::{Checked, Verdict};
use crate::upstream::resolve::Named;
use pools::Health;

/// Compiles one model after the other; holds what the next one may take over.
#[derive(Debug)]
pub struct Compiler {
    model: Arc<Model>,
    snapshot: Arc<Snapshot>,
    routes: routes::Cache,
    pools: pools::Pools,
    certificates: Certificates,
    sessions: Sessions,
    transports: transports::Transports,
    limits: Limits,
    users: UserLists,
    nonces: Arc<Nonces>,
    verdicts: Arc<Verdicts>,
}

/// What came of a model.
#[derive(Debug)]
pub struct Compiled {
    /// To be published.
    pub snapshot: Arc<Snapshot>,
    /// Parts that could not be compiled, each already degraded; text for the log.
    pub refused: Vec<String>,
    /// Endpoints to be checked.
    pub checked: Vec<Checked>,
    /// Backends whose endpoints are to be looked up.
    pub named: Vec<Named>,
}

impl Compiler {
    /// A compiler that has seen no model yet. `certificates` holds the default that it answers with, `sessions` what lets
    /// TLS sessions resume.
    pub fn new(certificates: Certificates, sessions: Sessions, nonces: Nonces) -> Self {
        Self {
            model: Arc::new(Model::default()),
            snapshot: Arc::new(Snapshot::empty()),
            routes: routes::Cache::default(),
            pools: pools::Pools::default(),
            certificates,
            sessions,
            transports: transports::Transports::default(),
            limits: Limits::default(),
            users: UserLists::default(),
            nonces: Arc::new(nonces),
            verdicts: Arc::default(),
        }
    }

    /// State of the limits per client, for who shares it with other nodes.
    pub fn buckets(&self) -> Arc<Buckets> {
        Arc::clone(&self.limits.buckets)
    }

    /// Compiles a model. Endpoint sets take effect at once, before the snapshot is published: routes that are gone do
    /// not use them, and routes that are new do not exist yet.
    pub fn compile(&mut self, version: u64, model: &Arc<Model>) -> Compiled {
        let mut refused = Vec::new();
        self.pools.update(&model.backends);
        self.certificates.update(&model.certificates, &mut refused);
        self.transports.update(model, &self.certificates);
        self.users = users::update(&self.users, &model.users);
        // Endpoints change far more often than anything else, and they live in cells: nothing is rebuilt for them.
        let is_same = self.model.hosts == model.hosts
            && self.model.listeners == model.listeners
            && self.model.global.tls == model.global.tls
            && self.model.certificates == model.certificates
            && self.model.client_authorities == model.client_authorities;
        let listeners = if is_same {
            self.snapshot.listeners.clone()
        } else {
            let context = chain::Context {
                pools: &self.pools,
                transports: &self.transports,
                limits: &self.limits,
                users: &self.users,
                nonces: &self.nonces,
                verdicts: &self.verdicts,
            };
            let (hosts, cache) = routes::hosts(&model.hosts, &self.routes, &context);
            self.routes = cache;
            routes::listeners(model, &hosts, (&self.certificates, &self.sessions, &self.pools), &mut refused)
        };
        refused.extend(self.routes.refused());
        let edge = if self.model.edge == model.edge {
            Arc::clone(&self.snapshot.edge)
        } else {
            Arc::new(edge::compile(&model.edge, &self.snapshot.edge))
        };
        let globals = if self.model.global == model.global {
            Arc::clone(&self.snapshot.globals)
        } else {
            Arc::new(Globals::new(&model.global))
        };
        let snapshot = Arc::new(Snapshot { version, listeners, edge, globals });
        self.pools.retain(&model.backends);
        let (checked, unchecked) = self.pools.checked(&model.checks, &self.transports);
        refused.extend(unchecked);
        self.model = Arc::clone(model);
        self.snapshot = Arc::clone(&snapshot);
        Compiled { snapshot, refused, checked, named: self.pools.named() }
    }

    /// Takes an endpoint out of its backend, or back in. Takes effect at once.
    pub fn judge(&mut self, verdict: &Verdict) {
        self.pools.judge(verdict);
    }

    /// What checks found of the backends that are checked.
    pub fn health(&self) -> Vec<Health> {
        self.pools.health(&self.model.checks)
    }
}

#[cfg(test)]
mod tests;
