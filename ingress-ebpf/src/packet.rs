//! Packet bytes → addresses. What is under them is read by `transport`: a packet that is not ours costs no more than its
//! addresses. Every access to packet memory is behind the bounds check of [`Packet::at`].
#![expect(unsafe_code, reason = "packet memory is reached through raw pointers")]

use core::arch::asm;
use core::mem::{MaybeUninit, offset_of, transmute};

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use ingress_common::flow::{Addr, Payload, UDP};
use ingress_common::maps::VipVal;
use ingress_common::tunnel::PORT;
use ingress_common::verdict::Reason;
use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;
use network_types::vlan::VlanHdr;

use crate::context::Context;
use crate::vips::address_entry;

/// VLAN tags that are followed; a third one is no IP.
const MAX_TAGS: usize = 2;
/// IP in IP, and IPv6 in IP.
const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const ICMPV6: u8 = 58;
/// What the groups of a link begin with: ff02::/32.
const LINK_GROUP: u32 = 0xff02_0000_u32.to_be();

const VLAN: u16 = EtherType::Ieee8021q as u16;
const SERVICE_VLAN: u16 = EtherType::Ieee8021ad as u16;
const IPV4: u16 = EtherType::Ipv4 as u16;
const IPV6: u16 = EtherType::Ipv6 as u16;
const ARP: u16 = EtherType::Arp as u16;

/// The upper half of an IPv4-mapped address, as a word in network byte order.
const MAPPED: u32 = 0xffff_u32.to_be();

/// No header that is followed begins further behind.
const FAR: u64 = 0x3fff;

/// An address as a map key needs it: bytes as on the wire, in words. Keys are hashed by words, and words that were stored
/// byte by byte are not yet readable as words (a stall of several nanoseconds each).
pub(crate) type Words = [u32; 4];

/// A packet on its way: what was read of it, and what was decided.
///
/// Whole words without padding, always all of them written: the stages behind the first are functions that the verifier
/// checks on their own (once, not once for every way that leads to them), and this is what it lets them share.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    /// Who sent it, or the outer sender while it is in a tunnel.
    pub(crate) source: Words,
    /// Whom it is for, likewise.
    pub(crate) destination: Words,
    /// The flow's client: who sent the packet or, of an ICMP error, to whom the quoted packet went.
    pub(crate) client: Words,
    /// The flow's ports as in its packets to us: source, then destination, each as on the wire.
    pub(crate) ports: u32,
    /// Bits, the constants below.
    pub(crate) flags: u32,
    /// Where the IP header is.
    pub(crate) ip: u32,
    /// Where what follows it begins: at first after the IP header, once read the transport header.
    pub(crate) offset: u32,
    /// Where the IP packet ends, by its own account.
    pub(crate) end: u32,
    /// Protocol of what follows the IP header.
    pub(crate) protocol: u32,
    /// IPv4: flags and fragment offset.
    pub(crate) fragment: u32,
    /// What it carries; see [`Self::payload`].
    kind: u32,
    /// Its port.
    port: u32,
    /// Protocol of the flow.
    pub(crate) proto: u32,
    /// Ports and flags of the entry of its address in `vips`.
    pub(crate) served_ports: u32,
    pub(crate) address_flags: u32,
    /// How many candidates had their turn before this node, or [`Flow::FROM_NETWORK`].
    pub(crate) hops: u32,
    /// Of the entry that judged it.
    pub(crate) vip_id: u32,
    pub(crate) vip_flags: u32,
    pub(crate) pool: u32,
    /// Its limits: the first row, and how many.
    pub(crate) first_limit: u32,
    pub(crate) limits: u32,
    /// The candidates that had their turn when the next node gets it.
    pub(crate) next_hops: u32,
    pub(crate) node: u32,
    /// Of the flow; 0: not asked for.
    pub(crate) hash: u64,
    /// The coarse clock, once it was asked; see [`Self::now`].
    now: u64,
}
const _: () = assert!(size_of::<Flow>() == 3 * 16 + 20 * 4 + 2 * 8 && size_of::<Flow>() % 8 == 0);

