//! Handed-over listening sockets → slots of the SOCKMAP, and which of them serve.
//!
//! Each proxy's sockets of one listener and family stand in a run of slots of their own, beside those of an older or
//! newer proxy. `listen` points at the run of one proxy: the newest that is ready and not draining. It is changed only
//! once that proxy's sockets are in, and the old proxy accepts what it was given until it closes.
//!
//! The kernel takes a closed socket out of its slot by itself. That is why descriptors are never kept here: a duplicate
//! would keep a dead proxy's socket open, and clients would wait in its queue for ever.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use aya::maps::MapError;
use ingress_common::flow::ip_of;
use ingress_common::maps::{ListenVal, SLOTS, SlotVal, VipKey};
use tracing::{debug, warn};

use super::maps::{Maps, MapsError};
use super::sync::{self, Synced};
use crate::link::ProxyId;
use crate::link::messages::HandedSocket;
use crate::model::listener::{Listener, ListenerName};

/// `BPF_NOEXIST`: only into an empty slot.
const ONLY_IF_EMPTY: u64 = 1;

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
    /// Loopback port of the SO_REUSEPORT group.
    pub port: u16,
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
    handover: u32,
}

/// A socket of a run, for the map.
struct Member<'a>(&'a OwnedFd);

impl AsRawFd for Member<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Slots {
    /// Takes over what an earlier agent left in `listen`: its sockets may still be open in a living proxy.
    pub fn adopt(maps: &Maps, listeners: &[Listener]) -> Result<Self, MapsError> {
        let mut orphaned = Runs::new();
        for (key, value) in sync::read_hash(&maps.listen, "listen")? {
            let Some(listener) =
                listeners.iter().find(|listener| listener.port == key.port && !listener.protocol.is_udp())
            else {
                continue;
            };
            let family = Family::of(ip_of(&key.addr));
            let run = Run { first: value.first_slot, slots: value.slots, port: value.port };
            orphaned.insert((listener.name.0.clone(), family), run);
        }
        let handover = sync::read_array(&maps.slots, "slots")?.values().map(|slot| slot.handover).max();
        Ok(Self { orphaned, handover: handover.unwrap_or(0), ..Self::default() })
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

    /// Where new connections go: the newest proxy that is ready and not draining, else the newest that drains (it still
    /// accepts until it closes), else what is left of an earlier one.
    pub fn serving(&self) -> &Runs {
        match self.serving_proxy().and_then(|id| self.proxies.get(&id)) {
            Some(proxy) => &proxy.runs,
            None => &self.orphaned,
        }
    }

    fn serving_proxy(&self) -> Option<ProxyId> {
        let ready =
            || self.proxies.iter().filter(|(_, proxy)| proxy.is_ready && !proxy.runs.is_empty()).rev();
        ready().find(|(_, proxy)| !proxy.is_draining).or_else(|| ready().next()).map(|(id, _)| *id)
    }

    /// Drops runs that no socket listens for any more: of a process that was killed.
    pub fn drop_dead(&mut self, is_listening: impl Fn(Family, u16) -> bool) {
        if self.serving_proxy().is_some() {
            self.orphaned.clear();
        }
        self.orphaned.retain(|(listener, family), run| {
            let alive = is_listening(*family, run.port);
            if !alive {
                debug!(listener, ?family, port = run.port, "sockets of an earlier proxy are closed");
            }
            alive
        });
    }

    /// Port of the SO_REUSEPORT group of each listener, for the next proxy to join.
    pub fn group_ports(&self) -> BTreeMap<String, u16> {
        // IPv4 and IPv6 sockets of a listener share the number.
        self.serving().iter().map(|((listener, _), run)| (listener.clone(), run.port)).collect()
    }

    /// Points `listen` at the sockets that serve.
    pub fn publish(
        &self,
        maps: &mut Maps,
        wanted: &BTreeMap<VipKey, ListenerName>,
    ) -> Result<Synced, MapsError> {
        sync::apply_hash(&mut maps.listen, "listen", &listen_entries(self.serving(), wanted))
    }

    /// Finds the slots of these sockets if they are in place already, else puts them in free ones.
    fn place(
        &self,
        maps: &mut Maps,
        pid: u32,
        listener: &str,
        members: &[HandedSocket],
    ) -> Result<Run, SlotsError> {
        let cookies = members.iter().map(|m| cookie(&m.socket)).collect::<Result<Vec<_>, _>>()?;
        let wanted = u32::try_from(cookies.len()).unwrap_or(SLOTS + 1);
        let port = members.first().map_or(0, |member| member.about.bound.port());
        let shadow = sync::read_array(&maps.slots, "slots")?;
        if let Some(first) = find_run(&shadow, &cookies) {
            return Ok(Run { first, slots: wanted, port });
        }
        let mut from = 0;
        while let Some(first) = free_run(&shadow, wanted, from) {
            match self.fill(maps, pid, first, members, &cookies) {
                Ok(()) => return Ok(Run { first, slots: wanted, port }),
                // The shadow said free, the kernel knows better: a socket of which nobody took note.
                Err(error) if is_taken(&error) => from = first + 1,
                Err(source) => return Err(SlotsError::Refused { listener: listener.to_owned(), source }),
            }
        }
        Err(SlotsError::Full { listener: listener.to_owned(), wanted })
    }

    fn fill(
        &self,
        maps: &mut Maps,
        pid: u32,
        first: u32,
        members: &[HandedSocket],
        cookies: &[u64],
    ) -> Result<(), MapError> {
        for ((slot, member), cookie) in (first..).zip(members).zip(cookies) {
            if let Err(error) = maps.socks.set(slot, &Member(&member.socket), ONLY_IF_EMPTY) {
                for slot in first..slot {
                    free(maps, slot);
                }
                return Err(error);
            }
            maps.slots.set(slot, SlotVal { cookie: *cookie, pid, handover: self.handover }, 0)?;
        }
        Ok(())
    }

    /// Frees the slots whose socket is closed. The kernel does not show what a slot holds, but refuses to fill one that
    /// is taken: a socket of the new hand-over serves as the probe, and leaves at once.
    fn reclaim(&self, maps: &mut Maps, sockets: &[HandedSocket]) -> Result<(), SlotsError> {
        let Some(probe) = sockets.first() else { return Ok(()) };
        let serving = self.serving();
        let in_use =
            |slot: u32| serving.values().any(|run| (run.first..run.first + run.slots).contains(&slot));
        for slot in sync::read_array(&maps.slots, "slots")?.into_keys() {
            if !in_use(slot) && maps.socks.set(slot, &Member(&probe.socket), ONLY_IF_EMPTY).is_ok() {
                free(maps, slot);
            }
        }
        Ok(())
    }
}

/// Empties a slot.
fn free(maps: &mut Maps, slot: u32) {
    // An error means that the socket is closed, and the slot empty.
    let _ = maps.socks.clear_index(&slot);
    if let Err(error) = maps.slots.set(slot, SlotVal::default(), 0) {
        warn!(slot, %error, "slot cannot be marked as free");
    }
}

fn is_taken(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EEXIST))
}

