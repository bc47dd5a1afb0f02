//! Packet bytes → [`Flow`]. The only file that touches packet memory; every access is behind a bounds check.
//!
//! Followed: one VLAN tag, IPv4 options, up to [`MAX_EXTENSIONS`] IPv6 extension headers, and first fragments, so that
//! none of them is a way around lists and limits. Later fragments have no ports; the first one decides for them, since
//! without it the stack never puts the packet together.
#![expect(unsafe_code, reason = "packet memory is reached through raw pointers")]

use core::arch::asm;
use core::mem::{offset_of, transmute};

use aya_ebpf::programs::XdpContext;
use ingress_common::flow::{Addr, Flow, Payload, TCP, UDP};
use ingress_common::verdict::Reason;
use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;
use network_types::vlan::VlanHdr;

/// IPv6 extension headers that are followed; more pass up, after the lists.
const MAX_EXTENSIONS: usize = 4;

const VLAN: u16 = EtherType::Ieee8021q as u16;
const SERVICE_VLAN: u16 = EtherType::Ieee8021ad as u16;
const IPV4: u16 = EtherType::Ipv4 as u16;
const IPV6: u16 = EtherType::Ipv6 as u16;

/// The upper half of an IPv4-mapped address, as a word in network byte order.
const MAPPED: u32 = 0xffff_u32.to_be();

/// What is under an IP header, and where.
struct Transport {
    protocol: u8,
    offset: usize,
    /// First of several fragments.
    is_first_fragment: bool,
    /// Where the IP packet ends, by its own account.
    end: usize,
}

/// The linear part of a packet.
pub(crate) struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn of(ctx: &XdpContext) -> Self {
        Self { start: ctx.data(), end: ctx.data_end() }
    }

    /// Bytes, the Ethernet header included.
    #[inline(always)]
    pub(crate) fn len(&self) -> u64 {
        (self.end - self.start) as u64
    }

    /// The header at `offset`, if all of it is there.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*const T> {
        let mut header = self.start + offset;
        // SAFETY: adds 0. A real instruction that the optimiser cannot see through: the checked pointer and the one
        // that is read stay the same register, and so the verifier relates them.
        unsafe { asm!("{0} += 0", inout(reg) header, options(nomem, nostack, preserves_flags)) };
        if header + size_of::<T>() > self.end { None } else { Some(header as *const T) }
    }
}

/// Reads the headers; the error is the reason under which a packet without addresses is passed.
#[inline(always)]
pub(crate) fn parse(packet: &Packet) -> Result<Flow, Reason> {
    let ethernet = packet.at::<EthHdr>(0).ok_or(Reason::Truncated)?;
    // SAFETY: `at` checked that the whole header is there; this holds for every read below.
    let mut ether_type = unsafe { (*ethernet).ether_type };
    let mut offset = EthHdr::LEN;
    if ether_type == VLAN || ether_type == SERVICE_VLAN {
        let tag = packet.at::<VlanHdr>(offset).ok_or(Reason::Truncated)?;
        // SAFETY: checked by `at`.
        ether_type = unsafe { (*tag).ether_type };
        offset += VlanHdr::LEN;
    }
    match ether_type {
        IPV4 => ipv4(packet, offset),
        IPV6 => ipv6(packet, offset),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn ipv4(packet: &Packet, offset: usize) -> Result<Flow, Reason> {
    let header = packet.at::<Ipv4Hdr>(offset).ok_or(Reason::Truncated)?;
    // SAFETY: checked by `at`.
    let (vihl, protocol) = unsafe { ((*header).vihl, (*header).proto) };
    // SAFETY: checked by `at`.
    let (total, fragment) =
        unsafe { (u16::from_be_bytes((*header).tot_len), u16::from_be_bytes((*header).frags)) };
    let mut header_len = usize::from(vihl & 0x0f) * 4;
    if vihl >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return Err(Reason::Truncated);
    }
    // SAFETY: bounds the length by 60, which it is; the verifier forgets it across the branches.
    unsafe { asm!("{0} &= 60", inout(reg) header_len, options(nomem, nostack, preserves_flags)) };
    let source = mapped(word(header, offset_of!(Ipv4Hdr, src_addr)));
    let destination = mapped(word(header, offset_of!(Ipv4Hdr, dst_addr)));
    let payload = if fragment & 0x1fff != 0 {
        Payload::Fragment
    } else {
        transport(
            packet,
            &Transport {
                protocol,
                offset: offset + header_len,
                is_first_fragment: fragment & 0x2000 != 0,
                end: offset + usize::from(total),
            },
        )
    };
    Ok(Flow { source, destination, payload })
}

#[inline(always)]
fn ipv6(packet: &Packet, offset: usize) -> Result<Flow, Reason> {
    let header = packet.at::<Ipv6Hdr>(offset).ok_or(Reason::Truncated)?;
    // SAFETY: checked by `at`.
    let (next, len) = unsafe { ((*header).next_hdr, u16::from_be_bytes((*header).payload_len)) };
    let source = address(header, offset_of!(Ipv6Hdr, src_addr));
    let destination = address(header, offset_of!(Ipv6Hdr, dst_addr));
    if is_mapped(&source) || is_mapped(&destination) {
        // Not valid on a wire, and it would be taken for an IPv4 address.
        return Err(Reason::Foreign);
    }
    let payload = extensions(packet, next, offset + Ipv6Hdr::LEN, offset + Ipv6Hdr::LEN + usize::from(len));
    let (source, destination) = (as_addr(source), as_addr(destination));
    Ok(Flow { source, destination, payload })
}

/// Follows the extension headers to the transport header (RFC 8200, section 4).
#[inline(always)]
fn extensions(packet: &Packet, mut protocol: u8, mut offset: usize, end: usize) -> Payload {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let mut is_first_fragment = false;
    let mut followed = 0;
    while matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
        if followed == MAX_EXTENSIONS {
            return Payload::LongChain;
        }
        followed += 1;
        let Some(header) = packet.at::<[u8; 8]>(offset) else { return Payload::Cut };
        // SAFETY: checked by `at`.
        let [next, len, high, low, ..] = unsafe { *header };
        if protocol == FRAGMENT {
            let field = u16::from_be_bytes([high, low]);
            if field & 0xfff8 != 0 {
                return Payload::Fragment;
            }
            is_first_fragment = field & 1 != 0;
            offset += 8;
        } else {
            offset += 8 + usize::from(len) * 8;
        }
        protocol = next;
    }
    transport(packet, &Transport { protocol, offset, is_first_fragment, end })
}

