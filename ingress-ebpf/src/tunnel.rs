//! Packets between nodes: taken out of the tunnel ([`open`]) and sent on through it ([`send`]).
//!
//! A packet is taken only if a node of the cluster sent it to this node and what is inside is for a VIP of a pool;
//! everything else passes byte for byte, since container networks tunnel between the same nodes.
#![expect(unsafe_code, reason = "references into maps, foreign functions")]

use aya_ebpf::bindings::bpf_fib_lookup as FibLookup;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use ingress_common::maps::{Cluster, NodeVal, VipVal};
use ingress_common::tunnel::{Header, PORT, overhead, source_port};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::context::{Context, OuterHeaders};
use crate::cookie;
use crate::maps::{CLUSTER, META, NODE_SEEN, NODES_MAP, PEERS_MAP};
use crate::packet::{Flow, Packet, Words, addr, is_mapped, word};
use crate::report;
use crate::vips::address_entry;
use crate::write::{Ip, Link, put16, put32};

const UDP: u8 = 17;
const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const UDP_HEADER: usize = 8;
const HEADER: usize = size_of::<Header>();

/// It is not ours.
pub(crate) const FOREIGN: u32 = 0x100;
/// It was a probe, and its answer stands there.
pub(crate) const PROBED: u32 = 0x101;
/// It was the answer to a probe.
pub(crate) const RETURNED: u32 = 0x102;

/// Takes a packet out of the tunnel if it is one of ours: what was read of it before is void then, and the answer is how
/// many candidates had their turn before this node. Else one of the constants above.
#[inline(always)]
pub(crate) fn open<C: Context>(ctx: &C, outer: &mut Flow) -> u32 {
    opened(ctx, outer).unwrap_or(FOREIGN)
}

#[inline(always)]
fn opened<C: Context>(ctx: &C, outer: &mut Flow) -> Option<u32> {
    let packet = &Packet::of(ctx);
    let cluster = CLUSTER.get(0)?;
    let from = peer(&outer.source)?;
    if cluster.me == 0 || peer(&outer.destination)? != cluster.me || from == cluster.me {
        return None;
    }
    if !outer.is_ipv6() && outer.offset != outer.ip + Ipv4Hdr::LEN as u32 {
        // With options: nobody of ours sends that.
        return None;
    }
    let ip_len = if outer.is_ipv6() { Ipv6Hdr::LEN } else { Ipv4Hdr::LEN };
    let mut room = ip_len;
    let hops = if outer.flags & Flow::UDP_TUNNEL != 0 {
        let header = packet.far::<Header>(outer.ip + (ip_len + UDP_HEADER) as u32)?;
        // The key's halves as they stand in memory.
        let key = u64::from(word(header, 8)) | u64::from(word(header, 12)) << 32;
        let key = u64::from_be(key);
        let [current, previous] = cluster.keys;
        if key != current && (key != previous || previous == 0) {
            return None;
        }
        // SAFETY: `at` checked it.
        let header = unsafe { *header };
        if header.version != Header::VERSION {
            return None;
        }
        if header.flags & Header::PROBE != 0 {
            return answer(ctx, packet, outer).map(|()| PROBED);
        }
        if header.flags & Header::ANSWER != 0 {
            // SAFETY: a helper without arguments.
            let now = unsafe { bpf_ktime_get_ns() };
            let seen = NODE_SEEN.get_ptr_mut(from)?;
            // SAFETY: a checked map value; one word is written.
            unsafe { (*seen).answered_ns = now };
            if header.flags & Header::ARMED != 0 {
                // SAFETY: as above.
                unsafe { (*seen).armed_ns = now };
            }
            if header.flags & Header::SILENT == 0 {
                // SAFETY: as above.
                unsafe { (*seen).led_ns = now };
            }
            return Some(RETURNED);
        }
        room += UDP_HEADER + HEADER;
        header.hops
    } else if cluster.flags & Cluster::TAKES_IPIP == 0 {
        return None;
    } else {
        // The last byte of the identification, or of the flow label.
        let id = if outer.is_ipv6() { 3 } else { 5 };
        // SAFETY: `at` checks it.
        unsafe { *packet.far::<u8>(outer.ip + id)? }
    };
    let inner = outer.ip + room as u32;
    // SAFETY: `at` checks it.
    let version = unsafe { *packet.far::<u8>(inner)? } >> 4;
    let (is_ipv6, vip) = match version {
        4 => {
            let header = packet.far::<[u8; Ipv4Hdr::LEN]>(inner)?;
            (false, address_entry(&crate::packet::mapped(word(header, 16)))?)
        }
        6 => {
            let header = packet.far::<[u8; Ipv6Hdr::LEN]>(inner)?;
            let destination = [word(header, 24), word(header, 28), word(header, 32), word(header, 36)];
            if is_mapped(&destination) {
                return None;
            }
            (true, address_entry(&destination)?)
        }
        _ => return None,
    };
    if vip.pool == 0 || vip.flags & VipVal::PORTS_ONLY != 0 {
        return None;
    }
    let link = Link::of(packet, outer.ip, is_ipv6)?;
    if !ctx.shrink(room as u16, is_ipv6, is_ipv6 != outer.is_ipv6()) {
        return None;
    }
    link.write(ctx)?;
    Some(u32::from(hops))
}

