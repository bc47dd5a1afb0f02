//! Tells of a dropped packet in the ring buffer `events`, as long as this CPU has not told of too many lately.
//!
//! A packet that passes never comes here. Nobody is woken by a record: who reads looks again several times a second.
#![expect(unsafe_code, reason = "per-CPU map values and a reserved record are reached through raw pointers")]

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use ingress_common::bucket;
use ingress_common::event::{Event, RATE};

use crate::maps::{EVENT_RATE, EVENTS_MAP};
use crate::packet::{Flow, addr};

/// Tells of this packet, or counts that it did not.
#[inline(always)]
pub(crate) fn tell(flow: &mut Flow, reason: u32, interface: u32, bytes: u64) {
    event_tell(flow, reason, interface, bytes);
}

/// A global function: the verifier checks it once, with any flow.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn event_tell(flow: *mut Flow, reason: u32, interface: u32, bytes: u64) -> u32 {
    // SAFETY: the verifier checks that callers pass a whole flow, or none.
    let Some(flow) = (unsafe { flow.as_mut() }) else { return 0 };
    let Some(rate) = EVENT_RATE.get_ptr_mut(0) else { return 0 };
    // SAFETY: a checked map value of this CPU.
    let rate = unsafe { &mut *rate };
    let now = flow.now();
    if let Some(tat) = bucket::charge(rate.tat, now, &RATE)
        && let Some(mut record) = EVENTS_MAP.reserve_untyped::<Event>(0)
    {
        rate.tat = tat;
        let (port, proto) = flow.payload().port().unwrap_or((0, 0));
        record.write(Event {
            time_ns: now,
            source: addr(flow.source),
            vip_id: flow.vip_id,
            untold: rate.untold as u32,
            interface,
            bytes: bytes as u32,
            reason: reason as u16,
            source_port: u16::from_be(flow.ports as u16),
            port,
            proto: u16::from(proto),
        });
        record.submit(u64::from(BPF_RB_NO_WAKEUP));
        rate.untold = 0;
        rate.told += 1;
        return 1;
    }
    rate.untold += 1;
    rate.untold_ever += 1;
    0
}
