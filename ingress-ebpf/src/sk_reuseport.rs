//! What waits in a listening socket that closes → a socket of the proxy that serves.
//!
//! The kernel asks for each connection that nobody accepted and each that is half open (Linux 5.14, `SELECT_OR_MIGRATE`).
//! Without an answer of ours it takes any socket of the group that still listens, which may be the next one to close.
//! SK_LOOKUP chooses the socket of new connections; for what reaches the group by its own address the kernel chooses.
#![expect(unsafe_code, reason = "fields of the context and of a socket are read through raw pointers")]

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_sk_select_reuseport;
use aya_ebpf::programs::SkReuseportContext;
use ingress_common::maps::{GroupKey, GroupVal, SLOT_TRIES};

use crate::maps::{GROUPS_MAP, SOCKS};
use crate::report::{self, Lookup};
use crate::sk_lookup::{choose, count};

const SK_PASS: u32 = 1;
const AF_INET: u32 = 2;

#[inline(always)]
pub(crate) fn run(ctx: &SkReuseportContext) -> u32 {
    if ctx.migrating_sk().is_some()
        && let Some(group) = group(ctx)
    {
        select(ctx, group);
    }
    SK_PASS
}

/// The group of the socket that closes.
#[inline(always)]
fn group(ctx: &SkReuseportContext) -> Option<&'static GroupVal> {
    // SAFETY: the kernel sets the field before it calls the program.
    let socket = unsafe { (*ctx.md).__bindgen_anon_3.sk };
    // SAFETY: a socket that lives as long as the program runs.
    let family = unsafe { read_volatile(&raw const (*socket).family) };
    // SAFETY: as above. Unlike the other ports of a socket this one is in host byte order.
    let port = unsafe { read_volatile(&raw const (*socket).src_port) };
    let key = GroupKey { port: port as u16, family: if family == AF_INET { 4 } else { 6 } };
    // SAFETY: the agent never writes through these references; a value replaced under us is a whole older or newer one.
    unsafe { GROUPS_MAP.get(key) }
}

#[inline(always)]
fn select(ctx: &SkReuseportContext, group: &GroupVal) {
    let (first, slots) = (group.first_slot, group.slots);
    if slots == 0 {
        return;
    }
    let start = choose(first, slots);
    let mut tries = 0_u64;
    while tries < SLOT_TRIES && tries < u64::from(slots) {
        let mut slot = first + start.wrapping_add(tries as u32) % slots;
        // SAFETY: the map is one whose sockets this helper takes, the key is on the stack.
        let refused = unsafe {
            bpf_sk_select_reuseport(
                ctx.as_ptr().cast(),
                (&raw const SOCKS).cast_mut().cast(),
                (&raw mut slot).cast(),
                0,
            )
        };
        if refused == 0 {
            count(slot);
            return report::lookup(slot, Lookup::Moved);
        }
        tries += 1;
    }
}
