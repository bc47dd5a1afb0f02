//! Bans: whether one holds for a packet's source, and which refused packets ask for one.
#![expect(
    unsafe_code,
    reason = "map values are reached through raw pointers; functions that the verifier looks at by themselves"
)]

use core::mem::offset_of;
use core::ptr::read_volatile;

use aya_ebpf::bindings::BPF_NOEXIST;
use ingress_common::maps::{Ban, BanAsk, Limit, NEW_STRIKES_ROW, Strikes};

use crate::limits::{is_within_new_sources, limited_source, source_key};
use crate::maps::{BAN_ASKS_MAP, BANS_MAP, STRIKES_MAP};
use crate::packet::{Flow, Words, addr};

/// Whether the source is banned at this moment: an entry whose time is over is as good as none.
#[inline(always)]
pub(crate) fn holds(flow: &mut Flow) -> bool {
    bans_hold(&raw mut *flow) != 0
}

/// A global function: the verifier checks it once, with any flow.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bans_hold(flow: *mut Flow) -> u32 {
    // SAFETY: the verifier checks that callers pass a whole flow, or none.
    let Some(flow) = (unsafe { flow.as_mut() }) else { return 0 };
    let Some(ban) = BANS_MAP.get_ptr_mut(&source_key(&limited_source(&flow.source), 0)) else { return 0 };
    // SAFETY: points at a map value, which stays valid until the program ends.
    let expires_ns = unsafe { read_volatile(&raw const (*ban).expires_ns) };
    u32::from(expires_ns > flow.now())
}

/// Takes note of a packet that a limit per source refused, and asks for a ban when it is one too many.
#[inline(always)]
pub(crate) fn strike(flow: &mut Flow, limit: &Limit) {
    if limit.ban_after != 0 {
        bans_strike(&raw mut *flow, limit);
    }
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bans_strike(flow: *mut Flow, limit: *const Limit) -> u32 {
    // SAFETY: the verifier checks that callers pass a whole flow and limit, or none.
    let (Some(flow), Some(limit)) = (unsafe { flow.as_mut() }, unsafe { limit.as_ref() }) else { return 0 };
    let now = flow.now();
    let source = limited_source(&flow.source);
    let key = source_key(&source, limit.policy);
    let Some(entry) = STRIKES_MAP.get_ptr_mut(&key) else {
        let mut first = Strikes::default().with_one(now, 0);
        let asks = first.asks(now, limit.ban_after) && ask(&source, limit);
        if asks {
            first.asked_ns = now;
        }
        if is_within_new_sources(NEW_STRIKES_ROW, now) {
            // Of two CPUs that meet it at once, one forgets a drop.
            let _ = STRIKES_MAP.insert(&key, first, u64::from(BPF_NOEXIST));
        }
        return u32::from(asks);
    };
    // CPUs that count at once may lose drops among them; a source that is dropped so often has enough.
    // SAFETY: points at a map value, which stays valid until the program ends.
    let entry = unsafe { &mut *entry };
    let mut strikes = entry.with_one(now, limit.ban_within_ns);
    let asks = strikes.asks(now, limit.ban_after) && ask(&source, limit);
    if asks {
        strikes.asked_ns = now;
    }
    *entry = strikes;
    u32::from(asks)
}

/// Whether the agent will hear of it.
#[inline(always)]
fn ask(source: &Words, limit: &Limit) -> bool {
    let ask = BanAsk { source: addr(*source), policy: limit.policy, kind: limit.kind };
    BAN_ASKS_MAP.push(&ask, 0).is_ok()
}

const _: () = assert!(offset_of!(Ban, expires_ns) == 0);
