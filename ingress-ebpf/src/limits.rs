//! Limits of a served address: each charges a bucket of the packet's source, or of the address.
//!
//! A source's limit meets the gate first, a table of fixed size whose slots are shared by chance. As long as the sources of
//! a slot keep the limit together, that is all. A slot over the limit stands still, and each of its sources has a bucket of
//! its own, which begins with what the slot had used by then (an upper bound, exact for a source that is alone in it), until
//! the last of these buckets is empty. So a source is held to its rate and burst exactly, and a flood of sources that keep
//! the limit each leaves no trace in `buckets`.
#![expect(
    unsafe_code,
    reason = "compare-and-swap on a bucket, keys put together from words; a function that the verifier looks at by itself"
)]

use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::mem::{offset_of, transmute};
use core::ptr::read_volatile;

use aya_ebpf::bindings::BPF_NOEXIST;
use ingress_common::bucket::{self, NEW_SOURCES};
use ingress_common::maps::{Bucket, LIMITS_PER_VIP, Limit, NEW_SOURCES_ROW};
use ingress_common::source::{SrcKey, gate_slot};

use crate::bans;
use crate::maps::{BUCKETS_MAP, GATE, GLOBALS_MAP, LIMITS_MAP, META};
use crate::packet::{Flow, Words, is_mapped};

/// Charges every limit of the address that is of one of these kinds; the first without room refuses. A connection whose source
/// is proven by a later packet than its first is charged then, as `Limit::CONNECTIONS` alone.
#[inline(always)]
pub(crate) fn charge(flow: &mut Flow, kinds: u32, len: u64) -> bool {
    let mut nth = 0;
    while nth < u32::from(LIMITS_PER_VIP) && nth < flow.limits {
        if limits_charge(&raw mut *flow, flow.first_limit + nth, kinds, len) == 0 {
            return false;
        }
        nth += 1;
    }
    true
}

/// Charges the limit in a row; not 0: it has room. Exported, because the verifier looks at a function of global linkage once,
/// and at any other anew for each way that leads to it: by the ways through the headers, more often than it has patience for.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn limits_charge(flow: *mut Flow, row: u32, kinds: u32, len: u64) -> u64 {
    // SAFETY: the verifier checks that callers pass a whole flow, or none.
    let Some(flow) = (unsafe { flow.as_mut() }) else { return 0 };
    let Some(limit) = LIMITS_MAP.get(row) else { return 1 };
    if limit.kind & kinds == 0 {
        return 1;
    }
    let packet = Packet { now: flow.now(), len, limit };
    if limit.per == Limit::ADDRESS {
        return u64::from(exact(&source_key(&flow.destination, limit.bucket), &packet));
    }
    if gated(&limited_source(&flow.source), &packet) {
        return 1;
    }
    bans::strike(flow, limit);
    0
}

/// A packet as a bucket sees it.
struct Packet<'a> {
    now: u64,
    len: u64,
    limit: &'a Limit,
}

impl Packet<'_> {
    #[inline(always)]
    fn charge(&self, tat: u64) -> Option<u64> {
        bucket::charge_packet(tat, self.now, self.limit, self.len)
    }
}

/// The part of a source that a limit counts as one, as `ingress_common::source::limited_source` has it.
#[inline(always)]
pub(crate) fn limited_source(source: &Words) -> Words {
    let [a, b, c, d] = *source;
    if is_mapped(source) { [a, b, c, d] } else { [a, b, 0, 0] }
}

/// The key of a source or address, put together from words: field by field it would be copied byte by byte.
#[inline(always)]
pub(crate) fn source_key(words: &Words, bucket: u32) -> SrcKey {
    let [a, b, c, d] = *words;
    // SAFETY: the bytes of a key, see the assertion below.
    unsafe { transmute::<[u32; 5], SrcKey>([a, b, c, d, bucket]) }
}

/// This is what that relies on.
const _: () = assert!(size_of::<SrcKey>() == 20 && offset_of!(SrcKey, bucket) == 16);

/// A bucket that is always there: that of an address.
#[inline(always)]
fn exact(key: &SrcKey, packet: &Packet<'_>) -> bool {
    if let Some(state) = BUCKETS_MAP.get_ptr_mut(key) {
        return take(state.cast(), 0, packet).is_ok();
    }
    let Some(tat) = packet.charge(0) else { return false };
    // Of two CPUs that meet it at once, the slower one gives a token away.
    let _ = BUCKETS_MAP.insert(key, Bucket { tat }, u64::from(BPF_NOEXIST));
    true
}