fn cookie(socket: &OwnedFd) -> Result<u64, SlotsError> {
    rustix::net::sockopt::socket_cookie(socket.as_fd()).map_err(|error| SlotsError::NoSocket(error.into()))
}

/// The run whose slots hold exactly these sockets, in this order.
fn find_run(shadow: &BTreeMap<u32, SlotVal>, cookies: &[u64]) -> Option<u32> {
    let first =
        shadow.iter().find(|(_, slot)| Some(&slot.cookie) == cookies.first()).map(|(slot, _)| *slot)?;
    let same =
        (first..).zip(cookies).all(|(slot, cookie)| shadow.get(&slot).is_some_and(|s| s.cookie == *cookie));
    same.then_some(first)
}

/// The first run of free slots at or after `from`.
fn free_run(shadow: &BTreeMap<u32, SlotVal>, wanted: u32, from: u32) -> Option<u32> {
    let mut first = from;
    for taken in shadow.range(from..).map(|(slot, _)| *slot).chain([SLOTS]) {
        if taken.saturating_sub(first) >= wanted {
            return Some(first);
        }
        first = taken + 1;
    }
    None
}

/// Every served address and port with the sockets of its listener and family.
fn listen_entries(runs: &Runs, wanted: &BTreeMap<VipKey, ListenerName>) -> BTreeMap<VipKey, ListenVal> {
    let entry = |(key, listener): (&VipKey, &ListenerName)| {
        let run = runs.get(&(listener.0.clone(), Family::of(ip_of(&key.addr))))?;
        Some((*key, ListenVal { first_slot: run.first, slots: run.slots, port: run.port, pad: 0 }))
    };
    wanted.iter().filter_map(entry).collect()
}

/// Whether any socket listens on this loopback port, as `/proc/net/tcp` of this network namespace says.
pub fn is_listening(family: Family, port: u16) -> bool {
    let (path, loopback) = match family {
        Family::V4 => ("/proc/self/net/tcp", "0100007F"),
        Family::V6 => ("/proc/self/net/tcp6", "00000000000000000000000001000000"),
    };
    let wanted = format!("{loopback}:{port:04X}");
    std::fs::read_to_string(path).is_ok_and(|table| {
        table.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            // Local address, remote address, state; 0A is LISTEN.
            fields.next() == Some(&wanted) && fields.nth(1) == Some("0A")
        })
    })
}

#[cfg(test)]
mod tests;
