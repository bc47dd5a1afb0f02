//! Which node owns the packet's flow: the table of its pool, what is known of the candidates, and what this node holds.
#![expect(unsafe_code, reason = "references into maps, foreign functions")]

use aya_ebpf::bindings::{bpf_sock_tuple, tcphdr};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie};
use ingress_common::flow::{Payload, TCP};
use ingress_common::maps::{NodeVal, RECENT_NS, VipVal};
use ingress_common::steer::{NOBODY, NodeState, Owner, Step, flow_hash, owner, slot_of};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;

use crate::context::Context;
use crate::maps::{CLUSTER, NODE_SEEN, NODES_MAP, POOLS_MAP};
use crate::packet::{Flow, Packet};
use crate::sk_lookup;

/// Asks the table and writes down who takes the packet: 0 is this node. One without ports stays where it is.
#[inline(always)]
pub(crate) fn choose<C: Context>(ctx: &C, flow: &mut Flow) {
    flow.node = u32::from(NOBODY);
    let Some((port, proto)) = flow.payload().port() else { return };
    let step = match flow.payload() {
        Payload::TcpOpen(_) => Step::Opens,
        _ if proto == TCP => Step::Continues,
        _ => Step::Datagram,
    };
    let Some(cluster) = CLUSTER.get(0) else { return };
    if flow.flags & Flow::PART != 0 || cluster.me == 0 {
        return;
    }
    let hash = flow_hash(&flow.client, &flow.destination, flow.ports, proto, cluster.seed);
    let Some(slot) = POOLS_MAP.get_value(flow.pool, &slot_of(hash)) else { return };
    let now = flow.now();
    let me = cluster.me as u16;
    let holds = || match step {
        Step::Opens => {
            let holds = flow.vip_flags & VipVal::PAUSED == 0 && sk_lookup::has_socket(flow, port, now);
            if !holds && let Some(seen) = NODE_SEEN.get_ptr_mut(u32::from(me)) {
                // SAFETY: a checked map value; one word is written.
                unsafe { (*seen).absent_ns = now };
            }
            holds
        }
        Step::Continues => holds_connection(ctx, flow),
        Step::Datagram => true,
    };
    let hops = if flow.hops == Flow::FROM_NETWORK { None } else { Some(flow.hops as u8) };
    let owner = owner(*slot, me, hops, step, |id| state(id, me, now), holds);
    flow.hash = hash;
    if let Owner::Node { id, hops } = owner {
        flow.node = u32::from(id);
        flow.next_hops = u32::from(hops);
    }
}

#[inline(always)]
fn state(id: u16, me: u16, now: u64) -> NodeState {
    let Some(node) = NODES_MAP.get(u32::from(id)) else { return NodeState::Down };
    if node.flags & NodeVal::DOWN != 0 || (node.ifindex == 0 && id != me) {
        return NodeState::Down;
    }
    if node.flags & NodeVal::DRAINING != 0 {
        return NodeState::Draining;
    }
    if now < node.recent_until_ns {
        return NodeState::Recent;
    }
    if id == me
        && let Some(seen) = NODE_SEEN.get(u32::from(id))
        && seen.absent_ns != 0
        && now.wrapping_sub(seen.absent_ns) < RECENT_NS
    {
        return NodeState::Recent;
    }
    NodeState::Settled
}

/// What this node's kernel knows of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing, or only a listener.
    No,
    /// It has a connection, one that opens or one that has just ended.
    Connection,
    /// The segment proves that its sender got a SYN cookie from here.
    Cookie,
}

/// Whether this node's kernel knows the connection, or answered its SYN by a cookie.
#[inline(always)]
fn holds_connection<C: Context>(ctx: &C, flow: &Flow) -> bool {
    !matches!(known(ctx, flow), Known::No)
}

/// Asks the kernel for the socket of a flow. SK_LOOKUP finds the listener, and counts it.
#[inline(always)]
pub(crate) fn known<C: Context>(ctx: &C, flow: &Flow) -> Known {
    const LISTEN: u32 = 10;
    const CURRENT_NETNS: u64 = u64::MAX;
    const V4: u32 = 12;
    const V6: u32 = 36;
    let [a, b, c, d] = flow.client;
    let [e, f, g, h] = flow.destination;
    let mut tuple = [a, b, c, d, e, f, g, h, flow.ports];
    if !flow.is_ipv6() {
        (tuple[0], tuple[1], tuple[2]) = (d, h, flow.ports);
    }
    let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
    let len = if flow.is_ipv6() { V6 } else { V4 };
    // SAFETY: the tuple is of the family that its length says; the socket is released below.
    let socket = unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, len, CURRENT_NETNS, 0) };
    if socket.is_null() {
        return Known::No;
    }
    // SAFETY: the kernel gave a socket; it stays until it is released.
    let is_listener = unsafe { core::ptr::read_volatile(&raw const (*socket).state) } == LISTEN;
    let is_cookie = is_listener && is_cookie(socket.cast(), &Packet::of(ctx), flow);
    // SAFETY: looked up above, released once.
    unsafe { bpf_sk_release(socket.cast()) };
    match (is_listener, is_cookie) {
        (false, _) => Known::Connection,
        (true, true) => Known::Cookie,
        (true, false) => Known::No,
    }
}

/// Whether a segment proves a SYN cookie of this listener.
#[inline(always)]
fn is_cookie(listener: *mut core::ffi::c_void, packet: &Packet, flow: &Flow) -> bool {
    if !matches!(flow.payload(), Payload::Tcp(_)) {
        return false;
    }
    let Some(tcp) = packet.far::<[u8; TcpHdr::LEN]>(flow.offset) else { return false };
    let tcp = tcp.cast_mut().cast::<tcphdr>();
    let checked = if flow.is_ipv6() {
        let Some(ip) = packet.far::<[u8; Ipv6Hdr::LEN]>(flow.ip) else { return false };
        // SAFETY: both headers were checked for the lengths given.
        unsafe { bpf_tcp_check_syncookie(listener, ip.cast_mut().cast(), 40, tcp, 20) }
    } else {
        let Some(ip) = packet.far::<[u8; Ipv4Hdr::LEN]>(flow.ip) else { return false };
        // SAFETY: both headers were checked for the lengths given.
        unsafe { bpf_tcp_check_syncookie(listener, ip.cast_mut().cast(), 20, tcp, 20) }
    };
    checked == 0
}
