//! What neighbours say and ask about VIPs: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861).
//!
//! A question is answered by the node that announces the VIP; on every other node it ends here, because the stack, for
//! which the VIP is a local address, would answer it. What somebody else says of a VIP that this node announces is
//! counted, and passes like everything that is not about a VIP.
#![expect(unsafe_code, reason = "references into maps, a reason leaves a stage as a number")]

use core::mem::transmute;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use ingress_common::announce::{Part, part};
use ingress_common::maps::{IfaceVal, VipVal};
use ingress_common::verdict::Reason;

use crate::context::Context;
use crate::maps::{IFACES_MAP, META};
use crate::packet::{Flow, Packet, Words, is_mapped, mapped, word};
use crate::vips::address_entry;
use crate::write::{Ip, fold, halves, put16, put32};

const ETHERNET: usize = 14;
const ARP: usize = 28;
const IPV6: usize = 40;
const ICMPV6: u8 = 58;
/// A solicitation or advertisement without options.
const MESSAGE: usize = 24;
/// One with a hardware address.
const ADVERTISEMENT: usize = 32;
/// The longest message that is read.
const LONGEST: u32 = 64;
/// An option of neighbour discovery is as long as this, or a multiple.
const OPTION: u32 = 8;

/// Ethernet and IPv4.
const ETHERNET_IPV4: u32 = u32::from_ne_bytes([0, 1, 8, 0]);
const REQUEST: u32 = u32::from_ne_bytes([6, 4, 0, 1]);
const REPLY: u32 = u32::from_ne_bytes([6, 4, 0, 2]);
const SOLICITATION: u8 = 135;
const ADVERTISES: u8 = 136;

/// An Ethernet address in words as they stand in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mac(u32, u16);

/// That of all nodes on the link, and their group, ff02::1.
const ALL_NODES_MAC: Mac = Mac(u32::from_ne_bytes([0x33, 0x33, 0, 0]), u16::from_ne_bytes([0, 1]));
const ALL_NODES: Words = [0xff02_0000_u32.to_be(), 0, 0, 1_u32.to_be()];

impl Mac {
    /// The one at an offset of checked bytes.
    #[inline(always)]
    fn at<T>(header: *const T, offset: usize) -> Self {
        Self(word(header, offset), (word(header, offset + 2) >> 16) as u16)
    }

    #[inline(always)]
    fn put(self, base: usize, offset: usize) {
        put32(base, offset, self.0);
        put16(base, offset + 4, self.1);
    }

    #[inline(always)]
    const fn is_group(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Under which reason the message is counted; [`Reason::Foreign`] or [`Reason::NotIp`] if it is nothing to us.
#[inline(always)]
pub(crate) fn hear<C: Context>(ctx: &C, flow: &mut Flow) -> Reason {
    let number = ctx.hear(flow);
    // SAFETY: what the stage returns is the number of a reason.
    unsafe { transmute::<u32, Reason>(number) }
}

/// The stage behind [`hear`].
#[inline(always)]
pub(crate) fn heard<C: Context>(ctx: &C, flow: &mut Flow) -> Reason {
    if flow.is_ipv6() {
        discovery(ctx, flow).unwrap_or(Reason::Foreign)
    } else {
        arp(ctx, flow).unwrap_or(Reason::NotIp)
    }
}

/// What this node does when it is asked for a VIP.
#[inline(always)]
pub(crate) fn part_of(vip: &VipVal) -> Part {
    let Some(meta) = META.get(0) else { return Part::StaysOut };
    // SAFETY: a helper without arguments.
    part(vip.flags, meta, unsafe { bpf_ktime_get_coarse_ns() })
}

/// Who spoke to whom, on the wire.
struct Link {
    from: Mac,
    own: Mac,
}

impl Link {
    /// `None` if it is not for this interface or not from one, or if no answer would arrive.
    #[inline(always)]
    fn of<C: Context>(ctx: &C, packet: &Packet) -> Option<Self> {
        let ethernet = packet.at::<[u8; ETHERNET]>(0)?;
        let (to, from) = (Mac::at(ethernet, 0), Mac::at(ethernet, 6));
        // SAFETY: the agent never writes through this reference.
        let iface = unsafe { IFACES_MAP.get(ctx.interface()) }?;
        let [a, b, c, d, e, f] = iface.mac;
        let own = Mac(u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]));
        let is_known = own.0 != 0 || own.1 != 0;
        let is_mute = iface.flags & IfaceVal::MUTE != 0;
        (is_known && !is_mute && !from.is_group() && (to.is_group() || to == own))
            .then_some(Self { from, own })
    }