/// A source's limit: its slot of the gate, then its own bucket.
#[inline(always)]
fn gated(source: &Words, packet: &Packet<'_>) -> bool {
    let secret = META.get(0).map_or(0, |meta| meta.secret);
    let slot = gate_slot(source, packet.limit.bucket, secret);
    // Never absent: the number is below the length of the array.
    let Some(slot) = GATE.get_ptr_mut(slot) else { return false };
    let shared = slot.cast::<u64>();
    let apart_until = shared.wrapping_add(1);
    if settled(apart_until, packet) <= packet.now {
        return match take(shared, 0, packet) {
            Ok(_) => true,
            Err(tat) => {
                raise(apart_until, tat);
                false
            }
        };
    }
    let floor = settled(shared, packet);
    let key = source_key(source, packet.limit.bucket);
    let taken = match BUCKETS_MAP.get_ptr_mut(&key) {
        Some(state) => take(state.cast(), floor, packet),
        None => first_apart(&key, shared, floor, packet),
    };
    match taken {
        Ok(tat) => {
            raise(apart_until, tat);
            true
        }
        Err(_) => false,
    }
}

/// A source of a slot over its limit that has no bucket yet. While too many get one, the new ones of a slot share its limit.
#[inline(always)]
fn first_apart(key: &SrcKey, shared: *mut u64, floor: u64, packet: &Packet<'_>) -> Result<u64, u64> {
    let Some(tat) = packet.charge(floor) else { return Err(floor) };
    if !is_within_new_sources(NEW_SOURCES_ROW, packet.now) {
        return take(shared, 0, packet);
    }
    // Of two CPUs that meet it at once, the slower one gives a token away.
    let _ = BUCKETS_MAP.insert(key, Bucket { tat }, u64::from(BPF_NOEXIST));
    Ok(tat)
}

/// Whether a map may take note of one more source: a row of `globals` counts them.
#[inline(always)]
pub(crate) fn is_within_new_sources(row: u32, now: u64) -> bool {
    let packet = Packet { now, len: 0, limit: &NEW_SOURCES };
    GLOBALS_MAP.get_ptr_mut(row).is_some_and(|rate| take(rate, 0, &packet).is_ok())
}

/// Takes the packet's time from a state that counts as `floor` at least. `Ok` is the new state, `Err` the one without room.
#[inline(always)]
fn take(state: *mut u64, floor: u64, packet: &Packet<'_>) -> Result<u64, u64> {
    let mut tries = 0;
    let mut next = 0;
    // After 4 lost races the source is under no rate that a limit could catch: its packets arrive on many CPUs at once.
    while tries < 4 {
        let seen = settled(state, packet);
        let tat = if seen > floor { seen } else { floor };
        next = match packet.charge(tat) {
            Some(next) => next,
            None => return Err(tat),
        };
        if replace(state, seen, next) {
            break;
        }
        tries += 1;
    }
    Ok(next)
}

/// Reads a state; one that this limit never leaves behind is put right first.
#[inline(always)]
fn settled(state: *mut u64, packet: &Packet<'_>) -> u64 {
    // SAFETY: points at 8 bytes of a map value, which stay valid until the program ends.
    let seen = unsafe { read_volatile(state) };
    match bucket::capped(seen, packet.now, packet.limit) {
        Some(capped) => {
            replace(state, seen, capped);
            capped
        }
        None => seen,
    }
}

/// Makes a state at least `tat`.
#[inline(always)]
fn raise(state: *mut u64, tat: u64) {
    let mut tries = 0;
    while tries < 4 {
        // SAFETY: points at 8 bytes of a map value, which stay valid until the program ends.
        let seen = unsafe { read_volatile(state) };
        if seen >= tat || replace(state, seen, tat) {
            return;
        }
        tries += 1;
    }
}

#[inline(always)]
fn replace(state: *mut u64, seen: u64, next: u64) -> bool {
    // SAFETY: points at 8 bytes of a map value, which stay valid until the program ends; aligned, since map values are.
    let (_, is_ours) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(state, seen, next)
    };
    is_ours
}
