//! One packet, read top to bottom: look the destination up, then the port, then the source; decide, count, act.
//!
//! Unknown traffic costs one lookup and passes untouched. A packet is changed only where another node gets it, or where
//! the program answers it.
#![expect(unsafe_code, reason = "helpers are foreign functions")]

use core::mem::MaybeUninit;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use ingress_common::event::is_told;
use ingress_common::flow::Payload;
use ingress_common::maps::VipVal;
use ingress_common::verdict::{Action, Reason, Verdict};

use crate::context::Context;
use crate::cookie::Concern;
use crate::packet::{self, Arrival, Flow, Packet};
use crate::{announce, cookie, event, judge, report, transport, tunnel};

#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let done = way(ctx);
    match done.verdict.action() {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
        Action::Send if done.interface == ctx.interface() => XDP_TX,
        // SAFETY: a helper that only takes note.
        Action::Send => unsafe { bpf_redirect(done.interface, 0) as u32 },
    }
}

/// What was done with a packet.
pub(crate) struct Done {
    pub(crate) verdict: Verdict,
    /// Where it leaves, if it is sent.
    pub(crate) interface: u32,
}

/// The packet's way, wherever it is met; counted.
#[inline(always)]
pub(crate) fn way<C: Context>(ctx: &C) -> Done {
    let mut place = MaybeUninit::uninit();
    let flow = Flow::begin(&mut place);
    let mut arrival = packet::arrive(&Packet::of(ctx), flow);
    let bytes = ctx.length_until(flow.end);
    if matches!(arrival, Arrival::Tunnel) {
        arrival = match ctx.open(flow) {
            tunnel::FOREIGN => Arrival::Passes(Reason::Foreign),
            tunnel::PROBED => Arrival::Passes(Reason::ProbeAnswered),
            tunnel::RETURNED => Arrival::Passes(Reason::ProbeReturned),
            hops => {
                report::sent_on(0, bytes);
                flow.hops = hops;
                packet::arrive(&Packet::of(ctx), flow)
            }
        };
    }
    let mut interface = ctx.interface();
    let reason = match arrival {
        Arrival::Served => served(ctx, flow, bytes, &mut interface),
        Arrival::Passes(reason) => reason,
        Arrival::Neighbour if flow.hops == Flow::FROM_NETWORK => announce::hear(ctx, flow),
        // A tunnel in a tunnel, or what never leaves a link.
        Arrival::Tunnel | Arrival::Neighbour => Reason::Foreign,
    };
    let verdict = Verdict { vip_id: flow.vip_id, reason };
    report::count(ctx, verdict, bytes);
    if is_told(reason) {
        event::tell(flow, reason as u32, ctx.interface(), bytes);
    }
    Done { verdict, interface }
}

/// A packet for a served address: to the node that owns its flow, if it is admitted.
#[inline(always)]
fn served<C: Context>(ctx: &C, flow: &mut Flow, bytes: u64, interface: &mut u32) -> Reason {
    transport::read(ctx, flow);
    if flow.flags & Flow::NEIGHBOUR != 0 && flow.hops == Flow::FROM_NETWORK {
        let heard = announce::hear(ctx, flow);
        if !matches!(heard, Reason::Foreign) {
            return heard;
        }
    }
    let reason = judge::judge(flow, bytes);
    if matches!(reason, Reason::OtherProtocol) && matches!(flow.payload(), Payload::Echo) && ctx.echo(flow) {
        return Reason::EchoAnswered;
    }
    if !matches!(reason.action(), Action::Pass) {
        return reason;
    }
    if flow.pool != 0 {
        ctx.choose(flow);
        if flow.node != 0 {
            return elsewhere(ctx, flow, interface);
        }
        if flow.vip_flags & VipVal::PAUSED != 0 && matches!(flow.payload(), Payload::TcpOpen(_)) {
            return Reason::Paused;
        }
    }
    here(ctx, flow, reason)
}

/// This node owns the flow.
#[inline(always)]
fn here<C: Context>(ctx: &C, flow: &mut Flow, reason: Reason) -> Reason {
    let due = match cookie::concern(flow) {
        Concern::None => return reason,
        Concern::Charged => cookie::CHARGED,
        Concern::Asked => ctx.shield(flow),
    };
    match due {
        cookie::DUE if ctx.reply(flow) => Reason::CookieSent,
        // The kernel sends the cookie itself, or there is nothing to do.
        cookie::DUE | cookie::NOTHING => reason,
        // A SYN for which there is room, or the proof of a source.
        _ if judge::settles(flow) => reason,
        _ => Reason::OverLimit,
    }
}

/// Another node owns the flow, and charges a connection itself while it answers by cookies.
#[inline(always)]
fn elsewhere<C: Context>(ctx: &C, flow: &mut Flow, interface: &mut u32) -> Reason {
    if matches!(flow.payload(), Payload::TcpOpen(_))
        && flow.flags & Flow::OWES != 0
        && !cookie::is_armed(flow.node, flow.now())
        && !judge::settles(flow)
    {
        return Reason::OverLimit;
    }
    let sent = ctx.send(flow);
    if sent == tunnel::UNREACHABLE {
        return Reason::Unreachable;
    }
    if sent & tunnel::TOO_BIG == 0 {
        *interface = sent as u32;
        return Reason::Steered;
    }
    if ctx.too_big(flow, sent as u16) { Reason::TooBig } else { Reason::Unreachable }
}
