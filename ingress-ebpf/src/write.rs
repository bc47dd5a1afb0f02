//! Headers written into packet memory: links, outer IP, UDP; word by word, since whole structures are copied byte by byte.
#![expect(unsafe_code, reason = "packet memory is written through raw pointers")]

use core::arch::asm;

use ingress_common::maps::NodeVal;

use crate::context::Context;
use crate::packet::Packet;

/// Stores a word, bytes as they are in memory.
macro_rules! store {
    ($size:literal, $base:expr, $offset:expr, $value:expr) => {{
        let field: usize = $base + $offset;
        let value: u64 = u64::from($value);
        // SAFETY: the caller checked the memory at `base` for the whole of its header.
        unsafe {
            asm!(concat!("*(", $size, " *)({field} + 0) = {value}"), field = in(reg) field, value = in(reg) value,
                options(nostack, preserves_flags));
        }
    }};
}

/// Stores four bytes of a checked header.
#[inline(always)]
pub(crate) fn put32(base: usize, offset: usize, value: u32) {
    store!("u32", base, offset, value);
}

/// Stores two bytes of a checked header.
#[inline(always)]
pub(crate) fn put16(base: usize, offset: usize, value: u16) {
    store!("u16", base, offset, value);
}

/// The bytes before an IP header: addresses, tags, type.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Destination, then source.
    pub(crate) macs: [u32; 3],
    /// Of the packet that it is for.
    pub(crate) is_ipv6: bool,
    tags: [u32; 2],
    /// Bytes in all.
    pub(crate) len: usize,
}

const ETHERNET: usize = 14;
const TAG: usize = 4;

impl Link {
    /// That of a packet whose IP header is at `ip`.
    #[inline(always)]
    pub(crate) fn of(packet: &Packet, ip: u32, is_ipv6: bool) -> Option<Self> {
        let ip = ip as usize;
        let addresses = packet.at::<[u8; ETHERNET]>(0)?;
        let word = |offset| crate::packet::word(addresses, offset);
        let mut tags = [0; 2];
        if ip > ETHERNET {
            tags[0] = crate::packet::word(packet.at::<[u8; ETHERNET + TAG]>(0)?, 12);
        }
        if ip > ETHERNET + TAG {
            tags[1] = crate::packet::word(packet.at::<[u8; ETHERNET + 2 * TAG]>(0)?, 16);
        }
        Some(Self { macs: [word(0), word(4), word(8)], is_ipv6, tags, len: ip })
    }

    /// The one that leads to a node.
    #[inline(always)]
    pub(crate) fn to(node: &NodeVal, mac: [u8; 6], source: [u8; 6], is_ipv6: bool) -> Self {
        let macs = macs(mac, source);
        let [high, low] = node.vlan.to_be_bytes();
        let tag = u32::from_ne_bytes([0x81, 0x00, high, low]);
        let len = if node.vlan == 0 { ETHERNET } else { ETHERNET + TAG };
        Self { macs, is_ipv6, tags: [tag, 0], len }
    }

    /// The same to other addresses.
    #[inline(always)]
    pub(crate) fn redirected(self, mac: [u8; 6], source: [u8; 6]) -> Self {
        Self { macs: macs(mac, source), ..self }
    }

    /// The way back to where the packet came from.
    #[inline(always)]
    pub(crate) fn reversed(self) -> Self {
        let [a, b, c] = self.macs;
        let (low, high) = (b & 0xffff, b >> 16);
        // Six bytes each, little endian words: a = d0..d3, b = d4 d5 s0 s1, c = s2..s5.
        let macs = [high | c << 16, c >> 16 | a << 16, a >> 16 | low << 16];
        Self { macs, ..self }
    }

    /// Writes it at the beginning of the packet; where the IP header then begins.
    #[inline(always)]
    pub(crate) fn write(&self, ctx: &impl Context) -> Option<()> {
        let packet = Packet::of(ctx);
        let base = packet.at::<[u8; ETHERNET]>(0)? as usize;
        let [a, b, c] = self.macs;
        put32(base, 0, a);
        put32(base, 4, b);
        put32(base, 8, c);
        if self.len > ETHERNET {
            put32(packet.at::<[u8; ETHERNET + TAG]>(0)? as usize, 12, self.tags[0]);
        }
        if self.len > ETHERNET + TAG {
            put32(packet.at::<[u8; ETHERNET + 2 * TAG]>(0)? as usize, 16, self.tags[1]);
        }
        let ether_type: u16 = if self.is_ipv6 { 0x86dd } else { 0x0800 };
        put16(packet.far::<[u8; 2]>(self.len as u32 - 2)? as usize, 0, ether_type.to_be());
        Some(())
    }
}

#[inline(always)]
fn macs(mac: [u8; 6], source: [u8; 6]) -> [u32; 3] {
    let [a, b, c, d, e, f] = mac;
    let [g, h, i, j, k, l] = source;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_ne_bytes)
}

/// What an IP header says.
pub(crate) struct Ip {
    pub(crate) source: [u32; 4],
    pub(crate) destination: [u32; 4],
    pub(crate) protocol: u8,
    /// Bytes after the header.
    pub(crate) payload: u16,
    /// Identification (IPv4) or flow label (IPv6).
    pub(crate) id: u16,
}

/// Time to live of what is made here.
pub(crate) const TTL: u8 = 64;

impl Ip {
    /// Writes an IPv4 header without options into 20 checked bytes.
    #[inline(always)]
    pub(crate) fn write4(&self, base: usize) {
        let [.., source] = self.source;
        let [.., destination] = self.destination;
        let total = self.payload + 20;
        let [high, low] = total.to_be_bytes();
        let [id_high, id_low] = self.id.to_be_bytes();
        let words = [
            u32::from_ne_bytes([0x45, 0, high, low]),
            // Do not fragment.
            u32::from_ne_bytes([id_high, id_low, 0x40, 0]),
            u32::from_ne_bytes([TTL, self.protocol, 0, 0]),
            source,
            destination,
        ];
        let sum = fold(words.iter().fold(0, |sum, word| sum + halves(*word)));
        put32(base, 0, words[0]);
        put32(base, 4, words[1]);
        put32(base, 8, words[2] | u32::from(!sum) << 16);
        put32(base, 12, source);
        put32(base, 16, destination);
    }

    /// Writes an IPv6 header into 40 checked bytes.
    #[inline(always)]
    pub(crate) fn write6(&self, base: usize) {
        let [id_high, id_low] = self.id.to_be_bytes();
        let [high, low] = self.payload.to_be_bytes();
        put32(base, 0, u32::from_ne_bytes([0x60, 0, id_high, id_low]));
        put32(base, 4, u32::from_ne_bytes([high, low, self.protocol, TTL]));
        let mut at = 0;
        while at < 4 {
            put32(base, 8 + 4 * at, self.source[at]);
            put32(base, 24 + 4 * at, self.destination[at]);
            at += 1;
        }
    }
}

/// The two halves of a word, for a sum of 16-bit words (RFC 1071; the order of bytes does not matter to it).
#[inline(always)]
pub(crate) const fn halves(word: u32) -> u64 {
    (word & 0xffff) as u64 + (word >> 16) as u64
}

/// Folds the carries of such a sum.
#[inline(always)]
pub(crate) const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
