//! Counters: every exit of the XDP program under one address and reason, every lookup under its slot.
//!
//! They are per CPU, so plain additions suffice.
#![expect(unsafe_code, reason = "per-CPU map values are reached through raw pointers")]

use aya_ebpf::programs::XdpContext;
use ingress_common::maps::LookupCount;
use ingress_common::verdict::Verdict;

use crate::maps::{LK_STATS, STATS};

#[inline(always)]
pub(crate) fn count(ctx: &XdpContext, verdict: Verdict, bytes: u64) {
    if let Some(count) = STATS.get_ptr_mut(verdict.reason.row(verdict.vip_id)) {
        // SAFETY: a checked map value of this CPU; programs are not preempted by themselves.
        let count = unsafe { &mut *count };
        count.packets += 1;
        count.bytes += bytes;
    }
    log(ctx, verdict);
}

#[cfg(feature = "debug-log")]
#[inline(always)]
fn log(ctx: &XdpContext, verdict: Verdict) {
    if matches!(verdict.action(), ingress_common::verdict::Action::Drop) {
        aya_log_ebpf::debug!(ctx, "dropped: vip_id {} reason {}", verdict.vip_id, verdict.reason as u32);
    }
}

#[cfg(not(feature = "debug-log"))]
#[inline(always)]
fn log(_: &XdpContext, _: Verdict) {}

/// What came of a slot.
pub(crate) enum Lookup {
    /// The connection went to its socket.
    Assigned,
    /// No slot of the range that begins here held a socket.
    Missed,
    /// The kernel refused its socket.
    Refused,
}

#[inline(always)]
pub(crate) fn lookup(slot: u32, what: Lookup) {
    let Some(count) = LK_STATS.get_ptr_mut(slot) else { return };
    // SAFETY: a checked map value of this CPU.
    let count: &mut LookupCount = unsafe { &mut *count };
    match what {
        Lookup::Assigned => count.lookups += 1,
        Lookup::Missed => count.misses += 1,
        Lookup::Refused => count.errors += 1,
    }
}
