//! Address, port, source: what was read of a packet → the verdict. Needs the packet no more.

use ingress_common::decide::{Listed, Target, decide};
use ingress_common::flow::Flow as Judged;
use ingress_common::maps::VipVal;
use ingress_common::verdict::Reason;

use crate::packet::{Flow, addr};
use crate::vips::{address_entry, entry};
use crate::{limits, lists};

/// The reason under which the packet of so many bytes is counted, and what of its VIP the later stages need.
#[inline(always)]
pub(crate) fn judge(flow: &mut Flow, len: u64) -> Reason {
    let payload = flow.payload();
    let target = target(flow);
    let listed = match target {
        Target::Foreign => Listed::default(),
        Target::Address(vip) | Target::Served(vip) => lists::of(&flow.source, vip),
    };
    let judged = Judged { source: addr(flow.source), destination: addr(flow.destination), payload };
    let is_charged = flow.hops == Flow::FROM_NETWORK;
    let verdict =
        decide(&judged, target, listed, |vip, kinds| !is_charged || limits::charge(flow, vip, kinds, len));
    flow.vip_id = verdict.vip_id;
    if let Target::Served(vip) = target {
        flow.vip_flags = vip.flags;
        flow.pool = u32::from(vip.pool);
    }
    verdict.reason
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