    /// Writes the way back, or the way to a group.
    #[inline(always)]
    fn answer(&self, packet: &Packet, to: Mac) -> Option<()> {
        let base = packet.at::<[u8; ETHERNET]>(0)? as usize;
        to.put(base, 0);
        self.own.put(base, 6);
        Some(())
    }
}

#[inline(always)]
fn arp<C: Context>(ctx: &C, flow: &mut Flow) -> Option<Reason> {
    let packet = Packet::of(ctx);
    let message = packet.far::<[u8; ARP]>(flow.ip)?;
    if word(message, 0) != ETHERNET_IPV4 {
        return None;
    }
    let operation = word(message, 4);
    let (sender, target) = (word(message, 14), word(message, 24));
    if operation == REQUEST
        && sender != target
        && let Some(vip) = address_entry(&mapped(target))
    {
        flow.vip_id = vip.vip_id;
        match part_of(vip) {
            Part::Answers => return answer_arp(ctx, flow),
            Part::KeepsQuiet => return Some(Reason::Silenced),
            Part::StaysOut => flow.vip_id = 0,
        }
    }
    if operation != REQUEST && operation != REPLY {
        return None;
    }
    claim(ctx, &packet, flow, &mapped(sender))
}

/// Turns a request into its reply. One for another host's hardware address is none of ours.
#[inline(always)]
fn answer_arp<C: Context>(ctx: &C, flow: &mut Flow) -> Option<Reason> {
    let packet = Packet::of(ctx);
    let message = packet.far::<[u8; ARP]>(flow.ip)?;
    let (asker, sender, target) = (Mac::at(message, 8), word(message, 14), word(message, 24));
    let Some(link) = Link::of(ctx, &packet) else {
        flow.vip_id = 0;
        return None;
    };
    link.answer(&packet, link.from)?;
    let base = message as usize;
    put32(base, 4, REPLY);
    link.own.put(base, 8);
    put32(base, 14, target);
    asker.put(base, 18);
    put32(base, 24, sender);
    Some(Reason::Announced)
}

/// Somebody says that an address is his.
#[inline(always)]
fn claim<C: Context>(ctx: &C, packet: &Packet, flow: &mut Flow, address: &Words) -> Option<Reason> {
    let vip = address_entry(address)?;
    if !matches!(part_of(vip), Part::Answers) {
        return None;
    }
    let link = Link::of(ctx, packet)?;
    if link.from == link.own {
        return None;
    }
    flow.vip_id = vip.vip_id;
    Some(Reason::Claimed)
}

#[inline(always)]
fn discovery<C: Context>(ctx: &C, flow: &mut Flow) -> Option<Reason> {
    /// It was not forwarded.
    const HOPS: u8 = 255;
    let packet = Packet::of(ctx);
    let ip = packet.far::<[u8; IPV6]>(flow.ip)?;
    let [high, low, protocol, hops] = word(ip, 4).to_ne_bytes();
    let length = u32::from(u16::from_be_bytes([high, low]));
    if protocol != ICMPV6
        || hops != HOPS
        || length < MESSAGE as u32
        || length > LONGEST
        || length % OPTION != 0
    {
        return None;
    }
    let source = [word(ip, 8), word(ip, 12), word(ip, 16), word(ip, 20)];
    let destination = [word(ip, 24), word(ip, 28), word(ip, 32), word(ip, 36)];
    let icmp = flow.ip + IPV6 as u32;
    let message = packet.far::<[u8; MESSAGE]>(icmp)?;
    let [kind, code, ..] = word(message, 0).to_ne_bytes();
    let target = [word(message, 8), word(message, 12), word(message, 16), word(message, 20)];
    if code != 0 || (kind != SOLICITATION && kind != ADVERTISES) || is_mapped(&target) {
        return None;
    }
    let vip = address_entry(&target)?;
    let part = part_of(vip);
    if matches!(part, Part::StaysOut) || !is_whole(&packet, icmp, length, &source, &destination) {
        return None;
    }
    if kind == ADVERTISES {
        return claim(ctx, &packet, flow, &target);
    }
    let asks_group = destination[0].to_ne_bytes()[0] == 0xff;
    if source == [0; 4] && !asks_group {
        return None;
    }
    if matches!(part, Part::KeepsQuiet) {
        flow.vip_id = vip.vip_id;
        return Some(Reason::Silenced);
    }
    let vip_id = vip.vip_id;
    let link = Link::of(ctx, &packet)?;
    advertise(ctx, flow, &link, &source, &target)?;
    flow.vip_id = vip_id;
    Some(Reason::Announced)
}

