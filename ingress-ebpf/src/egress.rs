//! What leaves the node from a served address: counted, and put right where the stack does not know what steering does.
//!
//! Two things are changed. An ARP request whose sender is a VIP teaches every neighbour that the VIP is at this node; its
//! sender becomes the interface's own address. A SYN-ACK of a VIP whose packets arrive encapsulated promises segments
//! that do not fit; its MSS is lowered. Everything goes on to the programs behind this one.
#![expect(unsafe_code, reason = "checked headers and per-CPU map values are reached through raw pointers")]

use core::mem::offset_of;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use ingress_common::announce::Part;
use ingress_common::flow::{TCP, UDP};
use ingress_common::maps::VipVal;
use network_types::arp::ArpHdr;
use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::vlan::VlanHdr;

use crate::announce;
use crate::context::{Context as _, field};
use crate::maps::IFACES_MAP;
use crate::packet::{Packet, Words, address, mapped, word};
use crate::report;
use crate::tc::TC_ACT_UNSPEC;
use crate::vips::entry;

const IPV4: u16 = EtherType::Ipv4 as u16;
const IPV6: u16 = EtherType::Ipv6 as u16;
const ARP: u16 = EtherType::Arp as u16;

/// TCP options that are looked at; the stack writes the MSS first.
const MAX_OPTIONS: u32 = 8;

/// A packet from a served address.
struct Leaving {
    vip: &'static VipVal,
    source: Words,
    destination: Words,
    protocol: u8,
    /// Where the transport header begins.
    offset: usize,
    /// Not the first fragment: there is no transport header.
    is_fragment: bool,
}

