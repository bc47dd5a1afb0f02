//! Which pools this node announces: those whose Lease it holds or, where there is no API server, those of which it is the
//! first node that is up.
//!
//! The Lease of a pool is short, so that another node takes it over within three seconds of its holder's death, and sooner
//! where the nodes' own probes see it first. A holder that cannot renew goes on until it sees another: two announcers are
//! harmless, none is an outage. Clocks are never compared: a Lease has expired when it was seen unchanged for its whole
//! duration, and every write names the version that was read, so that a late reader takes nothing away.

mod lease;
mod race;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::model::Model;
use crate::model::edge::{Announce, NodeState, Pool};

/// Nodes that may take over wait for each other this long, in an order that differs from pool to pool.
const STEP: Duration = Duration::from_millis(50);
/// The longest wait.
const MOST_STEPS: u32 = 10;

/// How the nodes agree.
#[derive(Clone)]
pub enum Agreement {
    /// By Leases in this namespace.
    Leases(Client, String),
    /// By the order of the nodes.
    Order,
    /// Not at all: nothing is announced.
    None,
}

impl std::fmt::Debug for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leases(_, namespace) => f.debug_tuple("Leases").field(namespace).finish(),
            Self::Order => f.write_str("Order"),
            Self::None => f.write_str("None"),
        }
    }
}

/// What a pool means to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seat {
    pool: String,
    /// This node may announce it. A node that drains does so only while no other can.
    is_eligible: bool,
    /// The nodes that may announce it, in the order of a folder: those that drain last.
    nodes: Vec<String>,
    /// How long this node waits for others before it takes a free Lease.
    wait: Duration,
}

/// What the nodes agreed on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Agreed {
    /// The pools that this node announces.
    announced: BTreeSet<String>,
    /// The node that announces each pool, as far as this one knows.
    holders: BTreeMap<String, String>,
}

/// What is announced, and what it depends on.
pub struct Announcers {
    node: String,
    seats: watch::Sender<Vec<Seat>>,
    down: watch::Sender<BTreeSet<String>>,
    agreed: watch::Receiver<Agreed>,
    _task: AbortOnDropHandle<()>,
}

impl Announcers {
    /// Begins to take part, as the node of this name.
    pub fn start(agreement: Agreement, node: &str) -> Self {
        let (seats, seats_seen) = watch::channel(Vec::new());
        let (down, down_seen) = watch::channel(BTreeSet::new());
        let (sender, agreed) = watch::channel(Agreed::default());
        let inputs = Inputs { node: node.to_owned(), seats: seats_seen, down: down_seen, agreed: sender };
        let task = tokio::spawn(async move {
            match agreement {
                Agreement::Leases(client, namespace) => lease::run(client, &namespace, inputs).await,
                Agreement::Order => by_order(inputs).await,
                Agreement::None => {}
            }
        });
        let task = AbortOnDropHandle::new(task);
        Self { node: node.to_owned(), seats, down, agreed, _task: task }
    }

    /// Follows the pools of a model.
    pub fn follow(&self, model: &Model) {
        let now = seats(&model.edge.pools, &self.node);
        self.seats.send_if_modified(|seats| {
            let is_new = *seats != now;
            *seats = now;
            is_new
        });
    }

    /// Takes note of the nodes that announce nothing, as those know that probe them.
    pub fn notice(&self, now: BTreeSet<String>) {
        self.down.send_if_modified(|down| {
            let is_new = *down != now;
            if is_new {
                info!(nodes = ?now, "nodes that cannot announce changed");
            }
            *down = now;
            is_new
        });
    }

    /// The pools that this node announces now.
    pub fn announced(&self) -> BTreeSet<String> {
        self.agreed.borrow().announced.clone()
    }

    /// The node that announces each pool, as far as this one knows.
    pub fn holders(&self) -> BTreeMap<String, String> {
        self.agreed.borrow().holders.clone()
    }