/// Whether checksum and options of a message are right.
#[inline(always)]
fn is_whole(packet: &Packet, icmp: u32, length: u32, source: &Words, destination: &Words) -> bool {
    let mut sum = pseudo(source, destination, length as u16);
    let mut at = 0;
    while at < LONGEST {
        if at < length {
            let Some(bytes) = packet.far::<[u8; OPTION as usize]>(icmp + at) else { return false };
            let first = word(bytes, 0);
            // The second byte of an option is its length (RFC 4861, 4.6).
            if at >= MESSAGE as u32 && first.to_ne_bytes()[1] == 0 {
                // One of zero, or data of a longer option that looks like it: the stack may look closer.
                return false;
            }
            sum += halves(first) + halves(word(bytes, 4));
        }
        at += OPTION;
    }
    fold(sum) == u16::MAX
}

/// The sum of the pseudo header (RFC 8200, 8.1).
#[inline(always)]
fn pseudo(source: &Words, destination: &Words, length: u16) -> u64 {
    let mut sum = u64::from(length.to_be()) + u64::from(u16::from(ICMPV6).to_be());
    let mut at = 0;
    while at < 4 {
        sum += halves(source[at]) + halves(destination[at]);
        at += 1;
    }
    sum
}

/// Turns a solicitation into the advertisement that answers it: to who asked or, where nobody has an address yet
/// (RFC 4862, 5.4), to all nodes.
#[inline(always)]
fn advertise<C: Context>(ctx: &C, flow: &Flow, link: &Link, source: &Words, target: &Words) -> Option<()> {
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    const TARGET_ADDRESS: u8 = 2;
    const HOPS: u8 = 255;
    let is_probe = *source == [0; 4];
    if !ctx.resize((flow.ip as usize + IPV6 + ADVERTISEMENT) as u16) {
        return None;
    }
    let packet = Packet::of(ctx);
    link.answer(&packet, if is_probe { ALL_NODES_MAC } else { link.from })?;
    let destination = if is_probe { ALL_NODES } else { *source };
    let base = packet.far::<[u8; IPV6 + ADVERTISEMENT]>(flow.ip)? as usize;
    let length = ADVERTISEMENT as u16;
    Ip { source: *target, destination, protocol: ICMPV6, payload: length, id: 0 }.write6(base);
    let [high, low] = length.to_be_bytes();
    put32(base, 4, u32::from_ne_bytes([high, low, ICMPV6, HOPS]));
    let kind = u32::from_ne_bytes([ADVERTISES, 0, 0, 0]);
    let flags = u32::from_ne_bytes([if is_probe { OVERRIDE } else { SOLICITED | OVERRIDE }, 0, 0, 0]);
    let [a, b, c, d] = link.own.0.to_ne_bytes();
    let [e, f] = link.own.1.to_ne_bytes();
    let option = [u32::from_ne_bytes([TARGET_ADDRESS, 1, a, b]), u32::from_ne_bytes([c, d, e, f])];
    let mut sum = pseudo(target, &destination, length) + halves(kind) + halves(flags);
    sum += halves(option[0]) + halves(option[1]);
    let mut at = 0;
    while at < 4 {
        sum += halves(target[at]);
        put32(base, IPV6 + 8 + 4 * at, target[at]);
        at += 1;
    }
    put32(base, IPV6, kind | u32::from(!fold(sum)) << 16);
    put32(base, IPV6 + 4, flags);
    put32(base, IPV6 + MESSAGE, option[0]);
    put32(base, IPV6 + MESSAGE + 4, option[1]);
    Some(())
}
