//! What one worker thread owns. Nothing in it is shared but the snapshot cell and atomics.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{GateReason, ProxyError};
use super::hashing::{self, Passwords};
use super::loads::Loads;
use super::shares::{Outlet, Shares};
use super::temp::TempStore;
use crate::snapshot::Snapshot;
use crate::snapshot::cell;
use crate::snapshot::edge::Refusal;
use crate::snapshot::in_flight::InFlight;
use crate::telemetry::metrics::{self, Samples};
use crate::telemetry::shard::Reporter;
use crate::upstream::pool::Pools;
use crate::upstream::subrequest::Subrequests;

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    Serving,
    /// Clients are told to go (GOAWAY, `Connection: close`); new connections are still served.
    Draining,
    /// No new connections; open requests finish.
    Stopped,
    /// The deadline: everything is closed.
    Closing,
}

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The configuration.
    pub snapshot: Arc<cell::Cell<Snapshot>>,
    /// Temporary files.
    pub temp: Arc<TempStore>,
    /// Where limits are shared with other nodes.
    pub outlet: Outlet,
    /// Open connections per client.
    pub per_client: Arc<InFlight>,
    /// Open connections per worker.
    pub loads: Arc<Loads>,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// From 0.
    pub index: u32,
    /// The configuration.
    pub snapshot: Arc<cell::Cell<Snapshot>>,
    /// Where bodies wait that do not fit into memory.
    pub temp: Arc<TempStore>,
    /// Open connections per client, of all workers.
    pub per_client: Arc<InFlight>,
    /// Open connections per worker, of which this one writes its own.
    pub loads: Arc<Loads>,
    /// What other nodes are told about limits.
    pub shares: Shares,
    /// Idle connections to endpoints.
    pub pools: Rc<Pools>,
    /// Idle connections and names for requests of our own.
    pub subrequests: Subrequests,
    /// Copies of requests that are under way.
    pub mirroring: Cell<u32>,
    /// Log lines and request metrics.
    pub reporter: Rc<Reporter>,
    /// Plain counts.
    pub counters: Counters,
    /// Comparison of passwords.
    pub passwords: Passwords,
    /// How far the end has come.
    pub phase: watch::Receiver<Phase>,
    random: Cell<u64>,
    told: Cell<Option<Instant>>,
}

impl Worker {
    /// A worker before its first connection.
    pub fn new(
        index: u32,
        shared: Shared,
        reporter: Rc<Reporter>,
        phase: watch::Receiver<Phase>,
        hashing: hashing::Pool,
    ) -> Self {
        Self {
            index,
            snapshot: shared.snapshot,
            temp: shared.temp,
            per_client: shared.per_client,
            loads: shared.loads,
            shares: Shares::new(shared.outlet),
            pools: Rc::new(Pools::default()),
            subrequests: Subrequests::default(),
            mirroring: Cell::new(0),
            reporter,
            counters: Counters::default(),
            passwords: Passwords::new(hashing),
            phase,
            // The hasher's keys come from the system's random source.
            random: Cell::new(RandomState::new().hash_one(index) | 1),
            told: Cell::new(None),
        }
    }

