//! What the ring buffer `events` holds: one record for a packet that was dropped.
//!
//! Only drops are told, and of these at most [`RATE`] per CPU: a flood shows itself by its first packets, and the counters
//! say how large it is. The record has no padding, so that the kernel writes every byte of it.

use crate::bucket;
use crate::flow::Addr;
use crate::maps::Limit;
use crate::verdict::{Action, Reason};

/// How many records each CPU writes: 100 per second, of which 200 at once.
pub const RATE: Limit = bucket::units(100, 200);

/// A packet that was dropped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Monotonic clock, in steps of some milliseconds.
    pub time_ns: u64,
    /// Who sent it.
    pub source: Addr,
    /// The served address, by its number in `vips`; 0: none.
    pub vip_id: u32,
    /// Drops that this CPU did not tell of since it last told of one.
    pub untold: u32,
    /// The interface that it came in by.
    pub interface: u32,
    /// Its bytes, the Ethernet header included.
    pub bytes: u32,
    /// Number of the [`Reason`].
    pub reason: u16,
    /// Port of the sender; 0: it has none.
    pub source_port: u16,
    /// Port that it is for; 0: it has none.
    pub port: u16,
    /// Protocol of the flow; 0: it has no ports.
    pub proto: u16,
}
const _: () = assert!(size_of::<Event>() == 8 + 16 + 4 * 4 + 4 * 2);

/// Value of `event_rate`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventRate {
    /// Theoretical arrival time of the next record.
    pub tat: u64,
    /// Drops that were not told of since the last record.
    pub untold: u64,
    /// Records written since the map was made.
    pub told: u64,
    /// Drops that were not told of since the map was made.
    pub untold_ever: u64,
}
const _: () = assert!(size_of::<EventRate>() == 4 * 8);

impl Event {
    /// Reads a record; `None`: it is cut short.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (time_ns, rest) = bytes.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (words, rest) = rest.split_first_chunk::<16>()?;
        let (halves, _) = rest.split_first_chunk::<8>()?;
        let (words, _) = words.as_chunks::<4>();
        let (halves, _) = halves.as_chunks::<2>();
        let &[vip_id, untold, interface, bytes] = words else { return None };
        let &[reason, source_port, port, proto] = halves else { return None };
        Some(Self {
            time_ns: u64::from_ne_bytes(*time_ns),
            source: *source,
            vip_id: u32::from_ne_bytes(vip_id),
            untold: u32::from_ne_bytes(untold),
            interface: u32::from_ne_bytes(interface),
            bytes: u32::from_ne_bytes(bytes),
            reason: u16::from_ne_bytes(reason),
            source_port: u16::from_ne_bytes(source_port),
            port: u16::from_ne_bytes(port),
            proto: u16::from_ne_bytes(proto),
        })
    }

    /// Why it was dropped; `None`: a reason that this version does not know.
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.reason)).copied()
    }
}

/// Whether a packet with this verdict is told of. The answers to our own probes end in the program by design.
#[inline(always)]
pub const fn is_told(reason: Reason) -> bool {
    matches!(reason.action(), Action::Drop) && !matches!(reason, Reason::ProbeReturned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_the_kernel_lays_it_out() {
        let mut bytes = [0_u8; 48];
        bytes[..8].copy_from_slice(&7_u64.to_ne_bytes());
        bytes[8..24].copy_from_slice(&crate::flow::v4_mapped([198, 18, 0, 66]));
        bytes[24..28].copy_from_slice(&3_u32.to_ne_bytes());
        bytes[36..40].copy_from_slice(&60_u32.to_ne_bytes());
        bytes[40..42].copy_from_slice(&(Reason::Denied as u16).to_ne_bytes());
        bytes[44..46].copy_from_slice(&80_u16.to_ne_bytes());
        let event = Event::read(&bytes).expect("a whole record");
        assert_eq!((event.time_ns, event.vip_id, event.bytes, event.port), (7, 3, 60, 80));
        assert_eq!(event.reason(), Some(Reason::Denied));
        assert_eq!(Event::read(&bytes[..47]), None, "a record that is cut short");
    }

    #[test]
    fn nothing_that_passes_is_told() {
        for reason in Reason::ALL {
            assert!(!is_told(reason) || reason.action() == Action::Drop, "{reason:?}");
        }
        assert!(is_told(Reason::Denied) && is_told(Reason::OverLimit) && is_told(Reason::Unreachable));
    }
}
