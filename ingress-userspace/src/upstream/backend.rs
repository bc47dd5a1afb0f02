//! A backend as workers see it: a cell with the endpoints that may be used now. Endpoint churn changes the cell, not the
//! snapshot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::snapshot::cell::Cell;

/// The endpoints of a backend at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    /// Where requests may go.
    pub usable: Vec<SocketAddr>,
    /// The Service or its port does not exist.
    pub is_missing: bool,
}

/// A backend, for as long as the model has it.
#[derive(Debug)]
pub struct BackendCell {
    /// `<namespace>-<service>-<port>`.
    pub name: String,
    /// Its endpoints now.
    pub endpoints: Cell<EndpointSet>,
    /// Whose turn it is.
    pub turn: AtomicUsize,
}

impl BackendCell {
    /// A backend with these endpoints.
    pub fn new(name: String, endpoints: EndpointSet) -> Self {
        Self { name, endpoints: Cell::new(endpoints), turn: AtomicUsize::new(0) }
    }

    /// The usable endpoints, beginning with the one whose turn it is.
    pub fn endpoints_in_turn(&self) -> Vec<SocketAddr> {
        let mut endpoints = self.endpoints.pin().usable.clone();
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
