//! Counters: every packet under one address and reason, those that leave also by whom they go to, every lookup under its
//! slot.
//!
//! They are per CPU, so plain additions suffice.
#![expect(unsafe_code, reason = "per-CPU map values are reached through raw pointers")]

use aya_ebpf::EbpfContext;
use ingress_common::maps::{Count, LookupCount};
use ingress_common::source::HitKey;
use ingress_common::verdict::{Reason, Verdict};

use crate::limits::{limited_source, source_key};
use crate::maps::{ACL_HITS_MAP, EGRESS_MAP, LK_STATS, NODE_STATS, STATS};
use crate::packet::Words;

#[inline(always)]
pub(crate) fn count(ctx: &impl EbpfContext, verdict: Verdict, bytes: u64) {
    if let Some(count) = STATS.get_ptr_mut(verdict.reason.row(verdict.vip_id)) {
        // SAFETY: a checked map value of this CPU; programs are not preempted by themselves.
        add(unsafe { &mut *count }, 1, bytes);
    }
    log(ctx, verdict);
}

/// Counts what leaves from a VIP: exactly for the VIP, and for whom it goes to as long as that is remembered.
#[inline(always)]
pub(crate) fn sent(vip_id: u32, destination: &Words, packets: u64, bytes: u64) {
    if let Some(count) = STATS.get_ptr_mut(Reason::Sent.row(vip_id)) {
        // SAFETY: a checked map value of this CPU.
        add(unsafe { &mut *count }, packets, bytes);
    }
    let key = source_key(&limited_source(destination), vip_id);
    match EGRESS_MAP.get_ptr_mut(&key) {
        // SAFETY: as above.
        Some(count) => add(unsafe { &mut *count }, packets, bytes),
        // Refused, this packet is missing from the client's count.
        None => drop(EGRESS_MAP.insert(&key, Count { packets, bytes }, 0)),
    }
}

/// Counts a packet that an entry of a deny list dropped.
#[inline(always)]
pub(crate) fn caught(entry: &HitKey, bytes: u64) {
    match ACL_HITS_MAP.get_ptr_mut(entry) {
        // SAFETY: a checked map value of this CPU.
        Some(count) => add(unsafe { &mut *count }, 1, bytes),
        // Refused, this packet is missing from the entry's count.
        None => drop(ACL_HITS_MAP.insert(entry, Count { packets: 1, bytes }, 0)),
    }
}

#[inline(always)]
fn add(count: &mut Count, packets: u64, bytes: u64) {
    count.packets += packets;
    count.bytes += bytes;
}

/// Counts a packet that goes to a node; row 0 counts those that came from one.
#[inline(always)]
pub(crate) fn sent_on(node: u32, bytes: u64) {
    if let Some(count) = NODE_STATS.get_ptr_mut(node) {
        // SAFETY: a checked map value of this CPU.
        let count = unsafe { &mut *count };
        count.packets += 1;
        count.bytes += bytes;
    }
}

#[cfg(feature = "debug-log")]
#[inline(always)]
fn log(ctx: &impl EbpfContext, verdict: Verdict) {
    if matches!(verdict.action(), ingress_common::verdict::Action::Drop) {
        aya_log_ebpf::debug!(ctx, "dropped: vip_id {} reason {}", verdict.vip_id, verdict.reason as u32);
    }
}

#[cfg(not(feature = "debug-log"))]
#[inline(always)]
fn log(_: &impl EbpfContext, _: Verdict) {}

/// What came of a slot.
pub(crate) enum Lookup {
    /// The connection went to its socket.
    Assigned,
    /// No slot of the range that begins here held a socket.
    Missed,
    /// The kernel refused its socket.
    Refused,
    /// A connection that waited in a socket that closed went to its socket.
    Moved,
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
        Lookup::Moved => count.moved += 1,
    }
}