    /// Resolves when others are announced, or by others.
    pub async fn changed(&mut self) {
        if self.agreed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What the agreement works with.
struct Inputs {
    node: String,
    seats: watch::Receiver<Vec<Seat>>,
    down: watch::Receiver<BTreeSet<String>>,
    agreed: watch::Sender<Agreed>,
}

impl Inputs {
    fn publish(&self, announced: BTreeSet<String>, holders: BTreeMap<String, String>) {
        let now = Agreed { announced, holders };
        self.agreed.send_if_modified(|agreed| {
            if agreed.announced != now.announced {
                info!(pools = ?now.announced, "announced pools changed");
            }
            let is_new = *agreed != now;
            *agreed = now;
            is_new
        });
    }
}

fn seats(pools: &[Pool], node: &str) -> Vec<Seat> {
    let announced = pools.iter().filter(|pool| pool.announce == Announce::L2 && !pool.blocks.is_empty());
    announced.map(|pool| seat(pool, node)).collect()
}

fn seat(pool: &Pool, node: &str) -> Seat {
    let of_state = |state| pool.nodes.iter().filter(move |node| node.state == state);
    let (active, draining) = (of_state(NodeState::Active), of_state(NodeState::Draining));
    let names: Vec<String> = active.clone().chain(draining).map(|node| node.name.clone()).collect();
    let is_active = active.clone().any(|other| other.name == node);
    let is_eligible = match names.is_empty() {
        true => true,
        false => is_active || (active.count() == 0 && names.iter().any(|name| name == node)),
    };
    // The lowest number first, another order for each pool.
    let number = |name: &str| fnv(&[pool.name.as_bytes(), b"/", name.as_bytes()]);
    let own = number(node);
    let before = names.iter().filter(|name| number(name) < own).count();
    let before = u32::try_from(before).unwrap_or(MOST_STEPS).min(MOST_STEPS);
    Seat { pool: pool.name.clone(), is_eligible, nodes: names, wait: STEP * before }
}

/// FNV-1a: the order must be the same on every node.
fn fnv(parts: &[&[u8]]) -> u64 {
    parts.iter().copied().flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The first node of a pool that is up announces it.
async fn by_order(mut inputs: Inputs) {
    loop {
        let down = inputs.down.borrow_and_update().clone();
        let first = |seat: Seat| {
            let mut up = seat.nodes.iter().filter(|name| **name == inputs.node || !down.contains(*name));
            let holder = if seat.nodes.is_empty() { Some(&inputs.node) } else { up.next() };
            Some((seat.pool, holder?.clone()))
        };
        let seats = inputs.seats.borrow_and_update().clone();
        let holders: BTreeMap<String, String> = seats.into_iter().filter_map(first).collect();
        let mine = holders.iter().filter(|(_, holder)| **holder == inputs.node);
        inputs.publish(mine.map(|(pool, _)| pool.clone()).collect(), holders);
        let is_over = tokio::select! {
            changed = inputs.seats.changed() => changed.is_err(),
            changed = inputs.down.changed() => changed.is_err(),
        };
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::{AddressRange, PoolNode};

    fn pool(nodes: &[(&str, NodeState)]) -> Pool {
        let ip = "198.18.100.1".parse().unwrap();
        let node = |(name, state): &(&str, NodeState)| PoolNode {
            name: (*name).to_owned(),
            addresses: Vec::new(),
            state: *state,
            weight: 100,
            joined: None,
        };
        let nodes = nodes.iter().map(node).collect();
        Pool { nodes, ..Pool::new("edge", vec![AddressRange { first: ip, last: ip }]) }
    }

    fn model(pool: Pool) -> Model {
        let mut model = Model::default();
        model.edge.pools.push(pool);
        model
    }

    #[tokio::test]
    async fn in_a_folder_the_first_node_that_is_up_announces() {
        use NodeState::{Active, Draining};
        let edge = || BTreeSet::from(["edge".to_owned()]);
        let mut b = Announcers::start(Agreement::Order, "b");
        b.follow(&model(pool(&[])));
        b.changed().await;
        assert_eq!(b.announced(), edge(), "alone");
        b.follow(&model(pool(&[("a", Active), ("b", Active)])));
        b.changed().await;
        assert_eq!(b.announced(), BTreeSet::new());
        assert_eq!(b.holders()["edge"], "a");
        b.notice(BTreeSet::from(["a".to_owned()]));
        b.changed().await;
        assert_eq!(b.announced(), edge());
        b.notice(BTreeSet::new());
        b.changed().await;
        b.follow(&model(pool(&[("a", Draining), ("b", Active)])));
        b.changed().await;
        assert_eq!(b.announced(), edge(), "who drains gives it away");
        b.follow(&model(Pool { announce: Announce::None, ..pool(&[]) }));
        b.changed().await;
        assert_eq!(b.announced(), BTreeSet::new());
    }

    #[test]
    fn a_node_that_drains_may_announce_only_when_nobody_else_can() {
        use NodeState::{Active, Draining};
        for (nodes, expected) in [
            (vec![], true),
            (vec![("me", Active)], true),
            (vec![("me", Draining)], true),
            (vec![("me", Draining), ("other", Active)], false),
            (vec![("me", Draining), ("other", Draining)], true),
            (vec![("other", Active)], false),
        ] {
            assert_eq!(seat(&pool(&nodes), "me").is_eligible, expected, "{nodes:?}");
        }
    }
}
