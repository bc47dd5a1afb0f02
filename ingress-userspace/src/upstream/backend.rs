//! A backend as workers see it: a cell with the endpoints that may be used now. Endpoint churn changes the cell, not the
//! snapshot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::balance::ewma::Load;
use super::balance::hash;
use super::budget::Budget;
use crate::snapshot::cell::Cell;

/// One address of a backend, and what all workers know of it. It is the same one for as long as the backend has the
/// address.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its place in consistent hashing: equal on every node and after every start.
    pub hash: u64,
    /// Latency and requests in flight.
    pub load: Load,
    /// Nanoseconds of `snapshot::buckets::now` when it came, or came back; 0: it was there from the beginning.
    since: AtomicU64,
}

impl Endpoint {
    /// An endpoint that came at `since`, 0 for one that is as old as its backend.
    pub fn new(address: SocketAddr, since: u64) -> Self {
        let hash = hash::of(address.to_string().as_bytes());
        Self { address, hash, load: Load::default(), since: AtomicU64::new(since) }
    }

    /// It was unusable until now.
    pub fn returned(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
    }

    /// When it came; 0: it was there from the beginning.
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Eq for Endpoint {}

/// The endpoints of a backend at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// Where requests may go.
    pub usable: Vec<Arc<Endpoint>>,
    /// The Service or its port does not exist.
    pub is_missing: bool,
}

/// A backend, for as long as the model has it.
#[derive(Debug)]
pub struct BackendCell {
    /// `<namespace>-<service>-<port>`.
    pub name: String,
    /// What session cookies call it: says nothing of the name, and is the same on every node.
    pub hash: u64,
    /// Its endpoints now.
    pub endpoints: Cell<EndpointSet>,
    /// Whose turn it is.
    pub turn: AtomicUsize,
    /// How many retries it may see.
    pub budget: Budget,
}

impl BackendCell {
    /// A backend with these endpoints.
    pub fn new(name: String, endpoints: EndpointSet) -> Self {
        Self {
            hash: hash::of(name.as_bytes()),
            name,
            endpoints: Cell::new(endpoints),
            turn: AtomicUsize::new(0),
            budget: Budget::default(),
        }
    }

    /// The usable endpoints, beginning with the one whose turn it is.
    pub fn endpoints_in_turn(&self) -> Vec<SocketAddr> {
        let usable = &self.endpoints.pin().usable;
        let mut endpoints: Vec<SocketAddr> = usable.iter().map(|endpoint| endpoint.address).collect();
        if !endpoints.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % endpoints.len();
            endpoints.rotate_left(first);
        }
        endpoints
    }

    /// Puts other endpoints in place, if they differ.
    pub fn replace(&self, endpoints: EndpointSet) {
        if self.endpoints.with(|current| *current != endpoints) {
            self.endpoints.publish(Arc::new(endpoints));
        }
    }
}