    /// Whether a failed endpoint is worth a line in the log: once a second.
    pub fn may_tell(&self) -> bool {
        let now = Instant::now();
        let is_due = self.told.get().is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1));
        if is_due {
            self.told.set(Some(now));
        }
        is_due
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A number for spreading load and naming requests; not a secret. (SplitMix64.)
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A new request id: 32 hexadecimal digits.
    pub fn request_id(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = [0_u8; 32];
        let bits = u128::from(self.random()) << 64 | u128::from(self.random());
        for (position, digit) in id.iter_mut().enumerate() {
            let nibble = usize::try_from((bits >> (4 * position)) & 15).unwrap_or_default();
            *digit = DIGITS.get(nibble).copied().unwrap_or(b'0');
        }
        HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// A count that one thread writes.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get().wrapping_add(amount));
    }

    /// Takes away, for counts of what is open now.
    pub fn sub(&self, amount: u64) {
        self.0.set(self.0.get().saturating_sub(amount));
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// Counts of one worker.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the metric that each fills says what it is")]
pub struct Counters {
    pub requests: Count,
    pub requests_active: Count,
    pub accepted: Count,
    pub open: Count,
    pub accept_errors: Count,
    pub handshakes: Count,
    pub handshakes_failed: Count,
    pub upstream_new: Count,
    pub upstream_reused: Count,
    pub upstream_failed: Count,
    pub upstream_retries: Count,
    pub rate_limited: Count,
    pub mirrors_sent: Count,
    pub mirrors_failed: Count,
    pub mirrors_dropped: Count,
    pub panics: Count,
    by_reason: RefCell<HashMap<(&'static str, &'static str), u64>>,
    refused_at_accept: RefCell<HashMap<&'static str, u64>>,
    denied_at_accept: RefCell<HashMap<Box<str>, u64>>,
}

impl Counters {
    /// Counts an error.
    pub fn failed(&self, error: &ProxyError) {
        let key = match error {
            ProxyError::Gate(reason) => ("", reason.name()),
            _ => (error.source_of_error().name(), error.reason()),
        };
        *self.by_reason.borrow_mut().entry(key).or_default() += 1;
    }

    /// Counts a connection closed at accept.
    pub fn refused(&self, reason: &'static str) {
        *self.refused_at_accept.borrow_mut().entry(reason).or_default() += 1;
    }

    /// Counts a connection that was refused for its source under the policy that denies it.
    pub fn count_denied(&self, refusal: Refusal<'_>) {
        let Some(policy) = refusal.denied_by else { return };
        let mut denied = self.denied_at_accept.borrow_mut();
        match denied.get_mut(policy) {
            Some(count) => *count += 1,
            None => drop(denied.insert(policy.into(), 1)),
        }
    }

    /// Copies the counts out.
    pub fn collect(&self, samples: &mut Samples) {
        let mut add =
            |metric, labels: &[&str], count: &Count| samples.add(metric, labels, count.value() as f64);
        add(&metrics::REQUESTS_TOTAL, &[], &self.requests);
        add(&metrics::CONNECTIONS_TOTAL, &["accepted"], &self.accepted);
        add(&metrics::CONNECTIONS_TOTAL, &["handled"], &self.accepted);
        add(&metrics::CONNECTIONS, &["active"], &self.open);
        add(&metrics::CONNECTIONS, &["writing"], &self.requests_active);
        add(&metrics::ACCEPT_ERRORS, &[], &self.accept_errors);
        add(&metrics::TLS_HANDSHAKES, &["ok"], &self.handshakes);
        add(&metrics::TLS_HANDSHAKES, &["failed"], &self.handshakes_failed);
        add(&metrics::UPSTREAM_CONNECTIONS, &["new"], &self.upstream_new);
        add(&metrics::UPSTREAM_CONNECTIONS, &["reused"], &self.upstream_reused);
        add(&metrics::UPSTREAM_CONNECTIONS, &["failed"], &self.upstream_failed);
        add(&metrics::UPSTREAM_RETRIES, &[], &self.upstream_retries);
        add(&metrics::RATE_LIMITED, &[], &self.rate_limited);
        add(&metrics::MIRRORED, &["sent"], &self.mirrors_sent);
        add(&metrics::MIRRORED, &["failed"], &self.mirrors_failed);
        add(&metrics::MIRRORED, &["dropped"], &self.mirrors_dropped);
        add(&metrics::PANICS, &[], &self.panics);
        for reason in GateReason::ALL {
            samples.add(&metrics::GATE_REFUSED, &[reason.name()], 0.0);
        }
        for ((source, reason), count) in self.by_reason.borrow().iter() {
            match *source {
                "" => samples.add(&metrics::GATE_REFUSED, &[reason], *count as f64),
                source => samples.add(&metrics::PROXY_ERRORS, &[source, reason], *count as f64),
            }
        }
        for (reason, count) in self.refused_at_accept.borrow().iter() {
            samples.add(&metrics::ACCEPT_REFUSED, &[reason], *count as f64);
        }
        for (policy, count) in self.denied_at_accept.borrow().iter() {
            samples.add(&metrics::DENIED_CONNECTIONS, &[policy], *count as f64);
        }
    }
}
