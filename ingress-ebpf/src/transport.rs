//! What a packet for a served address carries: extension headers, TCP, UDP, ICMP → payload and ports.
//!
//! Followed: IPv4 options, up to [`MAX_EXTENSIONS`] IPv6 extension headers, and first fragments, so that none of them is a
//! way around lists and limits. Later fragments have no ports; the first one decides for them, since without it the stack
//! never puts the packet together. An ICMP error belongs to the flow of the packet that it quotes.
#![expect(unsafe_code, reason = "packet memory is reached through raw pointers")]

use core::mem::offset_of;

use ingress_common::flow::{Payload, TCP, UDP};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::context::Context;
use crate::packet::{Flow, Packet, Words, address, mapped, word};

/// IPv6 extension headers that are followed; more pass up, after the lists.
const MAX_EXTENSIONS: usize = 4;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Reads on to the ports.
#[inline(always)]
pub(crate) fn read<C: Context>(ctx: &C, flow: &mut Flow) {
    let packet = Packet::of(ctx);
    flow.client = flow.source;
    if flow.is_ipv6() {
        return extensions(&packet, flow);
    }
    if flow.fragment & 0x1fff != 0 {
        return flow.carries(Payload::Fragment);
    }
    if flow.fragment & 0x2000 != 0 {
        flow.flags |= Flow::PART;
    }
    transport(&packet, flow, flow.protocol as u8);
}

/// Follows the extension headers to the transport header (RFC 8200, section 4).
#[inline(always)]
fn extensions(packet: &Packet, flow: &mut Flow) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let mut protocol = flow.protocol as u8;
    let mut followed = 0;
    while matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
        if followed == MAX_EXTENSIONS {
            return flow.carries(Payload::LongChain);
        }
        followed += 1;
        let Some(header) = packet.far::<[u8; 8]>(flow.offset) else { return flow.carries(Payload::Cut) };
        // SAFETY: checked by `far`.
        let [next, len, high, low, ..] = unsafe { *header };
        if protocol == FRAGMENT {
            let field = u16::from_be_bytes([high, low]);
            if field & 0xfff8 != 0 {
                return flow.carries(Payload::Fragment);
            }
            if field & 1 != 0 {
                flow.flags |= Flow::PART;
            }
            flow.offset += 8;
        } else {
            flow.offset += 8 + u32::from(len) * 8;
        }
        protocol = next;
    }
    transport(packet, flow, protocol);
}

#[inline(always)]
fn transport(packet: &Packet, flow: &mut Flow, protocol: u8) {
    match protocol {
        TCP => tcp(packet, flow),
        UDP => match packet.far::<[u8; UdpHdr::LEN]>(flow.offset) {
            Some(header) => {
                // SAFETY: checked by `far`.
                let [a, b, c, d, ..] = unsafe { *header };
                flow.ports = u32::from_ne_bytes([a, b, c, d]);
                flow.carries(Payload::Udp(port([a, b, c, d])));
            }
            None => flow.carries(Payload::Cut),
        },
        ICMP if !flow.is_ipv6() => icmp(packet, flow),
        ICMPV6 if flow.is_ipv6() => icmpv6(packet, flow),
        _ => flow.carries(Payload::Other),
    }
}

/// What RFC 792 calls an error quotes the packet that caused it: ours, from the served port to the client.
#[inline(always)]
fn icmp(packet: &Packet, flow: &mut Flow) {
    const ECHO: u8 = 8;
    flow.carries(Payload::Other);
    let Some(header) = packet.far::<[u8; 8]>(flow.offset) else { return };
    // SAFETY: checked by `far`.
    match unsafe { (*header)[0] } {
        ECHO => return flow.carries(Payload::Echo),
        // Unreachable (with "fragmentation needed"), source quench, time exceeded, parameter problem.
        3 | 4 | 11 | 12 => {}
        _ => return,
    }
    let Some(quoted) = packet.far::<[u8; Ipv4Hdr::LEN]>(flow.offset + 8) else { return };
    // SAFETY: checked by `far`.
    let (vihl, frags, protocol) = unsafe { ((*quoted)[0], [(*quoted)[6], (*quoted)[7]], (*quoted)[9]) };
    if vihl >> 4 != 4 || vihl & 0x0f < 5 || u16::from_be_bytes(frags) & 0x1fff != 0 {
        return;
    }
    let client = mapped(word(quoted, 16));
    quoted_ports(packet, flow, client, protocol, flow.offset + 8 + u32::from(vihl & 0x0f) * 4);
}

