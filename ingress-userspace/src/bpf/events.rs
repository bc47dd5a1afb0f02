//! The ring buffer of dropped packets, read by one process at a time: records are taken out, and two readers would each
//! move the other's place in it. A lock on the folder of the maps says who it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, RingBuf};
use ingress_common::event::Event;
use ingress_common::flow::{TCP, UDP, ip_of};
use ingress_common::maps::{Meta, VipKey, VipVal};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::FlockOperation;

use super::clock::now_ns;
use super::interfaces::interfaces;
use super::maps::{MapsError, open};
use super::netlink::NetlinkError;
use super::pins::Pins;
use super::sync;
use crate::telemetry::drops::Dropped;

/// More records than a quarter of the ring are left to the next look.
const AT_ONCE: usize = 4_096;

/// The one who reads.
pub struct EventReader {
    ring: RingBuf<MapData>,
    meta: Array<MapData, Meta>,
    epoch: u64,
    pins: Pins,
    /// Held as long as this reads.
    _lock: File,
}

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventReader").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Why dropped packets cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The lock.
    #[error("cannot lock the folder of the maps")]
    Lock(#[source] std::io::Error),
    /// Interfaces.
    #[error(transparent)]
    Interfaces(#[from] NetlinkError),
}

impl EventReader {
    /// Begins to read; `None` while another process does.
    pub fn open(bpffs: &Path) -> Result<Option<Self>, EventsError> {
        let pins = Pins::new(bpffs);
        let meta: Array<MapData, Meta> = open(&pins, "meta")?;
        let lock = File::open(pins.maps()).map_err(EventsError::Lock)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(EventsError::Lock(error.into())),
        }
        let ring = open(&pins, "events")?;
        let epoch = meta.get(&0, 0).map_err(MapsError::of("meta"))?.epoch;
        Ok(Some(Self { ring, meta, epoch, pins, _lock: lock }))
    }

    /// Whether another agent has started since, who is to read from now on.
    pub fn is_superseded(&self) -> bool {
        self.meta.get(&0, 0).map_or(true, |meta| meta.epoch != self.epoch)
    }

    /// The records that came since the last look.
    pub async fn read(&mut self) -> Result<Vec<Dropped>, EventsError> {
        let mut events = Vec::new();
        while events.len() < AT_ONCE
            && let Some(record) = self.ring.next()
        {
            events.extend(Event::read(&record));
        }
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let names = Names::read(&self.pins).await?;
        let (now, clock) = (Timestamp::now(), now_ns());
        Ok(events.iter().map(|event| names.describe(event, now, clock)).collect())
    }
}

/// What the numbers in a record stand for.
struct Names {
    addresses: BTreeMap<u32, IpAddr>,
    interfaces: BTreeMap<u32, String>,
}

impl Names {
    async fn read(pins: &Pins) -> Result<Self, EventsError> {
        let vips: HashMap<MapData, VipKey, VipVal> = open(pins, "vips")?;
        let addresses = sync::read_hash(&vips, "vips")?;
        let interfaces = interfaces().await?;
        Ok(Self {
            addresses: addresses.into_iter().map(|(key, vip)| (vip.vip_id, ip_of(&key.addr))).collect(),
            interfaces: interfaces.into_iter().map(|interface| (interface.index, interface.name)).collect(),
        })
    }

    /// The record in words; `clock` is the clock of the kernel programs at `now`.
    fn describe(&self, event: &Event, now: Timestamp, clock: u64) -> Dropped {
        let age = SignedDuration::from_nanos(
            i64::try_from(clock.saturating_sub(event.time_ns)).unwrap_or(i64::MAX),
        );
        let interface = self.interfaces.get(&event.interface);
        let port = |port: u16| (port != 0).then_some(port);
        Dropped {
            time: now.checked_sub(age).unwrap_or(now),
            reason: event
                .reason()
                .map_or_else(|| event.reason.to_string(), |reason| reason.name().to_owned()),
            address: self.addresses.get(&event.vip_id).copied(),
            port: port(event.port),
            protocol: match u8::try_from(event.proto) {
                Ok(TCP) => Some("tcp".to_owned()),
                Ok(UDP) => Some("udp".to_owned()),
                _ => None,
            },
            source: ip_of(&event.source),
            source_port: port(event.source_port),
            interface: interface.cloned().unwrap_or_else(|| event.interface.to_string()),
            bytes: event.bytes,
            untold: event.untold,
        }
    }
}

#[cfg(test)]
mod tests {
    use ingress_common::flow::v4_mapped;
    use ingress_common::verdict::Reason;

    use super::*;

    #[test]
    fn a_record_is_told_in_words_and_by_the_clock_of_people() {
        let names = Names {
            addresses: BTreeMap::from([(3, IpAddr::from([198, 18, 100, 10]))]),
            interfaces: BTreeMap::from([(2, "eth0".to_owned())]),
        };
        let event = Event {
            time_ns: 5_000_000_000,
            source: v4_mapped([198, 18, 0, 66]),
            vip_id: 3,
            interface: 2,
            bytes: 74,
            reason: Reason::Denied as u16,
            source_port: 40_000,
            port: 80,
            proto: u16::from(TCP),
            untold: 9,
        };
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let told = names.describe(&event, now, 7_000_000_000);
        assert_eq!(told.time.to_string(), "2026-01-01T00:00:08Z");
        assert_eq!((told.reason.as_str(), told.interface.as_str()), ("denied", "eth0"));
        assert_eq!(told.address, Some(IpAddr::from([198, 18, 100, 10])));
        assert_eq!((told.port, told.protocol.as_deref(), told.untold), (Some(80), Some("tcp"), 9));

        let unknown = Event { vip_id: 9, reason: 999, interface: 7, proto: 0, port: 0, ..event };
        let told = names.describe(&unknown, now, 7_000_000_000);
        assert_eq!((told.address, told.port, told.protocol), (None, None, None));
        assert_eq!((told.reason.as_str(), told.interface.as_str()), ("999", "7"), "numbers stay readable");
    }
}
