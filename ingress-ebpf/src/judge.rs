//! Address, port, source: what was read of a packet → the verdict. Needs the packet no more.
#![expect(unsafe_code, reason = "a flow comes by a raw pointer")]

use ingress_common::decide::{Listed, Target, decide, is_denied, is_exempt};
use ingress_common::flow::{Flow as Judged, Payload};
use ingress_common::maps::{AclVal, Limit, VipVal};
use ingress_common::verdict::Reason;

use crate::packet::{Flow, addr};
use crate::vips::{address_entry, entry};
use crate::{bans, limits, lists};

/// The reason under which the packet of so many bytes is counted, and what of its VIP the later stages need.
#[inline(always)]
pub(crate) fn judge(flow: &mut Flow, len: u64) -> Reason {
    let payload = flow.payload();
    let target = target(flow);
    let listed = match target {
        Target::Foreign => Listed::default(),
        Target::Address(vip) | Target::Served(vip) => known(flow, vip, len),
    };
    let judged = Judged { source: addr(flow.source), destination: addr(flow.destination), payload };
    let is_charged = flow.hops == Flow::FROM_NETWORK;
    // A fragment gets no cookie.
    let waits = flow.flags & Flow::PART == 0;
    let mut owes = false;
    let charge = |vip: &VipVal, kinds: u32| {
        if !is_charged {
            return true;
        }
        let later = if waits && vip.flags & VipVal::SYNCOOKIE != 0 { kinds & Limit::CONNECTIONS } else { 0 };
        owes = later != 0;
        kinds == later || limits::charge(flow, vip, kinds & !later, len)
    };
    let verdict = decide(&judged, target, listed, charge);
    flow.vip_id = verdict.vip_id;
    if let Target::Served(vip) = target {
        flow.vip_flags = vip.flags;
        flow.pool = u32::from(vip.pool);
        let may_prove = VipVal::LIMIT | VipVal::SYNCOOKIE;
        owes |=
            matches!(payload, Payload::Tcp(_)) && vip.flags & may_prove == may_prove && !is_exempt(listed);
    }
    if owes {
        flow.flags |= Flow::OWES;
    }
    verdict.reason
}

/// Charges the connection that a packet owes; 0: there is no room for it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_owed(flow: *mut Flow) -> u32 {
    // SAFETY: the verifier checks that callers pass a whole flow, or none.
    let Some(flow) = (unsafe { flow.as_mut() }) else { return 0 };
    let Some((port, proto)) = flow.payload().port() else { return 0 };
    let Some(vip) = entry(&flow.destination, port, proto) else { return 0 };
    u32::from(limits::charge(flow, vip, Limit::CONNECTIONS, 0))
}

/// Whether there is room for the connection that a packet owes, if it owes one.
#[inline(always)]
pub(crate) fn settles(flow: &mut Flow) -> bool {
    flow.flags & Flow::OWES == 0 || judge_owed(flow) != 0
}

/// What lists and bans say about the packet's source. A denied one is counted under its entry, and no ban is looked for.
#[inline(always)]
fn known(flow: &mut Flow, vip: &VipVal, len: u64) -> Listed {
    let mut listed = lists::of(&flow.source, vip);
    if is_denied(listed) {
        lists::caught(flow, listed, vip.scope, len);
        return listed;
    }
    if vip.flags & VipVal::BANS != 0 && bans::holds(flow) {
        listed.all |= AclVal::BANNED;
    }
    listed
}

#[inline(always)]
fn target(flow: &Flow) -> Target<'static> {
    if let Some((port, proto)) = flow.payload().port()
        && flow.served_ports & VipVal::port_bit(port) != 0
        && let Some(served) = entry(&flow.destination, port, proto)
    {
        return Target::Served(served);
    }
    if flow.address_flags & VipVal::PORTS_ONLY != 0 {
        return Target::Foreign;
    }
    address_entry(&flow.destination).map_or(Target::Foreign, Target::Address)
}
