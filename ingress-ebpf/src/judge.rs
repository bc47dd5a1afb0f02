//! Address, port, source: what was read of a packet → the verdict. Needs the packet no more.

use ingress_common::decide::{Listed, Target, decide, is_denied, is_exempt};
use ingress_common::flow::{Flow as Judged, Payload};
use ingress_common::maps::{AclVal, Limit, VipVal};
use ingress_common::verdict::{Reason, Verdict};

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
        Target::Address(vip) | Target::Served(vip) => {
            (flow.first_limit, flow.limits) = (u32::from(vip.first_limit), u32::from(vip.limits));
            known(flow, vip, len)
        }
    };
    let judged = Judged { source: addr(flow.source), destination: addr(flow.destination), payload };
    let is_charged = flow.hops == Flow::FROM_NETWORK;
    // A fragment gets no cookie.
    let waits = flow.flags & Flow::PART == 0;
    let (mut owes, mut at_once) = (false, 0);
    // Only notes what is to be charged: in here it would be compiled, and verified, once for every place that asks.
    let charge = |vip: &VipVal, kinds: u32| {
        if is_charged {
            let later =
                if waits && vip.flags & VipVal::SYNCOOKIE != 0 { kinds & Limit::CONNECTIONS } else { 0 };
            (owes, at_once) = (later != 0, kinds & !later);
        }
        true
    };
    let Verdict { vip_id, mut reason } = decide(&judged, target, listed, charge);
    if at_once != 0 && !limits::charge(flow, at_once, len) {
        reason = Reason::OverLimit;
    }
    flow.vip_id = vip_id;
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
    reason
}

/// Whether there is room for the connection that a packet owes, if it owes one.
#[inline(always)]
pub(crate) fn settles(flow: &mut Flow) -> bool {
    flow.flags & Flow::OWES == 0 || limits::charge(flow, Limit::CONNECTIONS, 0)
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