#[inline(always)]
fn transport(packet: &Packet, at: &Transport) -> Payload {
    match at.protocol {
        TCP => tcp(packet, at),
        UDP => match packet.at::<UdpHdr>(at.offset) {
            // SAFETY: checked by `at`.
            Some(header) => Payload::Udp(u16::from_be_bytes(unsafe { (*header).dst })),
            None => Payload::Cut,
        },
        _ => Payload::Other,
    }
}

#[inline(always)]
fn tcp(packet: &Packet, at: &Transport) -> Payload {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    /// Where the flags are: two bytes of data offset and flags follow the acknowledgement number.
    const FLAGS: usize = offset_of!(TcpHdr, window) - 1;
    let Some(header) = packet.at::<[u8; TcpHdr::LEN]>(at.offset) else {
        // The ports of a first fragment can be there without the flags; see below.
        return match packet.at::<[u8; 4]>(at.offset) {
            // SAFETY: checked by `at`.
            Some(ports) if at.is_first_fragment => Payload::TcpOpen(port(unsafe { *ports })),
            _ => Payload::Cut,
        };
    };
    // SAFETY: checked by `at`.
    let header = unsafe { &*header };
    let port = port([header[0], header[1], header[2], header[3]]);
    // A first fragment too short for the flags hides them in the next one; what looks like flags here is padding. Only
    // an attack does that, so it is charged as what it hides.
    let hides_flags = at.is_first_fragment && at.offset + TcpHdr::LEN > at.end;
    if hides_flags || header[FLAGS] & (SYN | ACK) == SYN {
        Payload::TcpOpen(port)
    } else {
        Payload::Tcp(port)
    }
}

/// The destination port in the first four bytes of a TCP header.
#[inline(always)]
fn port([_, _, high, low]: [u8; 4]) -> u16 {
    u16::from_be_bytes([high, low])
}

/// A word of a checked header, bytes as on the wire. As one load: through a byte array the compiler makes four.
#[inline(always)]
fn word<T>(header: *const T, offset: usize) -> u32 {
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
fn mapped(v4: u32) -> Addr {
    as_addr([0, 0, MAPPED, v4])
}

#[inline(always)]
fn address(header: *const Ipv6Hdr, offset: usize) -> [u32; 4] {
    [word(header, offset), word(header, offset + 4), word(header, offset + 8), word(header, offset + 12)]
}

#[inline(always)]
fn is_mapped(words: &[u32; 4]) -> bool {
    words[0] | words[1] == 0 && words[2] == MAPPED
}

#[inline(always)]
fn as_addr(words: [u32; 4]) -> Addr {
    // SAFETY: 16 bytes without padding on both sides; byte by byte it would spill out of the registers.
    unsafe { transmute::<[u32; 4], Addr>(words) }
}
