//! A connection or datagram for a served address and port → one of the proxy's sockets.
//!
//! Runs when the kernel looks for a listening (or unconnected) socket, before its own lookup. A miss changes nothing: the
//! kernel goes on as without us, so a port that the proxy has left is free for whoever listens there.
#![expect(
    unsafe_code,
    reason = "context fields are read by inline assembly, map values through raw pointers"
)]

use core::arch::asm;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::mem::offset_of;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_sk_release};
use aya_ebpf::programs::SkLookupContext;
use ingress_common::choice::{lighter, listen_seen_row, of_sender, seen_listening, two_of};
use ingress_common::flow::{TCP, UDP};
use ingress_common::maps::{ListenVal, SLOT_TRIES, WorkerLoad};

use crate::maps::{ASSIGNED, LISTEN, LISTEN_SEEN_MAP, SOCKS};
use crate::packet::{Flow, Words, mapped};
use crate::report::{self, Lookup};
use crate::vips::{VipWords, as_vip_key, vip_key};

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
    let address = local_address(lookup);
    let port = field!(lookup, offset_of!(bpf_sk_lookup, local_port)) as u16;
    let proto = field!(lookup, offset_of!(bpf_sk_lookup, protocol)) as u8;
    if let Some(listen) = listen(&address, port, proto) {
        assign(ctx, listen, proto);
    }
    SK_PASS
}

/// What listens at an address and port: the entry of that port, else the one for all ports.
#[inline(always)]
pub(crate) fn listen(address: &Words, port: u16, proto: u8) -> Option<&'static ListenVal> {
    listen_at(vip_key(address, port, proto)).or_else(|| listen_at(vip_key(address, 0, 0)))
}

#[inline(always)]
fn listen_at(key: VipWords) -> Option<&'static ListenVal> {
    // SAFETY: the agent never writes through these references; a value replaced under us is a whole older or newer one.
    unsafe { LISTEN.get(as_vip_key(&key)) }
}

/// Whether a socket would take the connection that a SYN opens, also when the proxy was killed and no agent has noticed. For
/// the programs that see packets first.
///
/// To find the socket takes as long as all else that is done for a SYN: of many within a millisecond, one looks. After a
/// proxy was killed, those of the rest of it are refused like those that it had not accepted yet.
#[inline(always)]
pub(crate) fn has_socket(flow: &Flow, port: u16, now: u64) -> bool {
    let Some(noted) = LISTEN_SEEN_MAP.get_ptr_mut(listen_seen_row(flow.vip_id, port)) else { return false };
    let note = seen_listening(flow.vip_id, port, now);
    // SAFETY: a checked map value; it is read and written as one word.
    if unsafe { read_volatile(noted) } == note {
        return true;
    }
    let Some(listen) = listen(&flow.destination, port, TCP) else { return false };
    let has =
        holds_socket(listen.first_slot, listen.slots) || holds_socket(listen.spare_slot, listen.spare_slots);
    if has {
        // SAFETY: as above.
        unsafe { write_volatile(noted, note) };
    }
    has
}

#[inline(always)]
fn holds_socket(first: u32, slots: u32) -> bool {
    let mut tries = 0_u64;
    while tries < SLOT_TRIES && tries < u64::from(slots) {
        let slot = first + tries as u32;
        // SAFETY: a map and a key of its type; what is found is released at once.
        unsafe {
            let socket = bpf_map_lookup_elem((&raw const SOCKS).cast_mut().cast(), (&raw const slot).cast());
            if !socket.is_null() {
                bpf_sk_release(socket);
                return true;
            }
        }
        tries += 1;
    }
    false
}

/// To a socket of the range or, when it holds none, of the spare one.
#[inline(always)]
fn assign(ctx: &SkLookupContext, listen: &ListenVal, proto: u8) {
    if listen.slots == 0
        || try_range(ctx, listen.first_slot, listen.slots, proto)
        || try_range(ctx, listen.spare_slot, listen.spare_slots, proto)
    {
        return;
    }
    report::lookup(listen.first_slot, Lookup::Missed);
}

/// Starts at the chosen slot of a range and goes on until one holds a socket; whether one does.
#[inline(always)]
fn try_range(ctx: &SkLookupContext, first: u32, slots: u32, proto: u8) -> bool {
    if slots == 0 {
        return false;
    }
    let start = if proto == UDP {
        of_sender(&remote_address(ctx.lookup), remote_port(ctx.lookup), slots)
    } else {
        choose(first, slots)
    };
    // 64 bits wide: a narrower counter shares its stack slot with another variable, and the verifier loses its bound.
    let mut tries = 0_u64;
    while tries < SLOT_TRIES && tries < u64::from(slots) {
        let slot = first + start.wrapping_add(tries as u32) % slots;
        match SOCKS.redirect_sk_lookup(ctx, slot, BPF_SK_LOOKUP_F_NO_REUSEPORT) {
            Ok(()) => {
                if proto != UDP {
                    count(slot);
                }
                report::lookup(slot, Lookup::Assigned);
                return true;
            }
            Err(error) if error == -ENOENT => {}
            Err(_) => report::lookup(slot, Lookup::Refused),
        }
        tries += 1;
    }
    false
}

/// The place in a range, which is not empty, of the lighter of two random workers.
#[inline(always)]
pub(crate) fn choose(first: u32, slots: u32) -> u32 {
    // SAFETY: a helper without arguments.
    let (one, other) = two_of(slots, unsafe { bpf_get_prandom_u32() });
    lighter((one, load(first + one)), (other, load(first + other)))
}

#[inline(always)]
fn load(slot: u32) -> WorkerLoad {
    let Some(load) = ASSIGNED.get_ptr(slot) else { return WorkerLoad::default() };
    // SAFETY: a checked map value; the agent and other CPUs write it meanwhile, and either value will do.
    unsafe { read_volatile(load) }
}

/// One more connection for the worker behind this slot.
#[inline(always)]
pub(crate) fn count(slot: u32) {
    let Some(load) = ASSIGNED.get_ptr_mut(slot) else { return };
    // SAFETY: a checked map value.
    let assigned = unsafe { &raw mut (*load).assigned };
    // SAFETY: the field, which is aligned as the value is.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(assigned, 1) };
}

#[inline(always)]
fn local_address(lookup: *mut bpf_sk_lookup) -> Words {
    if field!(lookup, offset_of!(bpf_sk_lookup, family)) == AF_INET {
        return mapped(field!(lookup, offset_of!(bpf_sk_lookup, local_ip4)));
    }
    const IP6: usize = offset_of!(bpf_sk_lookup, local_ip6);
    [field!(lookup, IP6), field!(lookup, IP6 + 4), field!(lookup, IP6 + 8), field!(lookup, IP6 + 12)]
}

#[inline(always)]
fn remote_address(lookup: *mut bpf_sk_lookup) -> Words {
    if field!(lookup, offset_of!(bpf_sk_lookup, family)) == AF_INET {
        return mapped(field!(lookup, offset_of!(bpf_sk_lookup, remote_ip4)));
    }
    const IP6: usize = offset_of!(bpf_sk_lookup, remote_ip6);
    [field!(lookup, IP6), field!(lookup, IP6 + 4), field!(lookup, IP6 + 8), field!(lookup, IP6 + 12)]
}

/// As it is on the wire; any fixed order does for what it is used for.
#[inline(always)]
fn remote_port(lookup: *mut bpf_sk_lookup) -> u16 {
    field!(lookup, offset_of!(bpf_sk_lookup, remote_port)) as u16
}
