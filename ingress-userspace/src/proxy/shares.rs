//! What a worker tells other nodes about its clients: how often each was charged, added up for a moment.
//!
//! Requests never wait for it. What does not fit is left out and counted: it is then limited on this node alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingress_common::maps::Limit;
use tokio::sync::mpsc;

use super::limit_key::Key;

/// Clients that one worker tells of at once.
const MOST: usize = 10_000;
/// What workers may have told before somebody listened.
const WAITING: usize = 64;

/// A limit that is shared.
#[derive(Debug)]
pub struct SharedRate {
    /// Name of its buckets, the same on all nodes.
    pub identity: Box<str>,
    /// Its limits.
    pub limits: Box<[Limit]>,
}

/// A client of a limit.
#[derive(Clone, Debug)]
pub struct Charged {
    /// The limit.
    pub rate: Arc<SharedRate>,
    /// The client.
    pub key: Key,
}

/// Requests that were let through, per client.
pub type Charges = HashMap<Charged, u32>;

/// The workers' end of the way to other nodes.
#[derive(Clone, Debug)]
pub struct Outlet {
    sender: mpsc::Sender<Charges>,
    dropped: Arc<AtomicU64>,
}

/// What one worker has not told yet.
#[derive(Debug)]
pub struct Shares {
    outlet: Outlet,
    charges: RefCell<Charges>,
}

impl PartialEq for Charged {
    fn eq(&self, other: &Self) -> bool {
        self.rate.identity == other.rate.identity
            && self.rate.limits == other.rate.limits
            && self.key == other.key
    }
}

impl Eq for Charged {}

impl Hash for Charged {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rate.identity.hash(state);
        self.key.hash(state);
    }
}

impl Outlet {
    /// Both ends.
    pub fn new() -> (Self, mpsc::Receiver<Charges>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, dropped: Arc::default() }, receiver)
    }

    /// Requests that no other node hears of.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts requests that no other node hears of.
    pub fn drop_charges(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

impl Shares {
    /// Nothing yet.
    pub fn new(outlet: Outlet) -> Self {
        Self { outlet, charges: RefCell::default() }
    }

    /// A request of a client was let through.
    pub fn add(&self, rate: &Arc<SharedRate>, key: Key) {
        let mut charges = self.charges.borrow_mut();
        let has_room = charges.len() < MOST;
        let charged = Charged { rate: Arc::clone(rate), key };
        match charges.get_mut(&charged) {
            Some(count) => *count = count.saturating_add(1),
            None if has_room => drop(charges.insert(charged, 1)),
            None => self.outlet.drop_charges(1),
        }
    }

    /// Hands over what was added; never waits.
    pub fn flush(&self) {
        let charges = self.charges.take();
        if charges.is_empty() {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(charges)) = self.outlet.sender.try_send(charges) {
            self.outlet.drop_charges(charges.values().map(|count| u64::from(*count)).sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_add_up_and_what_does_not_fit_is_counted() {
        let (outlet, mut receiver) = Outlet::new();
        let shares = Shares::new(outlet.clone());
        let rate = Arc::new(SharedRate { identity: "a".into(), limits: Box::default() });
        for number in 0..MOST + 5 {
            shares.add(&rate, Key::Text(number.to_string()));
        }
        shares.add(&rate, Key::Text("0".to_owned()));
        assert_eq!(outlet.dropped(), 5);
        shares.flush();
        let charges = receiver.try_recv().unwrap();
        assert_eq!(charges.len(), MOST);
        let first = Charged { rate: Arc::clone(&rate), key: Key::Text("0".to_owned()) };
        assert_eq!(charges.get(&first), Some(&2));
        for _ in 0..WAITING + 3 {
            shares.add(&rate, Key::Text("0".to_owned()));
            shares.flush();
        }
        assert_eq!(outlet.dropped(), 8);
    }
}
