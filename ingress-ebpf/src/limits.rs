//! Limits of a served address: each charges a bucket of the packet's source.
#![expect(unsafe_code, reason = "compare-and-swap on a bucket")]

use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ptr::read_volatile;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use ingress_common::bucket;
use ingress_common::maps::{Bucket, LIMITS_PER_VIP, Limit, VipVal};
use ingress_common::source::{SrcKey, limited_source};

use crate::maps::{BUCKETS_MAP, LIMITS_MAP};
use crate::packet::{Words, addr};

/// Charges every limit of the address; the first without room refuses.
#[inline(always)]
pub(crate) fn charge(source: &Words, vip: &VipVal) -> bool {
    let addr = limited_source(&addr(*source));
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let mut nth = 0;
    while nth < LIMITS_PER_VIP && nth < vip.limits {
        if let Some(limit) = LIMITS_MAP.get(u32::from(vip.first_limit) + u32::from(nth))
            && limit.kind == Limit::CONNECTIONS
            && !charge_one(&SrcKey { addr, bucket: limit.bucket }, limit, now)
        {
            return false;
        }
        nth += 1;
    }
    true
}

#[inline(always)]
fn charge_one(key: &SrcKey, limit: &Limit, now: u64) -> bool {
    let Some(state) = BUCKETS_MAP.get_ptr_mut(key) else {
        let Some(tat) = bucket::charge(0, now, limit) else { return false };
        // Of two CPUs that meet a new source at once, the slower one gives a token away.
        let _ = BUCKETS_MAP.insert(key, Bucket { tat }, u64::from(BPF_NOEXIST));
        return true;
    };
    let state = state.cast::<u64>();
    let mut tries = 0;
    // After 4 lost races the source is under no rate that a limit could catch: its packets arrive on many CPUs at once.
    while tries < 4 {
        // SAFETY: points at the 8 bytes of a map value, which stay valid until the program ends.
        let tat = unsafe { read_volatile(state) };
        let Some(next) = bucket::charge(tat, now, limit) else { return false };
        // SAFETY: as above; aligned, since map values are.
        let (_, is_ours) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(state, tat, next)
        };
        if is_ours {
            return true;
        }
        tries += 1;
    }
    true
}
