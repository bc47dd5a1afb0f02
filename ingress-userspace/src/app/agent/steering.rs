//! The nodes of the pools: tables, the ways to them, and who answers.
//!
//! Every half second each node gets a probe through the tunnel, which its program answers by itself; one that has not
//! answered for [`SILENCE`] is passed over until it does. That changes no table: which nodes there are is said by the model.
//! The answer also says whether the agent of the node lives; one that does not leaves its VIPs to others.

mod numbers;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ingress_common::flow::addr_of;
use ingress_common::maps::{Cluster, NodeVal, RECENT_NS};
use ingress_common::tunnel::{Header, PORT};
use tracing::{error, info, warn};

use super::ipip::Ipip;
use super::state::NodeView;
use super::{Agent, last_model};
use crate::bpf::clock::now_ns;
use crate::bpf::hops::{Hop, hops};
use crate::bpf::kernel::Standing;
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::steering::{self, Nodes};
use crate::compile::maps::MapContents;
use crate::compile::rendezvous::{Candidate, table};
use crate::compile::steering::{Numbers, Steering, enter, plan};
use crate::error_chain::chain;
use crate::model::Model;
use numbers::pools_of;
use sockets::Sockets;

/// Between two probes of a node.
pub(super) const PROBE: Duration = Duration::from_millis(500);
/// A node that has not answered for this long takes no packets.
const SILENCE: Duration = Duration::from_millis(1600);
/// After such a gap between two answers the node at the other end may have taken this one for dead.
const GAP: Duration = Duration::from_millis(1200);
/// Probes between two looks at the ways to all nodes.
const LOOK_AT_WAYS: u32 = 20;
/// What the way between nodes is taken for while it is not known.
const ETHERNET_MTU: u16 = 1500;

/// What this process knows of the nodes.
#[derive(Default)]
pub(super) struct Peers {
    plan: Steering,
    /// The plan is that of a model, not the empty one of the start.
    is_planned: bool,
    ways: BTreeMap<IpAddr, Hop>,
    /// What is known of each node.
    known: BTreeMap<u16, Known>,
    /// What the tables in the kernel were made of, with their fingerprints.
    made: BTreeMap<u16, (Vec<Candidate>, u64)>,
    entered: Option<(Cluster, Nodes)>,
    sockets: Option<Sockets>,
    ticks: u32,
    /// The last answers came after a gap.
    was_apart: bool,
    ipip: Ipip,
}

/// Times are of the monotonic clock, in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Since when it is expected to answer.
    since_ns: u64,
    recent_until_ns: u64,
    /// It does not answer.
    pub(super) is_down: bool,
    /// Second since which that is so.
    pub(super) changed_at: i64,
    /// When its agent was last known to live; at first, when it had to show that.
    led_ns: u64,
    weight: u16,
}

impl Known {
    /// Connections that it should own may live elsewhere.
    pub(super) fn is_recent(&self) -> bool {
        self.recent_until_ns > now_ns()
    }
}

impl Peers {
    /// Whether this node shares a pool with others.
    pub(super) fn has_others(&self) -> bool {
        self.plan.me != 0
    }

    /// What is not steered, a sentence each.
    pub(super) fn refused(&self) -> &[String] {
        &self.plan.refused
    }

    /// What is known of the node of this name.
    pub(super) fn known_of(&self, name: &str) -> Option<&Known> {
        let (id, _) = self.plan.nodes.iter().find(|(_, node)| node.name == name)?;
        self.known.get(id)
    }

    /// The nodes, for people.
    pub(super) fn view(&self) -> Vec<NodeView> {
        let view = |(id, node): (&u16, &crate::compile::steering::Node)| {
            let known = self.known.get(id);
            let is_down = known.is_some_and(|known| known.is_down);
            let state = match (is_down, node.is_draining) {
                (true, _) => "down",
                (false, true) => "draining",
                (false, false) => "active",
            };
            let is_recent = known.is_some_and(Known::is_recent);
            NodeView { name: node.name.clone(), state, is_recent }
        };
        self.plan.nodes.iter().map(view).collect()
    }

    /// Fingerprints of the tables by pool: equal on nodes that agree.
    pub(super) fn fingerprints(&self) -> BTreeMap<String, u64> {
        let of = |(number, (_, fingerprint)): (&u16, &(Vec<Candidate>, u64))| {
            Some((self.plan.pools.get(number)?.clone(), *fingerprint))
        };
        self.made.iter().filter_map(of).collect()
    }

    /// Nodes without a living agent, which announce nothing; one that was not heard of yet has its time.
    fn without_agent(&self) -> BTreeSet<String> {
        let now = now_ns();
        let is_dead = |known: &Known| Duration::from_nanos(now.saturating_sub(known.led_ns)) >= SILENCE;
        let others = self.plan.nodes.iter().filter(|(id, _)| **id != self.plan.me);
        let dead = others.filter(|(id, _)| self.known.get(id).is_some_and(is_dead));
        dead.map(|(_, node)| node.name.clone()).collect()
    }

