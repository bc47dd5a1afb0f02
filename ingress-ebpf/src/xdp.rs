//! One packet, read top to bottom: look the destination up, then the port, then the source; decide, count, act.
//!
//! Unknown traffic costs one lookup and passes untouched. No packet is ever changed.
#![expect(unsafe_code, reason = "references into hash maps, and compare-and-swap on a bucket")]

use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ptr::read_volatile;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::programs::XdpContext;
use ingress_common::bucket;
use ingress_common::decide::{Listed, Target, decide};
use ingress_common::flow::{Flow, Payload};
use ingress_common::maps::{Bucket, LIMITS_PER_VIP, Limit, VipKey, VipVal};
use ingress_common::source::{Acl4Key, Acl6Key, SCOPE_ALL, SCOPE_BITS, SrcKey, limited_source};
use ingress_common::verdict::{Action, Verdict};

use crate::maps::{ACL4, ACL6, BUCKETS_MAP, LIMITS_MAP, VIPS_MAP};
use crate::packet::{self, Arrived, Packet, Words, addr, is_mapped};
use crate::report;

#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let packet = Packet::of(ctx);
    let verdict = match packet::arrive(&packet, address_entry) {
        Ok((arrived, address)) => judge(&packet, &arrived, address),
        Err(reason) => Verdict { vip_id: 0, reason },
    };
    report::count(ctx, verdict, packet.len());
    match verdict.action() {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}

/// Whether an address is served at all: for most packets of a node the only lookup.
#[inline(always)]
fn address_entry(destination: &Words) -> Option<&'static VipVal> {
    entry(destination, 0, 0)
}

#[inline(always)]
fn judge(packet: &Packet, arrived: &Arrived, address: &'static VipVal) -> Verdict {
    let payload = arrived.payload(packet);
    let target = target(&arrived.destination, payload, address);
    let listed = match target {
        Target::Foreign => Listed::default(),
        Target::Address(vip) | Target::Served(vip) => listed(&arrived.source, vip),
    };
    let flow = Flow { source: addr(arrived.source), destination: addr(arrived.destination), payload };
    decide(&flow, target, listed, |vip| charge(&arrived.source, vip))
}

#[inline(always)]
fn target(destination: &Words, payload: Payload, address: &'static VipVal) -> Target<'static> {
    if let Some((port, proto)) = payload.port()
        && address.ports & VipVal::port_bit(port) != 0
        && let Some(served) = entry(destination, port, proto)
    {
        return Target::Served(served);
    }
    if address.flags & VipVal::PORTS_ONLY != 0 { Target::Foreign } else { Target::Address(address) }
}

#[inline(always)]
fn entry(addr: &Words, port: u16, proto: u8) -> Option<&'static VipVal> {
    let [a, b, c, d] = *addr;
    let words = [a, b, c, d, u32::from(port) | u32::from(proto) << 16];
    // SAFETY: the bytes of a `VipKey`, see the assertions below; the alignment is higher than needed.
    let key = unsafe { &*(&raw const words).cast::<VipKey>() };
    // SAFETY: the agent never writes through these references; a value replaced under us is a whole older or newer one.
    unsafe { VIPS_MAP.get(key) }
}

#[inline(always)]
fn listed(source: &Words, vip: &VipVal) -> Listed {
    let all = if vip.flags & VipVal::LISTS_ALL != 0 { flags_of(source, SCOPE_ALL) } else { 0 };
    let scope = if vip.flags & VipVal::LISTS_SCOPE != 0 { flags_of(source, vip.scope) } else { 0 };
    Listed { all, scope }
}

#[inline(always)]
fn flags_of(source: &Words, scope: u32) -> u32 {
    let [a, b, c, d] = *source;
    let found = if is_mapped(source) {
        let words = [SCOPE_BITS + 32, scope.to_be(), d];
        // SAFETY: the bytes of a key, see the assertions below.
        ACL4.get(unsafe { &*(&raw const words).cast::<Key<Acl4Key>>() })
    } else {
        let words = [SCOPE_BITS + 128, scope.to_be(), a, b, c, d];
        // SAFETY: the bytes of a key, see the assertions below.
        ACL6.get(unsafe { &*(&raw const words).cast::<Key<Acl6Key>>() })
    };
    found.map_or(0, |value| value.flags)
}

/// Map keys are put together from words, not from fields; this is what that relies on.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<VipKey>() == 20 && offset_of!(VipKey, port) == 16 && offset_of!(VipKey, proto) == 18);
    assert!(size_of::<Key<Acl4Key>>() == 12 && offset_of!(Acl4Key, addr) == 4);
    assert!(size_of::<Key<Acl6Key>>() == 24 && offset_of!(Acl6Key, addr) == 4);
    assert!(cfg!(target_endian = "little"));
};

/// Charges every limit of the address; the first without room refuses.
#[inline(always)]
fn charge(source: &Words, vip: &VipVal) -> bool {
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