#[inline(always)]
fn peer(address: &Words) -> Option<u32> {
    // SAFETY: the agent never writes through these references; a value replaced under us is a whole older or newer one.
    unsafe { PEERS_MAP.get(&addr(*address)).copied() }
}

/// Turns a probe into its answer: back the same way, with the other flag, and with a word on the agent.
#[inline(always)]
fn answer<C: Context>(ctx: &C, packet: &Packet, outer: &mut Flow) -> Option<()> {
    let link = Link::of(packet, outer.ip, outer.is_ipv6())?.reversed();
    let udp = if outer.is_ipv6() {
        let base = packet.far::<[u8; Ipv6Hdr::LEN]>(outer.ip)? as usize;
        let mut at = 0;
        while at < 4 {
            put32(base, 8 + 4 * at, outer.destination[at]);
            put32(base, 24 + 4 * at, outer.source[at]);
            at += 1;
        }
        outer.ip + Ipv6Hdr::LEN as u32
    } else {
        let base = packet.far::<[u8; Ipv4Hdr::LEN]>(outer.ip)? as usize;
        put32(base, 12, outer.destination[3]);
        put32(base, 16, outer.source[3]);
        outer.ip + Ipv4Hdr::LEN as u32
    };
    let header = packet.far::<[u8; UDP_HEADER + HEADER]>(udp)? as usize;
    put16(header, 6, 0);
    let now = outer.now();
    let armed = if cookie::is_armed(cookie::me(), now) { Header::ARMED } else { 0 };
    let is_led = META.get(0).is_some_and(|meta| meta.is_alive(now));
    let silent = if is_led { 0 } else { Header::SILENT };
    put16(header, UDP_HEADER + 2, u16::from_ne_bytes([Header::ANSWER | armed | silent, 0]));
    link.write(ctx)
}

/// There is no way to the node.
pub(crate) const UNREACHABLE: u64 = 0;
/// The packet is too long for the way; the low bits say how long it may be.
pub(crate) const TOO_BIG: u64 = 1 << 32;