/// The same of RFC 4443. The quoted packet is followed where its transport header comes first, as in what we send.
#[inline(always)]
fn icmpv6(packet: &Packet, flow: &mut Flow) {
    const ECHO: u8 = 128;
    flow.carries(Payload::Other);
    let Some(header) = packet.far::<[u8; 8]>(flow.offset) else { return };
    // SAFETY: checked by `far`.
    match unsafe { (*header)[0] } {
        ECHO => return flow.carries(Payload::Echo),
        // A neighbour is asked for, or tells of itself.
        135 | 136 => {
            flow.flags |= Flow::NEIGHBOUR;
            return;
        }
        1..=4 => {}
        _ => return,
    }
    let Some(quoted) = packet.far::<[u8; Ipv6Hdr::LEN]>(flow.offset + 8) else { return };
    // SAFETY: checked by `far`.
    let (version, protocol) = unsafe { ((*quoted)[0], (*quoted)[6]) };
    if version >> 4 == 6 {
        let client = address(quoted.cast(), offset_of!(Ipv6Hdr, dst_addr));
        quoted_ports(packet, flow, client, protocol, flow.offset + 8 + Ipv6Hdr::LEN as u32);
    }
}

/// The ports of a quoted packet, turned round: as in the packets of its flow that come to us.
#[inline(always)]
fn quoted_ports(packet: &Packet, flow: &mut Flow, client: Words, protocol: u8, offset: u32) {
    if protocol != TCP && protocol != UDP {
        return;
    }
    let Some(ports) = packet.far::<[u8; 4]>(offset) else { return };
    // SAFETY: checked by `far`.
    let [a, b, c, d] = unsafe { *ports };
    flow.client = client;
    flow.ports = u32::from_ne_bytes([c, d, a, b]);
    flow.carries(Payload::Error(u16::from_be_bytes([a, b]), protocol));
}

#[inline(always)]
fn tcp(packet: &Packet, flow: &mut Flow) {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    /// Where the flags are: two bytes of data offset and flags follow the acknowledgement number.
    const FLAGS: usize = offset_of!(TcpHdr, window) - 1;
    let is_part = flow.flags & Flow::PART != 0;
    let Some(header) = packet.far::<[u8; TcpHdr::LEN]>(flow.offset) else {
        // The ports of a first fragment can be there without the flags; see below.
        match packet.far::<[u8; 4]>(flow.offset) {
            Some(ports) if is_part => {
                // SAFETY: checked by `far`.
                let ports = unsafe { *ports };
                flow.ports = u32::from_ne_bytes(ports);
                flow.carries(Payload::TcpOpen(port(ports)));
            }
            _ => flow.carries(Payload::Cut),
        }
        return;
    };
    // SAFETY: checked by `far`.
    let header = unsafe { &*header };
    let ports = [header[0], header[1], header[2], header[3]];
    flow.ports = u32::from_ne_bytes(ports);
    // A first fragment too short for the flags hides them in the next one; what looks like flags here is padding. Only
    // an attack does that, so it is charged as what it hides.
    let hides_flags = is_part && flow.offset + TcpHdr::LEN as u32 > flow.end;
    if hides_flags || header[FLAGS] & (SYN | ACK) == SYN {
        flow.carries(Payload::TcpOpen(port(ports)));
    } else {
        flow.carries(Payload::Tcp(port(ports)));
    }
}

/// The destination port in the first four bytes of a TCP header.
#[inline(always)]
fn port([_, _, high, low]: [u8; 4]) -> u16 {
    u16::from_be_bytes([high, low])
}
