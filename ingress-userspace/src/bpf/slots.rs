//! Handed-over sockets → slots of the SOCKMAP, and which of them serve.
//!
//! Each proxy's sockets of one listener and family stand in a run of slots of their own, beside those of an older or
//! newer proxy. `listen` points at the run of one proxy, the newest that is ready and not draining, and names that of
//! the next best as the spare, for the moment in which the first is killed. It is changed only once a proxy's sockets
//! are in, and the old proxy accepts what it was given until it closes; what waits then is moved (`migration`).
//!
//! The kernel takes a closed socket out of its slot by itself. That is why descriptors are never kept here: a duplicate
//! would keep a dead proxy's socket open, and clients would wait in its queue for ever.

pub mod listening;
pub mod migration;
mod place;

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::MapError;
use ingress_common::flow::{UDP, ip_of};
use ingress_common::maps::{GroupKey, GroupVal, ListenVal, SLOTS, VipKey, WorkerLoad};
use tracing::debug;

use super::maps::{Maps, MapsError};
use super::sync::{self, Synced};
use crate::link::ProxyId;
use crate::link::messages::HandedSocket;
use crate::model::listener::{Listener, ListenerName};
use migration::Migration;

/// The address family of a run of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Where the sockets of one listener and family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First slot.
    pub first: u32,
    /// Number of slots.
    pub slots: u32,
    /// Port of the SO_REUSEPORT group.
    pub port: u16,
    /// Whether they receive datagrams.
    pub is_udp: bool,
}

/// The runs of one proxy, by listener name and family.
pub type Runs = BTreeMap<(String, Family), Run>;

