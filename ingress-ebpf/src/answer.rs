//! Answers that the program gives itself: "too big" for what does not fit through the tunnel, and the echo of a VIP.

use crate::context::{Context, OuterHeaders};
use crate::packet::{Flow, Packet, word};
use crate::write::{Ip, Link, TTL, fold, halves, put32};

/// The IPv4 header without options, and the ports: what RFC 792 asks to quote.
const QUOTED_4: usize = 28;
/// As much of an IPv6 packet: its header, the transport header's first words. RFC 4443 asks for more where there is more;
/// who finds its flow by the ports needs no more.
const QUOTED_6: usize = 48;
const ICMP: usize = 8;
const IPV4: usize = 20;
const IPV6: usize = 40;

/// Turns the packet into the answer that says how long it may be (RFC 1191, RFC 8201), on its way back. Not for IPv4
/// packets with options, nor for those that permit to be cut into fragments.
#[inline(always)]
pub(crate) fn too_big<C: Context>(ctx: &C, flow: &Flow, mtu: u16) -> bool {
    let packet = &Packet::of(ctx);
    let made =
        if flow.is_ipv6() { too_big6(ctx, packet, flow, mtu) } else { too_big4(ctx, packet, flow, mtu) };
    made.is_some()
}

#[inline(always)]
fn too_big4<C: Context>(ctx: &C, packet: &Packet, flow: &Flow, mtu: u16) -> Option<()> {
    let quoted = packet.far::<[u8; QUOTED_4]>(flow.ip)?;
    let words = [0, 4, 8, 12, 16, 20, 24].map(|at| word(quoted, at));
    let [first, fragment, ..] = words;
    // Without options, and not to be fragmented.
    if first.to_ne_bytes()[0] != 0x45 || fragment.to_ne_bytes()[2] & 0x40 == 0 {
        return None;
    }
    let link = Link::of(packet, flow.ip, false)?.reversed();
    if !ctx.resize(flow.ip as u16 + QUOTED_4 as u16)
        || !ctx.grow((IPV4 + ICMP) as u16, 0, OuterHeaders { is_ipv6: false, is_udp: false })
    {
        return None;
    }
    link.write(ctx)?;
    let packet = Packet::of(ctx);
    let base = packet.far::<[u8; IPV4 + ICMP]>(flow.ip)? as usize;
    let ip = Ip {
        source: flow.destination,
        destination: flow.source,
        protocol: 1,
        payload: (ICMP + QUOTED_4) as u16,
        id: 0,
    };
    ip.write4(base);
    // Type 3, code 4: fragmentation needed.
    let kind = u32::from_ne_bytes([3, 4, 0, 0]);
    let [high, low] = mtu.to_be_bytes();
    let limit = u32::from_ne_bytes([0, 0, high, low]);
    let sum = words.iter().fold(halves(kind) + halves(limit), |sum, word| sum + halves(*word));
    put32(base, IPV4, kind | u32::from(!fold(sum)) << 16);
    put32(base, IPV4 + 4, limit);
    Some(())
}

#[inline(always)]
fn too_big6<C: Context>(ctx: &C, packet: &Packet, flow: &Flow, mtu: u16) -> Option<()> {
    let quoted = packet.far::<[u8; QUOTED_6]>(flow.ip)?;
    let mut sum = 0;
    let mut at = 0;
    while at < QUOTED_6 {
        sum += halves(word(quoted, at));
        at += 4;
    }
    let link = Link::of(packet, flow.ip, true)?.reversed();
    if !ctx.resize(flow.ip as u16 + QUOTED_6 as u16)
        || !ctx.grow((IPV6 + ICMP) as u16, 0, OuterHeaders { is_ipv6: true, is_udp: false })
    {
        return None;
    }
    link.write(ctx)?;
    let packet = Packet::of(ctx);
    let base = packet.far::<[u8; IPV6 + ICMP]>(flow.ip)? as usize;
    let ip = Ip {
        source: flow.destination,
        destination: flow.source,
        protocol: 58,
        payload: (ICMP + QUOTED_6) as u16,
        id: 0,
    };
    ip.write6(base);
    let kind = u32::from_ne_bytes([2, 0, 0, 0]);
    let limit = u32::from(mtu).to_be();
    // The pseudo header (RFC 8200, 8.1): addresses, length, next header.
    for address in [&ip.source, &ip.destination] {
        for word in address {
            sum += halves(*word);
        }
    }
    sum += u64::from(ip.payload.to_be()) + u64::from(58_u16.to_be()) + halves(kind) + halves(limit);
    put32(base, IPV6, kind | u32::from(!fold(sum)) << 16);
    put32(base, IPV6 + 4, limit);
    Some(())
}

