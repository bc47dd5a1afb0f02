//! Packet bytes → addresses ([`arrive`]) → payload ([`Arrived::payload`]). The only file that touches packet memory; every
//! access is behind a bounds check.
//!
//! In two steps, so that a packet that is not ours costs no more than its addresses.
//!
//! Followed: one VLAN tag, IPv4 options, up to [`MAX_EXTENSIONS`] IPv6 extension headers, and first fragments, so that
//! none of them is a way around lists and limits. Later fragments have no ports; the first one decides for them, since
//! without it the stack never puts the packet together.
#![expect(unsafe_code, reason = "packet memory is reached through raw pointers")]

use core::arch::asm;
use core::mem::{offset_of, transmute};

use aya_ebpf::programs::XdpContext;
use ingress_common::flow::{Addr, Payload, TCP, UDP};
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

/// An address as a map key needs it: bytes as on the wire, in words. Keys are hashed by words, and words that were stored
/// byte by byte are not yet readable as words (a stall of several nanoseconds each).
pub(crate) type Words = [u32; 4];

/// A packet for a served address, as far as its IP header says.
pub(crate) struct Arrived {
    pub(crate) source: Words,
    pub(crate) destination: Words,
    is_ipv6: bool,
    /// Of what follows the IP header.
    protocol: u8,
    /// Where that begins.
    offset: usize,
    /// Where the IP packet ends, by its own account.
    end: usize,
    /// IPv4: flags and fragment offset.
    fragment: u16,
}

/// What is under the IP headers, and where.
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

/// Reads the headers up to the addresses and asks `find` about the destination; its answer comes back with the packet.
/// The error is the reason under which a packet passes that is not for a served address.
#[inline(always)]
pub(crate) fn arrive<T>(packet: &Packet, find: impl Fn(&Words) -> Option<T>) -> Result<(Arrived, T), Reason> {
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
    // The question is asked in each branch: joined, the addresses of both families would be carried through all of it.
    match ether_type {
        IPV4 => ipv4(packet, offset, find),
        IPV6 => ipv6(packet, offset, find),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn ipv4<T>(
    packet: &Packet,
    offset: usize,
    find: impl Fn(&Words) -> Option<T>,
) -> Result<(Arrived, T), Reason> {
    let header = packet.at::<Ipv4Hdr>(offset).ok_or(Reason::Truncated)?;
    // SAFETY: checked by `at`.
    let vihl = unsafe { (*header).vihl };
    if vihl >> 4 != 4 || usize::from(vihl & 0x0f) * 4 < Ipv4Hdr::LEN {
        return Err(Reason::Truncated);
    }
    let destination = mapped(word(header, offset_of!(Ipv4Hdr, dst_addr)));
    let found = find(&destination).ok_or(Reason::Foreign)?;
    // SAFETY: checked by `at`.
    let (protocol, total, frags) = unsafe { ((*header).proto, (*header).tot_len, (*header).frags) };
    let arrived = Arrived {
        source: mapped(word(header, offset_of!(Ipv4Hdr, src_addr))),
        destination,
        is_ipv6: false,
        protocol,
        offset: offset + usize::from(vihl & 0x0f) * 4,
        end: offset + usize::from(u16::from_be_bytes(total)),
        fragment: u16::from_be_bytes(frags),
    };
    Ok((arrived, found))
}

#[inline(always)]
fn ipv6<T>(
    packet: &Packet,
    offset: usize,
    find: impl Fn(&Words) -> Option<T>,
) -> Result<(Arrived, T), Reason> {
    let header = packet.at::<Ipv6Hdr>(offset).ok_or(Reason::Truncated)?;
    let destination = address(header, offset_of!(Ipv6Hdr, dst_addr));
    if is_mapped(&destination) {
        // Not valid on a wire, and it would be taken for an IPv4 address.
        return Err(Reason::Foreign);
    }
    let found = find(&destination).ok_or(Reason::Foreign)?;
    let source = address(header, offset_of!(Ipv6Hdr, src_addr));
    if is_mapped(&source) {
        return Err(Reason::Foreign);
    }
    // SAFETY: checked by `at`.
    let (protocol, len) = unsafe { ((*header).next_hdr, (*header).payload_len) };
    let arrived = Arrived {
        source,
        destination,
        is_ipv6: true,
        protocol,
        offset: offset + Ipv6Hdr::LEN,
        end: offset + Ipv6Hdr::LEN + usize::from(u16::from_be_bytes(len)),
        fragment: 0,
    };
    Ok((arrived, found))
}

impl Arrived {
    /// Reads on to the ports.
    #[inline(always)]
    pub(crate) fn payload(&self, packet: &Packet) -> Payload {
        if self.is_ipv6 {
            return extensions(packet, self.protocol, self.offset, self.end);
        }
        if self.fragment & 0x1fff != 0 {
            return Payload::Fragment;
        }
        transport(
            packet,
            &Transport {
                protocol: self.protocol,
                offset: self.offset,
                is_first_fragment: self.fragment & 0x2000 != 0,
                end: self.end,
            },
        )
    }
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
fn mapped(v4: u32) -> Words {
    [0, 0, MAPPED, v4]
}

#[inline(always)]
fn address(header: *const Ipv6Hdr, offset: usize) -> Words {
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