/// Why sockets could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// No room.
    #[error(
        "no {wanted} free slots in a row for the sockets of listener {listener}; {SLOTS} exist in all, use fewer --workers"
    )]
    Full {
        /// Whose.
        listener: String,
        /// How many sockets.
        wanted: u32,
    },
    /// A descriptor that is no socket.
    #[error("the proxy handed over something that is no socket")]
    NoSocket(#[source] std::io::Error),
    /// The kernel refused a socket.
    #[error("the kernel refused the socket of listener {listener}; it must listen")]
    Refused {
        /// Whose.
        listener: String,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

#[derive(Debug, Default)]
struct Proxy {
    runs: Runs,
    is_ready: bool,
    is_draining: bool,
}

/// The proxies of this agent and where their sockets are.
#[derive(Debug, Default)]
pub struct Slots {
    proxies: BTreeMap<ProxyId, Proxy>,
    /// What `listen` points at when no proxy of ours serves: adopted from an earlier agent, or of a proxy whose
    /// connection to us ended while its sockets may live on.
    orphaned: Runs,
    /// The same once a proxy of ours serves: sockets that may be open or not, good as a spare and for nothing else.
    left: Runs,
    handover: u32,
    migration: Migration,
}

impl Slots {
    /// Takes over what an earlier agent left in `listen`: its sockets may still be open in a living proxy.
    pub fn adopt(maps: &Maps, listeners: &[Listener], migration: Migration) -> Result<Self, MapsError> {
        let mut orphaned = Runs::new();
        for (key, value) in sync::read_hash(&maps.listen, "listen")? {
            let is_udp = key.proto == UDP;
            let is_its =
                |listener: &&Listener| listener.port == key.port && listener.protocol.is_udp() == is_udp;
            let Some(listener) = listeners.iter().find(is_its) else { continue };
            let family = Family::of(ip_of(&key.addr));
            let run = Run { first: value.first_slot, slots: value.slots, port: value.port, is_udp };
            orphaned.insert((listener.name.0.clone(), family), run);
        }
        let handover = sync::read_array(&maps.slots, "slots")?.values().map(|slot| slot.handover).max();
        Ok(Self { orphaned, handover: handover.unwrap_or(0), migration, ..Self::default() })
    }

    /// The proxies of a predecessor within this process, whose sockets moved to new maps and kept their slots.
    pub fn succeed(&mut self, before: Self) {
        let migration = std::mem::take(&mut self.migration);
        *self = Self { migration, ..before };
    }

    /// The sockets of a proxy: into slots. An earlier hand-over of the same connection is replaced.
    pub fn take(
        &mut self,
        maps: &mut Maps,
        id: ProxyId,
        pid: u32,
        sockets: Vec<HandedSocket>,
    ) -> Result<(), SlotsError> {
        self.handover = self.handover.wrapping_add(1);
        self.reclaim(maps, &sockets)?;
        let mut groups: BTreeMap<(String, Family), Vec<HandedSocket>> = BTreeMap::new();
        for socket in sockets {
            let family = Family::of(socket.about.bound.ip());
            groups.entry((socket.about.listener.clone(), family)).or_default().push(socket);
        }
        let mut runs = Runs::new();
        for ((listener, family), mut members) in groups {
            members.sort_by_key(|member| member.about.worker);
            let run = self.place(maps, pid, &listener, &members)?;
            if let Some(member) = members.first().filter(|_| !run.is_udp) {
                self.migration.cover(&member.socket, &listener);
            }
            debug!(proxy = %id, listener, ?family, first = run.first, slots = run.slots, "sockets in place");
            runs.insert((listener, family), run);
        }
        self.proxies.entry(id).or_default().runs = runs;
        Ok(())
    }

    /// The proxy has compiled a model and can answer.
    pub fn mark_ready(&mut self, id: ProxyId) {
        self.proxies.entry(id).or_default().is_ready = true;
    }

    /// New connections go to another proxy from now on, if there is one.
    pub fn mark_draining(&mut self, id: ProxyId) {
        self.proxies.entry(id).or_default().is_draining = true;
    }

    /// The proxy closes its sockets, and takes no new connections from this moment.
    pub fn mark_closed(&mut self, id: ProxyId) {
        if let Some(proxy) = self.proxies.get_mut(&id) {
            proxy.is_draining = true;
            proxy.runs.clear();
        }
    }

    /// The proxy's connection ended. Its sockets may live: they keep serving if nobody else can.
    pub fn forget(&mut self, id: ProxyId) {
        let serving = self.serving_proxy() == Some(id);
        if let Some(proxy) = self.proxies.remove(&id)
            && serving
            && self.serving_proxy().is_none()
        {
            self.orphaned = proxy.runs;
        }
    }

    /// Whether a proxy that is connected serves.
    pub fn has_serving_proxy(&self) -> bool {
        self.serving_proxy().is_some()
    }

    /// Where new connections go: the best of those that can take them; empty: nobody.
    pub fn serving(&self) -> &Runs {
        self.ranked().next().unwrap_or(&self.orphaned)
    }

    /// The runs that take new connections, best first: of the newest proxy that is ready and not draining, then of those
    /// that drain (they still accept until they close), then of an earlier one.
    fn ranked(&self) -> impl Iterator<Item = &Runs> {
        let of = |proxies: Vec<ProxyId>| {
            proxies.into_iter().filter_map(|id| self.proxies.get(&id)).map(|proxy| &proxy.runs)
        };
        of(self.ranked_proxies()).chain([&self.orphaned])
    }

    fn ranked_proxies(&self) -> Vec<ProxyId> {
        let ready = |is_draining: bool| {
            let all = self.proxies.iter().rev();
            all.filter(move |(_, proxy)| {
                proxy.is_ready && !proxy.runs.is_empty() && proxy.is_draining == is_draining
            })
        };
        ready(false).chain(ready(true)).map(|(id, _)| *id).collect()
    }

    fn serving_proxy(&self) -> Option<ProxyId> {
        self.ranked_proxies().first().copied()
    }

    /// The same, and what can at least be tried after them.
    fn with_spare(&self) -> Vec<&Runs> {
        self.ranked().chain([&self.left]).collect()
    }

    /// Drops runs that no socket listens for any more: of a process that was killed.
    pub fn drop_dead(&mut self, is_listening: impl Fn(Family, &Run) -> bool) {
        if self.serving_proxy().is_some() {
            // As long as a socket of the group is open, nobody can tell whose it is.
            self.left.append(&mut self.orphaned);
            let connected: Vec<Run> =
                self.proxies.values().flat_map(|proxy| proxy.runs.values().copied()).collect();
            self.left.retain(|(_, family), run| !connected.contains(run) && is_listening(*family, run));
        }
        self.orphaned.retain(|(listener, family), run| {
            let alive = is_listening(*family, run);
            if !alive {
                debug!(listener, ?family, port = run.port, "sockets of an earlier proxy are closed");
            }
            alive
        });
    }

    /// Port of the SO_REUSEPORT group of each listener, for the next proxy to join.
    pub fn group_ports(&self) -> BTreeMap<String, u16> {
        let mut ports = BTreeMap::new();
        // IPv4 and IPv6 sockets of a listener share the number.
        for ((listener, _), run) in self.with_spare().into_iter().flatten() {
            ports.entry(listener.clone()).or_insert(run.port);
        }
        ports
    }

    /// Points `listen` at the sockets that serve, and `groups` at the heirs of those that close.
    pub fn publish(
        &self,
        maps: &mut Maps,
        wanted: &BTreeMap<VipKey, ListenerName>,
    ) -> Result<Synced, MapsError> {
        let ranked = self.with_spare();
        // Before `listen`: who is pointed at from then on may close at once.
        let mut synced = sync::apply_hash(&mut maps.groups, "groups", &group_entries(&ranked))?;
        synced.merge(sync::apply_hash(&mut maps.listen, "listen", &listen_entries(&ranked, wanted))?);
        Ok(synced)
    }

    /// What a proxy says of its workers: how many connections each has open.
    pub fn publish_loads(&self, maps: &mut Maps, id: ProxyId, open: &[u32]) -> Result<(), MapsError> {
        let Some(proxy) = self.proxies.get(&id) else { return Ok(()) };
        for run in proxy.runs.values().filter(|run| !run.is_udp) {
            for (slot, published) in (run.first..run.first + run.slots).zip(open) {
                let load = WorkerLoad { published: *published, assigned: 0 };
                maps.assigned.set(slot, load, 0).map_err(MapsError::of("assigned"))?;
            }
        }
        Ok(())
    }
}

/// Every served address and port with the sockets of its listener and family, and the second best.
fn listen_entries(ranked: &[&Runs], wanted: &BTreeMap<VipKey, ListenerName>) -> BTreeMap<VipKey, ListenVal> {
    let entry = |(key, listener): (&VipKey, &ListenerName)| {
        let of = (listener.0.clone(), Family::of(ip_of(&key.addr)));
        let mut runs = ranked.iter().filter_map(|runs| runs.get(&of));
        let run = runs.next()?;
        let (spare_slot, spare_slots) = runs.next().map_or((0, 0), |spare| (spare.first, spare.slots));
        let (first_slot, slots, port) = (run.first, run.slots, run.port);
        Some((*key, ListenVal { first_slot, slots, spare_slot, spare_slots, port, pad: 0 }))
    };
    wanted.iter().filter_map(entry).collect()
}

/// Every group with the best of its runs.
fn group_entries(ranked: &[&Runs]) -> BTreeMap<GroupKey, GroupVal> {
    let mut groups = BTreeMap::new();
    for ((_, family), run) in ranked.iter().copied().flatten().filter(|(_, run)| !run.is_udp) {
        let family = if *family == Family::V4 { 4 } else { 6 };
        let heirs = GroupVal { first_slot: run.first, slots: run.slots };
        groups.entry(GroupKey { port: run.port, family }).or_insert(heirs);
    }
    groups
}

#[cfg(test)]
mod tests;