impl Flow {
    /// An IPv6 packet.
    pub(crate) const IPV6: u32 = 1;
    /// One of several fragments.
    pub(crate) const PART: u32 = 1 << 1;
    /// The tunnel is one over UDP.
    pub(crate) const UDP_TUNNEL: u32 = 1 << 2;
    /// A message of IPv6 neighbour discovery about an address.
    pub(crate) const NEIGHBOUR: u32 = 1 << 3;
    /// Limits of connections are still to be charged: on the SYN that no cookie answers, or on the segment that proves one.
    pub(crate) const OWES: u32 = 1 << 4;

    /// No node sent the packet here.
    pub(crate) const FROM_NETWORK: u32 = u32::MAX;

    /// Nothing read yet. Word by word and in place: what the compiler makes of a literal is a loop over every byte, and
    /// takes longer than the lookup that sorts out the packets that are not ours.
    #[inline(always)]
    pub(crate) fn begin(place: &mut MaybeUninit<Self>) -> &mut Self {
        const WORDS: usize = size_of::<Flow>() / size_of::<u64>();
        let words = place.as_mut_ptr().cast::<u64>();
        let mut at = 0;
        while at < WORDS {
            // SAFETY: a word of the record, which is aligned as its last field is.
            unsafe { words.add(at).write_volatile(0) };
            at += 1;
        }
        // SAFETY: every word was written, and every field may be 0.
        let flow = unsafe { place.assume_init_mut() };
        flow.hops = Self::FROM_NETWORK;
        flow
    }

    /// When the packet came, by the coarse clock: asked once.
    #[inline(always)]
    pub(crate) fn now(&mut self) -> u64 {
        if self.now == 0 {
            // SAFETY: a helper without arguments.
            self.now = unsafe { bpf_ktime_get_coarse_ns() };
        }
        self.now
    }

    #[inline(always)]
    pub(crate) const fn is_ipv6(&self) -> bool {
        self.flags & Self::IPV6 != 0
    }

    /// What the packet carries.
    #[inline(always)]
    pub(crate) const fn payload(&self) -> Payload {
        let port = self.port as u16;
        match self.kind {
            0 => Payload::TcpOpen(port),
            1 => Payload::Tcp(port),
            2 => Payload::Udp(port),
            3 => Payload::Error(port, self.proto as u8),
            4 => Payload::Echo,
            5 => Payload::Fragment,
            6 => Payload::LongChain,
            7 => Payload::Cut,
            _ => Payload::Other,
        }
    }

    #[inline(always)]
    pub(crate) const fn carries(&mut self, payload: Payload) {
        self.kind = match payload {
            Payload::TcpOpen(_) => 0,
            Payload::Tcp(_) => 1,
            Payload::Udp(_) => 2,
            Payload::Error(..) => 3,
            Payload::Echo => 4,
            Payload::Fragment => 5,
            Payload::LongChain => 6,
            Payload::Cut => 7,
            Payload::Other => 8,
        };
        if let Some((port, proto)) = payload.port() {
            self.port = port as u32;
            self.proto = proto as u32;
        }
    }
}

/// The linear part of a packet.
pub(crate) struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn of(ctx: &impl Context) -> Self {
        Self { start: ctx.start(), end: ctx.end() }
    }

    /// The header at `offset`, if all of it is there.
    #[inline(always)]
    pub(crate) fn at<T>(&self, offset: usize) -> Option<*const T> {
        let mut header = self.start + offset;
        // SAFETY: adds 0. A real instruction that the optimiser cannot see through: the checked pointer and the one
        // that is read stay the same register, and so the verifier relates them.
        unsafe { asm!("{0} += 0", inout(reg) header, options(nomem, nostack, preserves_flags)) };
        if header + size_of::<T>() > self.end { None } else { Some(header as *const T) }
    }

    /// The same at an offset that was kept in a [`Flow`].
    #[inline(always)]
    pub(crate) fn far<T>(&self, offset: u32) -> Option<*const T> {
        let mut offset = u64::from(offset);
        // SAFETY: a real instruction that bounds the offset for the verifier; the compiler would drop one of its own.
        unsafe { asm!("{0} &= {1}", inout(reg) offset, const FAR, options(nomem, nostack, preserves_flags)) };
        self.at(offset as usize)
    }
}

