//! Moves a listening socket from the SOCKMAP of another layout into ours: userspace cannot take one out of a map.
//!
//! Never attached. The agent runs it once per slot, with the slot's number in the packet, while it upgrades.
#![expect(unsafe_code, reason = "a SOCKMAP is read through helpers that have no safe wrapper")]

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::{bpf_map_lookup_elem, bpf_map_update_elem, bpf_sk_release};
use aya_ebpf::programs::TcContext;
use ingress_common::maps::CARRY_SLOT_AT;

use crate::maps::{OLD_SOCKS, SOCKS};

const MOVED: i32 = 0;
const ABSENT: i32 = 1;
const REFUSED: i32 = 2;

#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> i32 {
    let Ok(slot) = ctx.load::<u32>(CARRY_SLOT_AT) else { return ABSENT };
    let key = (&raw const slot).cast::<c_void>();
    // SAFETY: a map of this object and a key of its size; the answer is a socket with a reference, or null.
    let socket = unsafe { bpf_map_lookup_elem((&raw const OLD_SOCKS).cast_mut().cast(), key) };
    if socket.is_null() {
        return ABSENT;
    }
    // SAFETY: as above; the socket is held by the reference.
    let outcome = unsafe { bpf_map_update_elem((&raw const SOCKS).cast_mut().cast(), key, socket, 0) };
    // SAFETY: gives back the reference that the lookup took.
    let _ = unsafe { bpf_sk_release(socket.cast::<bpf_sock>().cast()) };
    if outcome == 0 { MOVED } else { REFUSED }
}