#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> i32 {
    ctx.pull();
    let packet = Packet::of(ctx);
    let Some((ether_type, offset)) = ethernet(&packet) else { return TC_ACT_UNSPEC };
    let leaving = match ether_type {
        IPV4 => ipv4(&packet, offset),
        IPV6 => ipv6(&packet, offset),
        ARP => {
            arp(ctx, &packet, offset);
            None
        }
        _ => None,
    };
    if let Some(leaving) = leaving
        && let Some(is_syn_ack) = served(&packet, &leaving)
    {
        let segments = field!(ctx.skb.skb, offset_of!(__sk_buff, gso_segs)).max(1);
        report::sent(leaving.vip.vip_id, &leaving.destination, segments, ctx.length());
        if is_syn_ack && leaving.vip.mss != 0 {
            lower_mss(ctx, leaving.offset, leaving.vip.mss);
        }
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn ethernet(packet: &Packet) -> Option<(u16, usize)> {
    const VLAN: u16 = EtherType::Ieee8021q as u16;
    let header = packet.at::<EthHdr>(0)?;
    // SAFETY: `at` checked that the whole header is there; this holds for every read below.
    let ether_type = unsafe { (*header).ether_type };
    if ether_type != VLAN {
        return Some((ether_type, EthHdr::LEN));
    }
    let tag = packet.at::<VlanHdr>(EthHdr::LEN)?;
    // SAFETY: checked by `at`.
    Some((unsafe { (*tag).ether_type }, EthHdr::LEN + VlanHdr::LEN))
}

#[inline(always)]
fn ipv4(packet: &Packet, offset: usize) -> Option<Leaving> {
    let header = packet.at::<Ipv4Hdr>(offset)?;
    let source = mapped(word(header, offset_of!(Ipv4Hdr, src_addr)));
    let vip = entry(&source, 0, 0)?;
    // SAFETY: checked by `at`.
    let (vihl, protocol, frags) = unsafe { ((*header).vihl, (*header).proto, (*header).frags) };
    Some(Leaving {
        vip,
        source,
        destination: mapped(word(header, offset_of!(Ipv4Hdr, dst_addr))),
        protocol,
        offset: offset + usize::from(vihl & 0x0f) * 4,
        is_fragment: u16::from_be_bytes(frags) & 0x1fff != 0,
    })
}

/// Extension headers are not followed: the stack writes none into a connection's packets.
#[inline(always)]
fn ipv6(packet: &Packet, offset: usize) -> Option<Leaving> {
    let header = packet.at::<Ipv6Hdr>(offset)?;
    let source = address(header, offset_of!(Ipv6Hdr, src_addr));
    let vip = entry(&source, 0, 0)?;
    Some(Leaving {
        vip,
        source,
        destination: address(header, offset_of!(Ipv6Hdr, dst_addr)),
        // SAFETY: checked by `at`.
        protocol: unsafe { (*header).next_hdr },
        offset: offset + Ipv6Hdr::LEN,
        is_fragment: false,
    })
}

/// Whether the packet is a SYN-ACK; `None` when it is not ours: from a port of the node itself.
#[inline(always)]
fn served(packet: &Packet, leaving: &Leaving) -> Option<bool> {
    const SYN_ACK: u8 = 0x12;
    const FLAGS: usize = offset_of!(TcpHdr, window) - 1;
    let is_ours = leaving.vip.flags & VipVal::PORTS_ONLY == 0;
    if leaving.is_fragment || (leaving.protocol != TCP && leaving.protocol != UDP) {
        return is_ours.then_some(false);
    }
    let Some(ports) = packet.at::<[u8; 4]>(leaving.offset) else { return is_ours.then_some(false) };
    // SAFETY: checked by `at`.
    let [high, low, ..] = unsafe { *ports };
    let port = u16::from_be_bytes([high, low]);
    if !is_ours {
        if leaving.vip.ports & VipVal::port_bit(port) == 0 {
            return None;
        }
        entry(&leaving.source, port, leaving.protocol)?;
    }
    if leaving.protocol != TCP {
        return Some(false);
    }
    let Some(header) = packet.at::<[u8; TcpHdr::LEN]>(leaving.offset) else { return Some(false) };
    // SAFETY: checked by `at`.
    Some(unsafe { (*header)[FLAGS] } & SYN_ACK == SYN_ACK)
}

/// A request from a VIP that this node does not announce: asked in the name of the interface. Without an address it
/// becomes a probe, which is answered all the same and teaches nobody anything.
#[inline(always)]
fn arp(ctx: &TcContext, packet: &Packet, offset: usize) {
    const REQUEST: [u8; 2] = [0, 1];
    let Some(header) = packet.at::<ArpHdr>(offset) else { return };
    // SAFETY: checked by `at`.
    let operation = unsafe { (*header).oper };
    let sender = word(header, offset_of!(ArpHdr, spa));
    // An announcement asks for its own sender.
    if operation != REQUEST || sender == word(header, offset_of!(ArpHdr, tpa)) {
        return;
    }
    let Some(vip) = entry(&mapped(sender), 0, 0) else { return };
    if vip.flags & VipVal::PORTS_ONLY != 0 || matches!(announce::part_of(vip), Part::Answers) {
        return;
    }
    let index = field!(ctx.skb.skb, offset_of!(__sk_buff, ifindex)) as u32;
    // SAFETY: the agent never writes through this reference.
    let own = unsafe { IFACES_MAP.get(index) }.map_or([0; 4], |iface| iface.addr4);
    // Refused, it goes out as it was, which a later answer of the announcing node corrects.
    let _ = ctx.store(offset + offset_of!(ArpHdr, spa), &own, 0);
}

/// Lowers the MSS option of a TCP header, and keeps the checksum right; one that the hardware fills in is left to it.
#[inline(always)]
fn lower_mss(ctx: &TcContext, offset: usize, mss: u16) {
    const END: u8 = 0;
    const PAD: u8 = 1;
    const MSS: u8 = 2;
    let Ok(data_offset) = ctx.load::<u8>(offset + 12) else { return };
    let end = offset + usize::from(data_offset >> 4) * 4;
    let mut at = offset + TcpHdr::LEN;
    let mut seen = 0;
    while seen < MAX_OPTIONS && at + 4 <= end {
        seen += 1;
        let Ok([kind, len, high, low]) = ctx.load::<[u8; 4]>(at) else { return };
        match kind {
            END => return,
            PAD => at += 1,
            MSS => {
                if u16::from_be_bytes([high, low]) > mss {
                    replace(ctx, offset, at + 2, [high, low], mss.to_be_bytes());
                }
                return;
            }
            _ if len < 2 => return,
            _ => at += usize::from(len),
        }
    }
}

#[inline(always)]
fn replace(ctx: &TcContext, header: usize, at: usize, old: [u8; 2], new: [u8; 2]) {
    const SIZE: u64 = 2;
    let (mut from, mut to) = (u16::from_ne_bytes(old), u16::from_ne_bytes(new));
    if (at - header) & 1 == 1 {
        // Behind a single padding byte the option lies across two words of the checksum.
        (from, to) = (from.swap_bytes(), to.swap_bytes());
    }
    if ctx.store(at, &new, 0).is_ok() {
        let _ = ctx.l4_csum_replace(header + offset_of!(TcpHdr, check), u64::from(from), u64::from(to), SIZE);
    }
}