/// What the addresses of a packet say.
pub(crate) enum Arrival {
    /// It is for a served address.
    Served,
    /// To some other address, and maybe a tunnel that another node sent it through.
    Tunnel,
    /// A neighbour speaks about an address: ARP, or neighbour discovery to a group.
    Neighbour,
    /// It passes, counted under this reason.
    Passes(Reason),
}

/// Reads the headers up to the addresses and asks whether the destination is served: for most packets of a node the only
/// lookup.
#[inline(always)]
pub(crate) fn arrive(packet: &Packet, flow: &mut Flow) -> Arrival {
    let Some(ethernet) = packet.at::<EthHdr>(0) else { return Arrival::Passes(Reason::Truncated) };
    // SAFETY: `at` checked that the whole header is there; this holds for every read below.
    let mut ether_type = unsafe { (*ethernet).ether_type };
    let mut offset = EthHdr::LEN;
    let mut tags = 0;
    while tags < MAX_TAGS && (ether_type == VLAN || ether_type == SERVICE_VLAN) {
        let Some(tag) = packet.at::<VlanHdr>(offset) else { return Arrival::Passes(Reason::Truncated) };
        // SAFETY: checked by `at`.
        ether_type = unsafe { (*tag).ether_type };
        offset += VlanHdr::LEN;
        tags += 1;
    }
    flow.ip = offset as u32;
    // The question is asked in each branch: joined, the addresses of both families would be carried through all of it.
    match ether_type {
        IPV4 => ipv4(packet, offset, flow),
        IPV6 => ipv6(packet, offset, flow),
        ARP => Arrival::Neighbour,
        _ => Arrival::Passes(Reason::NotIp),
    }
}

#[inline(always)]
fn ipv4(packet: &Packet, offset: usize, flow: &mut Flow) -> Arrival {
    let Some(header) = packet.at::<Ipv4Hdr>(offset) else { return Arrival::Passes(Reason::Truncated) };
    // SAFETY: checked by `at`.
    let (vihl, protocol, frags) = unsafe { ((*header).vihl, (*header).proto, (*header).frags) };
    let length = usize::from(vihl & 0x0f) * 4;
    if vihl >> 4 != 4 || length < Ipv4Hdr::LEN {
        return Arrival::Passes(Reason::Truncated);
    }
    // SAFETY: checked by `at`.
    flow.end = offset as u32 + u32::from(u16::from_be_bytes(unsafe { (*header).tot_len }));
    flow.destination = mapped(word(header, offset_of!(Ipv4Hdr, dst_addr)));
    let found = address_entry(&flow.destination);
    let is_tunnel = !is_vip(found) && may_be_tunnel(packet, protocol, offset + Ipv4Hdr::LEN);
    if found.is_none() && !is_tunnel {
        return Arrival::Passes(Reason::Foreign);
    }
    flow.source = mapped(word(header, offset_of!(Ipv4Hdr, src_addr)));
    flow.flags = 0;
    flow.protocol = u32::from(protocol);
    flow.fragment = u32::from(u16::from_be_bytes(frags));
    flow.offset = (offset + length) as u32;
    arrived(flow, if is_tunnel { None } else { found })
}