/// Puts the packet into the tunnel to a node. The answer is the number of the interface by which it leaves, or one of the
/// constants above.
#[inline(always)]
pub(crate) fn send<C: Context>(ctx: &C, flow: &Flow) -> u64 {
    let (Some(cluster), Some(node)) = (CLUSTER.get(0), NODES_MAP.get(flow.node)) else {
        return UNREACHABLE;
    };
    let is_udp = cluster.flags & Cluster::IPIP == 0;
    let outer_is_ipv6 = !is_mapped(&words(&node.addr));
    let room = overhead(is_udp, outer_is_ipv6);
    let length = ctx.length() as u32;
    let end = if flow.end < length { flow.end } else { length };
    let inner = (end - flow.ip) as u16;
    if u32::from(inner) + u32::from(room) > u32::from(node.mtu) {
        return TOO_BIG | u64::from(node.mtu.saturating_sub(room));
    }
    let Some(hop) = next_hop(ctx, node, outer_is_ipv6) else { return UNREACHABLE };
    let link = Link::to(node, hop.mac, hop.source_mac, outer_is_ipv6);
    let outer = OuterHeaders { is_ipv6: outer_is_ipv6, is_udp };
    if !ctx.grow(room, link.len as i32 - flow.ip as i32, outer) || link.write(ctx).is_none() {
        return UNREACHABLE;
    }
    let protocol = if flow.is_ipv6() { IPV6_IN_IP } else { IPIP };
    let ip = Ip {
        source: words(&node.source),
        destination: words(&node.addr),
        protocol: if is_udp { UDP } else { protocol },
        payload: inner + if is_udp { (UDP_HEADER + HEADER) as u16 } else { 0 },
        id: flow.next_hops as u16,
    };
    let packet = Packet::of(ctx);
    let udp = if outer_is_ipv6 {
        let Some(base) = packet.at::<[u8; Ipv6Hdr::LEN]>(link.len) else { return UNREACHABLE };
        ip.write6(base as usize);
        link.len + Ipv6Hdr::LEN
    } else {
        let Some(base) = packet.at::<[u8; Ipv4Hdr::LEN]>(link.len) else { return UNREACHABLE };
        ip.write4(base as usize);
        link.len + Ipv4Hdr::LEN
    };
    if is_udp {
        let Some(base) = packet.at::<[u8; UDP_HEADER + HEADER]>(udp) else { return UNREACHABLE };
        let base = base as usize;
        put16(base, 0, source_port(flow.hash).to_be());
        put16(base, 2, PORT.to_be());
        put16(base, 4, ip.payload.to_be());
        put16(base, 6, 0);
        put32(base, 8, u32::from_ne_bytes([Header::VERSION, flow.next_hops as u8, 0, protocol]));
        put32(base, 12, flow.pool.to_be());
        let key = cluster.keys[0].to_be();
        put32(base, 16, key as u32);
        put32(base, 20, (key >> 32) as u32);
    }
    report::sent_on(flow.node, u64::from(inner) + u64::from(room) + link.len as u64);
    u64::from(hop.interface)
}

/// Where a packet leaves.
pub(crate) struct Hop {
    /// Of the next hop.
    pub(crate) mac: [u8; 6],
    /// Of our interface.
    pub(crate) source_mac: [u8; 6],
    pub(crate) interface: u32,
}

/// What the agent knows, else what the kernel does.
#[inline(always)]
fn next_hop<C: Context>(ctx: &C, node: &NodeVal, is_ipv6: bool) -> Option<Hop> {
    if node.ifindex == 0 {
        return None;
    }
    if node.mac != [0; 6] {
        return Some(Hop { mac: node.mac, source_mac: node.source_mac, interface: node.ifindex });
    }
    route(ctx, &words(&node.source), &words(&node.addr), is_ipv6)
}

/// Asks the kernel for the way to an address.
#[inline(always)]
pub(crate) fn route<C: Context>(ctx: &C, source: &Words, destination: &Words, is_ipv6: bool) -> Option<Hop> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    // SAFETY: integers and arrays of integers, for which zeros are a value.
    let mut question: FibLookup = unsafe { core::mem::zeroed() };
    question.family = if is_ipv6 { AF_INET6 } else { AF_INET };
    question.ifindex = ctx.interface();
    if is_ipv6 {
        question.__bindgen_anon_3.ipv6_src = *source;
        question.__bindgen_anon_4.ipv6_dst = *destination;
    } else {
        question.__bindgen_anon_3.ipv4_src = source[3];
        question.__bindgen_anon_4.ipv4_dst = destination[3];
    }
    // SAFETY: the context is that of this program, and the question is as long as is said.
    let answer = unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut question, size_of::<FibLookup>() as i32, 0) };
    (answer == 0).then_some(Hop {
        mac: question.dmac,
        source_mac: question.smac,
        interface: question.ifindex,
    })
}

/// An address of a map as words.
#[inline(always)]
fn words(addr: &[u8; 16]) -> Words {
    // SAFETY: 16 bytes without padding on both sides.
    unsafe { core::mem::transmute::<[u8; 16], Words>(*addr) }
}
