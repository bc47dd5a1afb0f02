//! One packet, read top to bottom: look the destination up, then the port, then the source; decide, count, act.
//!
//! Unknown traffic costs one lookup and passes untouched. No packet is ever changed.
#![expect(unsafe_code, reason = "references into hash maps")]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::programs::XdpContext;
use ingress_common::decide::{Listed, Target, decide};
use ingress_common::flow::{Flow, Payload};
use ingress_common::maps::{VipKey, VipVal};
use ingress_common::verdict::{Action, Verdict};

use crate::context::Context;
use crate::maps::VIPS_MAP;
use crate::packet::{self, Arrived, Packet, Words, addr};
use crate::{limits, lists, report};

#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    match verdict(ctx).action() {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}

/// What becomes of the packet, wherever it is met; counted.
#[inline(always)]
pub(crate) fn verdict(ctx: &impl Context) -> Verdict {
    let packet = Packet::of(ctx);
    let verdict = match packet::arrive(&packet, address_entry) {
        Ok((arrived, address)) => judge(&packet, &arrived, address),
        Err(reason) => Verdict { vip_id: 0, reason },
    };
    report::count(ctx, verdict, ctx.length());
    verdict
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
        Target::Address(vip) | Target::Served(vip) => lists::of(&arrived.source, vip),
    };
    let flow = Flow { source: addr(arrived.source), destination: addr(arrived.destination), payload };
    decide(&flow, target, listed, |vip| limits::charge(&arrived.source, vip))
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
pub(crate) fn entry(addr: &Words, port: u16, proto: u8) -> Option<&'static VipVal> {
    let [a, b, c, d] = *addr;
    let words = [a, b, c, d, u32::from(port) | u32::from(proto) << 16];
    // SAFETY: the bytes of a `VipKey`, see the assertions below; the alignment is higher than needed.
    let key = unsafe { &*(&raw const words).cast::<VipKey>() };
    // SAFETY: the agent never writes through these references; a value replaced under us is a whole older or newer one.
    unsafe { VIPS_MAP.get(key) }
}

/// The key of `vips` is put together from words, not from fields; this is what that relies on.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<VipKey>() == 20 && offset_of!(VipKey, port) == 16 && offset_of!(VipKey, proto) == 18);
    assert!(cfg!(target_endian = "little"));
};
