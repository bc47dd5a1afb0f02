//! A connection for a served address and port → one of the proxy's listening sockets.
//!
//! Runs when the kernel looks for a listening (or unconnected) socket, before its own lookup. A miss changes nothing: the
//! kernel goes on as without us, so a port that the proxy has left is free for whoever listens there.
#![expect(unsafe_code, reason = "context fields are read by inline assembly")]

use core::arch::asm;
use core::mem::{offset_of, transmute};

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::programs::SkLookupContext;
use ingress_common::flow::{Addr, v4_mapped};
use ingress_common::maps::{ListenVal, SLOT_TRIES, VipKey};

use crate::maps::{LISTEN, SOCKS};
use crate::report::{self, Lookup};

const SK_PASS: u32 = 1;
/// The slot is our choice; the kernel shall not choose anew within the SO_REUSEPORT group.
const BPF_SK_LOOKUP_F_NO_REUSEPORT: u64 = 2;
const ENOENT: i32 = 2;
const AF_INET: u32 = 2;

/// Reads a field of the context as one load at a constant offset: the compiler likes to compute the address of a field
/// in one branch and load through it in another, which the verifier refuses.
macro_rules! field {
    ($lookup:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: a load within the context, which the verifier checks.
        unsafe {
            asm!("{value} = *(u32 *)({lookup} + {offset})", value = lateout(reg) value, lookup = in(reg) $lookup,
                offset = const $offset, options(nostack, readonly, preserves_flags));
        }
        value as u32
    }};
}

#[inline(always)]
pub(crate) fn run(ctx: &SkLookupContext) -> u32 {
    let lookup = ctx.lookup;
    let addr = local_address(lookup);
    let port = field!(lookup, offset_of!(bpf_sk_lookup, local_port)) as u16;
    let proto = field!(lookup, offset_of!(bpf_sk_lookup, protocol)) as u8;
    if let Some(listen) = listen(addr, port, proto) {
        assign(ctx, listen);
    }
    SK_PASS
}

#[inline(always)]
fn listen(addr: Addr, port: u16, proto: u8) -> Option<&'static ListenVal> {
    // SAFETY: the agent never writes through these references; a value replaced under us is a whole older or newer one.
    if let Some(exact) = unsafe { LISTEN.get(VipKey::served(addr, port, proto)) } {
        return Some(exact);
    }
    // SAFETY: as above.
    unsafe { LISTEN.get(VipKey::address(addr)) }
}

/// Starts at a random slot of the range and goes on until one holds a socket.
#[inline(always)]
fn assign(ctx: &SkLookupContext, listen: &ListenVal) {
    let (first, slots) = (listen.first_slot, listen.slots);
    if slots == 0 {
        return;
    }
    // SAFETY: a helper without arguments.
    let start = unsafe { bpf_get_prandom_u32() };
    // 64 bits wide: a narrower counter shares its stack slot with another variable, and the verifier loses its bound.
    let mut tries = 0_u64;
    while tries < SLOT_TRIES && tries < u64::from(slots) {
        let slot = first + start.wrapping_add(tries as u32) % slots;
        match SOCKS.redirect_sk_lookup(ctx, slot, BPF_SK_LOOKUP_F_NO_REUSEPORT) {
            Ok(()) => return report::lookup(slot, Lookup::Assigned),
            Err(error) if error == -ENOENT => {}
            Err(_) => report::lookup(slot, Lookup::Refused),
        }
        tries += 1;
    }
    report::lookup(first, Lookup::Missed);
}

#[inline(always)]
fn local_address(lookup: *mut bpf_sk_lookup) -> Addr {
    if field!(lookup, offset_of!(bpf_sk_lookup, family)) == AF_INET {
        return v4_mapped(field!(lookup, offset_of!(bpf_sk_lookup, local_ip4)).to_ne_bytes());
    }
    const IP6: usize = offset_of!(bpf_sk_lookup, local_ip6);
    let words =
        [field!(lookup, IP6), field!(lookup, IP6 + 4), field!(lookup, IP6 + 8), field!(lookup, IP6 + 12)];
    // SAFETY: 16 bytes without padding on both sides.
    unsafe { transmute::<[u32; 4], Addr>(words) }
}