    /// Plans for a model. What an earlier process left in the kernel keeps its numbers.
    pub(super) fn follow(
        &mut self,
        model: &Model,
        node_name: &str,
        maps: &Maps,
        contents: &MapContents,
    ) -> Result<(), MapsError> {
        let numbers = if self.is_planned {
            Numbers::of(&self.plan)
        } else {
            Numbers { nodes: steering::numbers(maps)?, pools: pools_of(model, contents) }
        };
        let plan = plan(model, node_name, numbers);
        if plan != self.plan {
            for part in &plan.refused {
                warn!(part, "not steered");
            }
            let names: Vec<_> = plan.nodes.values().map(|node| node.name.as_str()).collect();
            info!(nodes = ?names, pools = ?plan.pools.values().collect::<Vec<_>>(), "nodes of the pools changed");
        }
        if self.is_planned && plan.is_ipip != self.plan.is_ipip {
            self.ipip.change(plan.is_ipip, now_ns());
        }
        self.know(&plan, maps)?;
        self.plan = plan;
        self.is_planned = true;
        Ok(())
    }

    fn know(&mut self, plan: &Steering, maps: &Maps) -> Result<(), MapsError> {
        let now = now_ns();
        let before = if self.is_planned { BTreeMap::new() } else { steering::read(maps)? };
        self.known.retain(|id, _| plan.nodes.contains_key(id));
        for (id, node) in &plan.nodes {
            let joined_long_ago = node.joined.is_some_and(|joined| {
                last_model::now().saturating_sub(joined) > (RECENT_NS / 1_000_000_000).cast_signed()
            });
            let recent_until_ns = match before.get(&u32::from(*id)) {
                Some(value) => value.recent_until_ns,
                // A node whose maps are new may have served before; this one cannot know.
                None if joined_long_ago && *id != plan.me => 0,
                None => now + RECENT_NS,
            };
            // Nothing is sent to a node that has not answered yet.
            let was_up = before.get(&u32::from(*id)).is_some_and(|value| value.flags & NodeVal::DOWN == 0);
            let is_down = *id != plan.me && !was_up;
            let changed_at = last_model::now();
            let fresh = Known {
                since_ns: now,
                recent_until_ns,
                is_down,
                changed_at,
                led_ns: now,
                weight: node.weight,
            };
            let known = self.known.entry(*id).or_insert(fresh);
            if known.weight != node.weight {
                (known.weight, known.recent_until_ns) = (node.weight, now + RECENT_NS);
            }
        }
        Ok(())
    }

    /// Enters the plan into what the other maps shall hold.
    pub(super) fn enter(&self, model: &Model, contents: &mut MapContents) {
        let mtu = self.ways.values().map(|hop| hop.mtu).filter(|mtu| *mtu > 0).min();
        enter(&self.plan, model, mtu.unwrap_or(ETHERNET_MTU), contents);
    }

    /// Brings nodes and tables in the kernel in line; before the addresses that refer to them.
    pub(super) fn apply(&mut self, maps: &mut Maps) -> Result<(), MapsError> {
        let nodes = self.desired();
        let cluster = self.cluster();
        if self.entered.as_ref() != Some(&(cluster, nodes.clone())) {
            steering::enter(maps, cluster, &nodes)?;
        }
        for (number, candidates) in &self.plan.tables {
            if self.made.get(number).is_none_or(|(made, _)| made != candidates) {
                let table = table(candidates);
                steering::replace(maps, *number, &table)?;
                self.made.insert(*number, (candidates.clone(), table.fingerprint));
            }
        }
        self.made.retain(|number, _| self.plan.tables.contains_key(number));
        if self.entered.as_ref() != Some(&(cluster, nodes.clone())) {
            steering::forget(maps, &nodes)?;
            self.entered = Some((cluster, nodes));
        }
        Ok(())
    }

    fn cluster(&self) -> Cluster {
        let me = self.plan.me.into();
        let Some(key) = self.plan.key else { return Cluster { me, ..Cluster::default() } };
        let keys = [key.current, key.previous.unwrap_or(0)];
        Cluster { seed: key.seed, keys, me, flags: self.ipip.flags(self.plan.is_ipip, now_ns()) }
    }

    fn desired(&self) -> Nodes {
        let mut nodes = Nodes::default();
        let Some(own) = self.plan.own() else { return nodes };
        for (id, node) in &self.plan.nodes {
            let id32 = u32::from(*id);
            for address in &node.addresses {
                nodes.peers.insert(addr_of(*address), id32);
            }
            let Some(end) = node.end(own) else { continue };
            let known = self.known.get(id);
            let mut flags = 0;
            if node.is_draining {
                flags |= NodeVal::DRAINING;
            }
            if known.is_some_and(|known| known.is_down) {
                flags |= NodeVal::DOWN;
            }
            let recent_until_ns = known.map_or(0, |known| known.recent_until_ns);
            let value = NodeVal { addr: addr_of(end), flags, recent_until_ns, ..NodeVal::default() };
            let own_end = own.addresses.iter().copied().find(|address| address.is_ipv4() == end.is_ipv4());
            let value = match self.ways.get(&end) {
                Some(hop) => NodeVal {
                    source: own_end.or(hop.source).map_or([0; 16], addr_of),
                    ifindex: hop.interface,
                    mac: hop.mac.unwrap_or_default(),
                    source_mac: hop.source_mac,
                    mtu: hop.mtu,
                    vlan: hop.vlan,
                    ..value
                },
                None => value,
            };
            nodes.nodes.insert(id32, value);
        }
        nodes
    }

