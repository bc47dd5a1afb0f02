//! Who listens on served addresses, read from the pins: for `portcullis status`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use ingress_common::flow::{UDP, ip_of};
use ingress_common::maps::{ListenVal, LookupCount, SlotVal, VipKey, WorkerLoad};
use serde::Serialize;

use super::maps::{Maps, MapsError};
use super::{counters, sync};

/// A port, on all addresses where the same sockets serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortReport {
    /// The port; 0: every port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The served addresses.
    pub addresses: Vec<IpAddr>,
    /// Connections for these sockets that found none.
    pub missed: u64,
    /// The sockets that take new connections.
    pub sockets: Vec<SocketReport>,
    /// Those of the process beside, which takes over when the first one dies.
    pub beside: Vec<SocketReport>,
}

/// A listening socket. It may serve several ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SocketReport {
    /// Where it is in `socks`.
    pub slot: u32,
    /// Its process, as that process sees itself; `None`: the slot is empty.
    pub pid: Option<u32>,
    /// Connections that were open when the process last said so, and those that were handed to it since.
    pub open: u64,
    /// Connections handed to it, ever.
    pub handed_over: u64,
    /// Times that the kernel refused it.
    pub refused: u64,
    /// Connections that another one left in its queue when it closed.
    pub moved: u64,
}

/// What the sockets are judged by.
struct Slots {
    owners: BTreeMap<u32, SlotVal>,
    loads: BTreeMap<u32, WorkerLoad>,
    counts: BTreeMap<u32, LookupCount>,
}

/// The served ports, in order.
pub fn read(maps: &Maps) -> Result<Vec<PortReport>, MapsError> {
    let slots = Slots {
        owners: sync::read_array(&maps.slots, "slots")?,
        loads: sync::read_array(&maps.assigned, "assigned")?,
        counts: counters::lookups_by_slot(maps)?,
    };
    Ok(by_port(&sync::read_hash(&maps.listen, "listen")?, &slots))
}

fn by_port(listen: &BTreeMap<VipKey, ListenVal>, slots: &Slots) -> Vec<PortReport> {
    let mut ports: BTreeMap<(u16, u8, u32, u32), PortReport> = BTreeMap::new();
    for (key, value) in listen {
        let ranges = (value.first_slot, value.spare_slot);
        let port = ports.entry((key.port, key.proto, ranges.0, ranges.1)).or_insert_with(|| PortReport {
            port: key.port,
            protocol: if key.proto == UDP { "udp" } else { "tcp" },
            addresses: Vec::new(),
            missed: slots.counts.get(&value.first_slot).map_or(0, |count| count.misses),
            sockets: slots.of(value.first_slot..value.first_slot.saturating_add(value.slots)),
            beside: slots.of(value.spare_slot..value.spare_slot.saturating_add(value.spare_slots)),
        });
        port.addresses.push(ip_of(&key.addr));
    }
    let mut ports: Vec<PortReport> = ports.into_values().collect();
    for port in &mut ports {
        // What others may ask for comes first.
        port.addresses.sort_by_key(|address| (address.is_loopback(), *address));
    }
    ports
}

impl Slots {
    fn of(&self, range: Range<u32>) -> Vec<SocketReport> {
        let socket = |slot: u32| {
            let owner = self.owners.get(&slot).filter(|owner| owner.cookie != 0);
            let load = self.loads.get(&slot).copied().unwrap_or_default();
            let count = self.counts.get(&slot).copied().unwrap_or_default();
            SocketReport {
                slot,
                pid: owner.map(|owner| owner.pid),
                open: u64::from(load.published) + u64::from(load.assigned),
                handed_over: count.lookups,
                refused: count.errors,
                moved: count.moved,
            }
        };
        range.map(socket).collect()
    }
}

#[cfg(test)]
mod tests {
    use ingress_common::flow::{TCP, addr_of};

    use super::*;

    #[test]
    fn addresses_with_the_same_sockets_stand_together() {
        let key = |ip: &str, port| VipKey::served(addr_of(ip.parse().unwrap()), port, TCP);
        let value = |first_slot| ListenVal { first_slot, slots: 2, port: 4000, ..ListenVal::default() };
        let listen = BTreeMap::from([
            (key("198.18.100.1", 80), value(0)),
            (key("198.18.100.2", 80), value(0)),
            (key("198.18.100.1", 443), value(2)),
        ]);
        let slot = |pid| SlotVal { cookie: 7, pid, handover: 1 };
        let slots = Slots {
            owners: BTreeMap::from([(0, slot(10)), (1, slot(10)), (2, slot(10))]),
            loads: BTreeMap::from([(1, WorkerLoad { published: 3, assigned: 2 })]),
            counts: BTreeMap::from([
                (0, LookupCount { misses: 4, ..LookupCount::default() }),
                (1, LookupCount { lookups: 9, ..LookupCount::default() }),
            ]),
        };
        let ports = by_port(&listen, &slots);
        let [web, tls] = &ports[..] else { panic!("{ports:?}") };
        assert_eq!((web.port, web.addresses.len(), web.missed), (80, 2, 4));
        let second = SocketReport { slot: 1, pid: Some(10), open: 5, handed_over: 9, refused: 0, moved: 0 };
        assert_eq!(web.sockets[1], second);
        assert_eq!((tls.port, tls.sockets[0].pid, tls.sockets[1].pid), (443, Some(10), None));
    }
}