#[inline(always)]
fn ipv6(packet: &Packet, offset: usize, flow: &mut Flow) -> Arrival {
    let Some(header) = packet.at::<Ipv6Hdr>(offset) else { return Arrival::Passes(Reason::Truncated) };
    // SAFETY: checked by `at`.
    let (protocol, length) = unsafe { ((*header).next_hdr, (*header).payload_len) };
    flow.offset = (offset + Ipv6Hdr::LEN) as u32;
    flow.end = flow.offset + u32::from(u16::from_be_bytes(length));
    flow.destination = address(header, offset_of!(Ipv6Hdr, dst_addr));
    if is_mapped(&flow.destination) {
        // Not valid on a wire, and it would be taken for an IPv4 address.
        return Arrival::Passes(Reason::Foreign);
    }
    let found = address_entry(&flow.destination);
    let is_tunnel = !is_vip(found) && may_be_tunnel(packet, protocol, offset + Ipv6Hdr::LEN);
    if found.is_none() && !is_tunnel {
        if protocol == ICMPV6 && flow.destination[0] == LINK_GROUP {
            flow.flags = Flow::IPV6;
            return Arrival::Neighbour;
        }
        return Arrival::Passes(Reason::Foreign);
    }
    flow.source = address(header, offset_of!(Ipv6Hdr, src_addr));
    if is_mapped(&flow.source) {
        return Arrival::Passes(Reason::Foreign);
    }
    flow.flags = Flow::IPV6;
    flow.protocol = u32::from(protocol);
    flow.fragment = 0;
    arrived(flow, if is_tunnel { None } else { found })
}

#[inline(always)]
fn arrived(flow: &mut Flow, found: Option<&VipVal>) -> Arrival {
    let Some(vip) = found else {
        if flow.protocol == u32::from(UDP) {
            flow.flags |= Flow::UDP_TUNNEL;
        }
        return Arrival::Tunnel;
    };
    flow.served_ports = vip.ports;
    flow.address_flags = vip.flags;
    Arrival::Served
}

/// Whether an entry is that of a VIP. A node's own address may be served, too, and is its end of the tunnel.
#[inline(always)]
fn is_vip(found: Option<&VipVal>) -> bool {
    found.is_some_and(|vip| vip.flags & VipVal::PORTS_ONLY == 0)
}

/// Whether a packet to an address that is no VIP looks like a tunnel. Who sent it is not looked at here.
#[inline(always)]
fn may_be_tunnel(packet: &Packet, protocol: u8, offset: usize) -> bool {
    if protocol == IPIP || protocol == IPV6_IN_IP {
        return true;
    }
    match packet.at::<UdpHdr>(offset) {
        // SAFETY: checked by `at`.
        Some(header) if protocol == UDP => u16::from_be_bytes(unsafe { (*header).dst }) == PORT,
        _ => false,
    }
}

/// A word of a checked header, bytes as on the wire. As one load: through a byte array the compiler makes four.
#[inline(always)]
pub(crate) fn word<T>(header: *const T, offset: usize) -> u32 {
    let field = header as usize + offset;
    let value: u64;
    // SAFETY: `at` checked the whole header, and the callers' offsets are those of fields of at least 4 bytes.
    unsafe {
        asm!("{value} = *(u32 *)({field} + 0)", value = lateout(reg) value, field = in(reg) field,
            options(nostack, readonly, preserves_flags));
    }
    value as u32
}

#[inline(always)]
pub(crate) fn mapped(v4: u32) -> Words {
    [0, 0, MAPPED, v4]
}

#[inline(always)]
pub(crate) fn address(header: *const Ipv6Hdr, offset: usize) -> Words {
    [word(header, offset), word(header, offset + 4), word(header, offset + 8), word(header, offset + 12)]
}

/// Whether the words are those of an IPv4 address.
#[inline(always)]
pub(crate) fn is_mapped(words: &Words) -> bool {
    words[0] | words[1] == 0 && words[2] == MAPPED
}

/// The same 16 bytes, as the shared types have them.
#[inline(always)]
pub(crate) fn addr(words: Words) -> Addr {
    // SAFETY: 16 bytes without padding on both sides.
    unsafe { transmute::<Words, Addr>(words) }
}