/// Turns an echo request into its reply (RFC 792, RFC 4443), on its way back. Fragments, options and requests that no reply
/// may follow are left to the stack.
#[inline(always)]
pub(crate) fn echo<C: Context>(ctx: &C, flow: &Flow) -> bool {
    let header = if flow.is_ipv6() { IPV6 } else { IPV4 };
    let is_plain = flow.offset == flow.ip + header as u32 && flow.flags & Flow::PART == 0;
    let is_there = flow.offset + ICMP as u32 <= flow.end && u64::from(flow.end) <= ctx.length();
    if !is_plain
        || !is_there
        || flow.hops != Flow::FROM_NETWORK
        || !may_be_answered(flow)
        || !ctx.can_answer()
    {
        return false;
    }
    let packet = &Packet::of(ctx);
    let Some(link) = Link::of(packet, flow.ip, flow.is_ipv6()) else { return false };
    // To one interface, from one.
    if link.macs[0] & 1 != 0 || link.macs[1] >> 16 & 1 != 0 {
        return false;
    }
    let turned = if flow.is_ipv6() { echo6(packet, flow) } else { echo4(packet, flow) };
    turned.is_some() && link.reversed().write(ctx).is_some()
}

/// Whether the source is an address of one host, which an answer can reach.
#[inline(always)]
fn may_be_answered(flow: &Flow) -> bool {
    let [first, .., last] = flow.source;
    let [first, ..] = if flow.is_ipv6() { first.to_ne_bytes() } else { last.to_ne_bytes() };
    if flow.is_ipv6() { first != 0 && first != 0xff } else { first != 0 && first != 127 && first < 224 }
}

#[inline(always)]
fn echo4(packet: &Packet, flow: &Flow) -> Option<()> {
    let header = packet.far::<[u8; IPV4 + ICMP]>(flow.ip)?;
    let words = [0, 4, 8, 12, 16].map(|at| word(header, at));
    if fold(words.iter().fold(0, |sum, word| sum + halves(*word))) != u16::MAX {
        return None;
    }
    let [first, second, life, source, destination] = words;
    let [_, protocol, ..] = life.to_ne_bytes();
    let life = u32::from_ne_bytes([TTL, protocol, 0, 0]);
    let sum = [first, second, life, source, destination].iter().fold(0, |sum, word| sum + halves(*word));
    let kind = word(header, IPV4);
    let base = header as usize;
    put32(base, 8, life | u32::from(!fold(sum)) << 16);
    put32(base, 12, destination);
    put32(base, 16, source);
    put32(base, IPV4, of_kind(kind, 0));
    Some(())
}

/// The addresses change places, so of what the checksum covers only the type changes.
#[inline(always)]
fn echo6(packet: &Packet, flow: &Flow) -> Option<()> {
    const REPLY: u8 = 129;
    let header = packet.far::<[u8; IPV6 + ICMP]>(flow.ip)?;
    let [high, low, protocol, _] = word(header, 4).to_ne_bytes();
    let kind = word(header, IPV6);
    let base = header as usize;
    put32(base, 4, u32::from_ne_bytes([high, low, protocol, TTL]));
    let mut at = 0;
    while at < 4 {
        put32(base, 8 + 4 * at, flow.destination[at]);
        put32(base, 24 + 4 * at, flow.source[at]);
        at += 1;
    }
    put32(base, IPV6, of_kind(kind, REPLY));
    Some(())
}

/// The first word of an ICMP header with another type, its checksum corrected (RFC 1624).
#[inline(always)]
fn of_kind(word: u32, kind: u8) -> u32 {
    let before = word as u16;
    let after = before & 0xff00 | u16::from(kind);
    let sum = u64::from(!((word >> 16) as u16)) + u64::from(!before) + u64::from(after);
    u32::from(after) | u32::from(!fold(sum)) << 16
}
