//! Sockets into slots of the SOCKMAP, and closed ones out of the shadow map.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use aya::maps::MapError;
use ingress_common::maps::{SLOTS, SlotVal, WorkerLoad};
use tracing::warn;

use super::{Run, Slots, SlotsError};
use crate::bpf::maps::Maps;
use crate::bpf::sync;
use crate::link::messages::HandedSocket;

/// `BPF_NOEXIST`: only into an empty slot.
const ONLY_IF_EMPTY: u64 = 1;

/// A socket of a run, for the map.
struct Member<'a>(&'a OwnedFd);

impl AsRawFd for Member<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Slots {
    /// Finds the slots of these sockets if they are in place already, else puts them in free ones.
    pub(super) fn place(
        &self,
        maps: &mut Maps,
        pid: u32,
        listener: &str,
        members: &[HandedSocket],
    ) -> Result<Run, SlotsError> {
        let cookies = members.iter().map(|m| cookie(&m.socket)).collect::<Result<Vec<_>, _>>()?;
        let wanted = u32::try_from(cookies.len()).unwrap_or(SLOTS + 1);
        let about = members.first().map(|member| &member.about);
        let port = about.map_or(0, |about| about.bound.port());
        let is_udp = about.is_some_and(|about| about.is_udp);
        let run = |first| Run { first, slots: wanted, port, is_udp };
        let shadow = sync::read_array(&maps.slots, "slots")?;
        if let Some(first) = find_run(&shadow, &cookies) {
            return Ok(run(first));
        }
        let mut from = 0;
        while let Some(first) = free_run(&shadow, wanted, from) {
            match self.fill(maps, pid, first, members, &cookies) {
                Ok(()) => return Ok(run(first)),
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
            maps.assigned.set(slot, WorkerLoad::default(), 0)?;
        }
        Ok(())
    }

    /// Frees the slots whose socket is closed. The kernel does not show what a slot holds, but refuses to fill one that
    /// is taken: a socket of the new hand-over serves as the probe, and leaves at once.
    pub(super) fn reclaim(&mut self, maps: &mut Maps, sockets: &[HandedSocket]) -> Result<(), SlotsError> {
        let Some(probe) = sockets.first() else { return Ok(()) };
        let serving: Vec<Run> = self.serving().values().copied().collect();
        let mut freed = BTreeSet::new();
        for slot in sync::read_array(&maps.slots, "slots")?.into_keys() {
            let in_use = serving.iter().any(|run| slots_of(run).contains(&slot));
            if !in_use && maps.socks.set(slot, &Member(&probe.socket), ONLY_IF_EMPTY).is_ok() {
                free(maps, slot);
                freed.insert(slot);
            }
        }
        // Nobody may point at slots that others will fill.
        let is_freed = |run: &Run| slots_of(run).any(|slot| freed.contains(&slot));
        self.orphaned.retain(|_, run| !is_freed(run));
        self.left.retain(|_, run| !is_freed(run));
        for proxy in self.proxies.values_mut() {
            proxy.runs.retain(|_, run| !is_freed(run));
        }
        Ok(())
    }
}

/// The slots of a run.
fn slots_of(run: &Run) -> Range<u32> {
    run.first..run.first + run.slots
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
pub(super) fn find_run(shadow: &BTreeMap<u32, SlotVal>, cookies: &[u64]) -> Option<u32> {
    let first =
        shadow.iter().find(|(_, slot)| Some(&slot.cookie) == cookies.first()).map(|(slot, _)| *slot)?;
    let same =
        (first..).zip(cookies).all(|(slot, cookie)| shadow.get(&slot).is_some_and(|s| s.cookie == *cookie));
    same.then_some(first)
}

/// The first run of free slots at or after `from`.
pub(super) fn free_run(shadow: &BTreeMap<u32, SlotVal>, wanted: u32, from: u32) -> Option<u32> {
    let mut first = from;
    for taken in shadow.range(from..).map(|(slot, _)| *slot).chain([SLOTS]) {
        if taken.saturating_sub(first) >= wanted {
            return Some(first);
        }
        first = taken + 1;
    }
    None
}