    /// Asks how the other nodes are reached; whether that changed.
    pub(super) async fn look_at_ways(&mut self) -> bool {
        let Some(own) = self.plan.own() else { return false };
        let others = self.plan.nodes.iter().filter(|(id, _)| **id != self.plan.me);
        let ends: Vec<IpAddr> = others.filter_map(|(_, node)| node.end(own)).collect();
        match hops(&ends).await {
            Ok(ways) => {
                let is_new = ways != self.ways;
                self.ways = ways;
                is_new
            }
            Err(error) => {
                warn!(error = %chain(&error), "the ways to the other nodes could not be read");
                false
            }
        }
    }

    /// Probes every other node and judges by the answers; whether a node changed.
    pub(super) async fn probe(&mut self, maps: &Maps) -> bool {
        if !self.has_others() {
            self.sockets = None;
            return false;
        }
        self.ticks = self.ticks.wrapping_add(1);
        let lacks_way = self
            .desired()
            .nodes
            .iter()
            .any(|(id, node)| *id != u32::from(self.plan.me) && node.mac == [0; 6]);
        let cluster = self.cluster();
        let is_due = self.entered.as_ref().is_some_and(|(entered, _)| *entered != cluster);
        let has_news =
            is_due || (lacks_way || self.ticks.is_multiple_of(LOOK_AT_WAYS)) && self.look_at_ways().await;
        self.send();
        let ids: BTreeSet<u16> = self.plan.nodes.keys().copied().filter(|id| *id != self.plan.me).collect();
        match steering::seen(maps, &ids) {
            Ok(seen) => {
                for (id, seen) in &seen {
                    if let Some(known) = self.known.get_mut(id) {
                        let gap = Duration::from_nanos(seen.led_ns.saturating_sub(known.led_ns));
                        self.was_apart |= gap >= GAP;
                        known.led_ns = known.led_ns.max(seen.led_ns);
                    }
                }
                self.judge(&seen.into_iter().map(|(id, seen)| (id, seen.answered_ns)).collect()) || has_news
            }
            Err(error) => {
                error!(error = %chain(&error), "answers of other nodes could not be read");
                has_news
            }
        }
    }

    fn judge(&mut self, answered_ns: &BTreeMap<u16, u64>) -> bool {
        let now = now_ns();
        let mut has_changes = false;
        for (id, answered) in answered_ns {
            let (Some(known), Some(node)) = (self.known.get_mut(id), self.plan.nodes.get(id)) else {
                continue;
            };
            let silent = Duration::from_nanos(now.saturating_sub((*answered).max(known.since_ns)));
            let is_down = silent >= SILENCE || (known.is_down && *answered <= known.since_ns);
            if is_down == known.is_down {
                continue;
            }
            has_changes = true;
            (known.is_down, known.changed_at) = (is_down, last_model::now());
            if is_down {
                // Only an answer from after this counts.
                known.since_ns = now;
                warn!(node = node.name, "node does not answer, its flows go to the next candidates");
            } else {
                known.recent_until_ns = now + RECENT_NS;
                info!(node = node.name, "node answers again");
            }
        }
        has_changes
    }

    fn send(&mut self) {
        let Some(own) = self.plan.own() else { return };
        let sockets = self.sockets.get_or_insert_with(Sockets::open);
        let key = self.plan.key.map_or(0, |key| key.current);
        let [a, b, c, d, e, f, g, h] = key.to_be_bytes();
        let probe = [Header::VERSION, 0, Header::PROBE, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h];
        for (id, node) in &self.plan.nodes {
            let Some(end) = node.end(own).filter(|_| *id != self.plan.me) else { continue };
            let socket = if end.is_ipv4() { &sockets.v4 } else { &sockets.v6 };
            if let Some(socket) = socket {
                // What cannot be sent is not answered, which is what counts.
                let _ = socket.send_to(&probe, SocketAddr::new(end, PORT));
            }
        }
    }
}

impl Agent {
    /// Plans for the nodes of the model's pools.
    pub(super) async fn follow_nodes(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        let (maps, contents) = kernel.maps_and_contents();
        if let Err(error) = self.peers.follow(&self.model, &self.settings.node, maps, contents) {
            error!(error = %chain(&error), "the nodes of the pools could not be read from the kernel");
        }
        self.peers.look_at_ways().await;
    }

    /// Asks the other nodes whether they are there.
    pub(super) async fn probe(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        if kernel.standing() != Standing::Owner {
            return;
        }
        let was_apart = std::mem::take(&mut self.peers.was_apart);
        if self.peers.probe(kernel.maps_and_contents().0).await {
            self.apply();
            self.publish_state();
        }
        self.announcers.notice(self.peers.without_agent());
        if was_apart {
            // Others may have said that the addresses are theirs. They had the time between two probes to give them back.
            self.crier.repeat();
        }
    }
}
