//! Builds Ethernet frames byte by byte, well-formed or as broken as a test needs them.
//!
//! Checksums are left zero: the kernel programs leave them to the stack, and nothing here is sent.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that asks for an impossible packet must fail at once"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const PSH: u8 = 0x08;
/// TCP flag.
pub const ACK: u8 = 0x10;
/// TCP flag.
pub const ECE: u8 = 0x40;
/// TCP flag.
pub const CWR: u8 = 0x80;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ETHERNET: usize = 14;
const VLAN: usize = 4;

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Packet {
    source: IpAddr,
    destination: IpAddr,
    tags: Vec<[u8; 2]>,
    option_words: u8,
    fragment: Option<(u16, bool)>,
    extensions: Vec<(u8, Vec<u8>)>,
    protocol: u8,
    payload: Vec<u8>,
    cut: Option<usize>,
    padded: Option<usize>,
    version_and_length: Option<u8>,
}

impl Packet {
    /// A TCP segment with these flags and without data.
    pub fn tcp(source: &str, destination: &str, port: u16, flags: u8) -> Self {
        let mut segment = vec![0xc0, 0x01];
        segment.extend(port.to_be_bytes());
        segment.extend([0x11; 8]);
        segment.extend([0x50, flags, 0x20, 0x00, 0, 0, 0, 0]);
        Self::new(source, destination, TCP, segment)
    }

    /// A TCP segment that opens a connection.
    pub fn syn(source: &str, destination: &str, port: u16) -> Self {
        Self::tcp(source, destination, port, SYN)
    }

    /// A UDP datagram with four bytes of data.
    pub fn udp(source: &str, destination: &str, port: u16) -> Self {
        let mut datagram = vec![0xc0, 0x01];
        datagram.extend(port.to_be_bytes());
        datagram.extend([0, 12, 0, 0, b'd', b'a', b't', b'a']);
        Self::new(source, destination, UDP, datagram)
    }

    /// Another protocol, with eight bytes of data.
    pub fn other(source: &str, destination: &str, protocol: u8) -> Self {
        Self::new(source, destination, protocol, vec![8, 0, 0, 0, 0, 1, 0, 1])
    }

    /// Another protocol with these bytes, from a source of the family of `destination`.
    pub fn carrying(v4: &str, v6: &str, destination: &str, protocol: u8, bytes: &[u8]) -> Self {
        let source = if destination.contains(':') { v6 } else { v4 };
        Self::new(source, destination, protocol, bytes.to_vec())
    }

    /// A frame that is not IP.
    pub fn ethernet(ether_type: u16, data: &[u8]) -> Vec<u8> {
        let mut frame = macs();
        frame.extend(ether_type.to_be_bytes());
        frame.extend(data);
        frame
    }

    fn new(source: &str, destination: &str, protocol: u8, payload: Vec<u8>) -> Self {
        let address = |text: &str| text.parse().unwrap_or_else(|_| panic!("`{text}` is not an address"));
        Self {
            source: address(source),
            destination: address(destination),
            tags: vec![],
            option_words: 0,
            fragment: None,
            extensions: vec![],
            protocol,
            payload,
            cut: None,
            padded: None,
            version_and_length: None,
        }
    }

    /// Adds a VLAN tag inside of those that are there; `kind` is 0x8100 or 0x88a8.
    #[must_use]
    pub fn vlan(mut self, kind: u16) -> Self {
        self.tags.push(kind.to_be_bytes());
        self
    }

    /// Adds IPv4 options, `words` times four bytes.
    #[must_use]
    pub fn options(mut self, words: u8) -> Self {
        self.option_words = words;
        self
    }

    /// Makes it a fragment; `offset` in units of eight bytes.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// Adds an IPv6 extension header of `units` times eight bytes, at least one.
    #[must_use]
    pub fn extension(mut self, kind: u8, units: u8) -> Self {
        let mut body = vec![0; usize::from(units) * 8];
        body[1] = units - 1;
        self.extensions.push((kind, body));
        self
    }

    /// Replaces the source port.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Self {
        self.payload[..2].copy_from_slice(&port.to_be_bytes());
        self
    }

    /// Adds TCP options, a multiple of four bytes.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        assert!(self.protocol == TCP && options.len().is_multiple_of(4), "TCP options in words");
        self.payload.splice(20..20, options.iter().copied());
        self.payload[12] += u8::try_from(options.len() / 4).expect("a header that fits") << 4;
        self
    }

    /// Data after the headers.
    #[must_use]
    pub fn data(mut self, len: usize) -> Self {
        self.payload.extend(vec![0xda; len]);
        self
    }

    /// These bytes as data.
    #[must_use]
    pub fn text(mut self, data: &[u8]) -> Self {
        self.payload.extend(data);
        self
    }

    /// Replaces the number of the first byte of a TCP segment, and the number that it acknowledges.
    #[must_use]
    pub fn numbers(mut self, sequence: u32, acknowledged: u32) -> Self {
        assert!(self.protocol == TCP, "only TCP numbers its bytes");
        self.payload[4..8].copy_from_slice(&sequence.to_be_bytes());
        self.payload[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        self
    }

    /// Keeps only this many bytes of what is under the IP header; the IP length says so.
    #[must_use]
    pub fn transport_bytes(mut self, len: usize) -> Self {
        self.payload.truncate(len);
        self
    }

    /// Cuts the frame after this many bytes, whatever the headers say.
    #[must_use]
    pub fn cut(mut self, len: usize) -> Self {
        self.cut = Some(len);
        self
    }

    /// Fills the frame up to this many bytes, as Ethernet does.
    #[must_use]
    pub fn padded(mut self, len: usize) -> Self {
        self.padded = Some(len);
        self
    }

    /// Replaces the first byte of the IP header.
    #[must_use]
    pub fn version_and_length(mut self, byte: u8) -> Self {
        self.version_and_length = Some(byte);
        self
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = macs();
        for tag in &self.tags {
            frame.extend(tag);
            frame.extend([0x00, 0x07]);
        }
        let header = frame.len() + 2;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(&mut frame, source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(&mut frame, source, destination),
            _ => panic!("source and destination are of two families"),
        }
        if let Some(byte) = self.version_and_length {
            frame[header] = byte;
        }
        if let Some(len) = self.padded {
            assert!(frame.len() <= len, "the frame is longer than {len}");
            frame.resize(len, ACK);
        }
        if let Some(len) = self.cut {
            assert!(frame.len() > len, "the frame has no more than {len} bytes");
            frame.truncate(len);
        }
        frame
    }

    /// The frame with a right checksum in its TCP header.
    pub fn bytes_with_checksum(&self) -> Vec<u8> {
        let mut with = self.clone();
        with.payload[16..18].copy_from_slice(&[0, 0]);
        let mut pseudo = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (IpAddr::V6(source), IpAddr::V6(destination)) => [source.octets(), destination.octets()].concat(),
            _ => panic!("source and destination are of two families"),
        };
        pseudo.extend(u32::try_from(with.payload.len()).expect("a packet that fits").to_be_bytes());
        pseudo.extend(u32::from(self.protocol).to_be_bytes());
        pseudo.extend(&with.payload);
        let words = pseudo
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        with.payload[16..18].copy_from_slice(&sum.to_be_bytes());
        with.bytes()
    }

    fn ipv4(&self, frame: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr) {
        frame.extend(0x0800_u16.to_be_bytes());
        let header_len = 20 + usize::from(self.option_words) * 4;
        let total = u16::try_from(header_len + self.payload.len()).expect("a packet that fits");
        let (offset, more) = self.fragment.unwrap_or((0, false));
        frame.extend([0x45 + self.option_words, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0x12, 0x34]);
        frame.extend((offset | if more { 0x2000 } else { 0 }).to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(vec![1; usize::from(self.option_words) * 4]);
        frame.extend(&self.payload);
    }

    fn ipv6(&self, frame: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr) {
        frame.extend(0x86dd_u16.to_be_bytes());
        let mut extensions = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            extensions.push((FRAGMENT, vec![0, 0, high, low, 0, 0, 0, 1]));
        }
        let mut chain = vec![];
        for (at, (_, body)) in extensions.iter().enumerate() {
            let start = chain.len();
            chain.extend(body);
            chain[start] = extensions.get(at + 1).map_or(self.protocol, |(kind, _)| *kind);
        }
        let len = u16::try_from(chain.len() + self.payload.len()).expect("a packet that fits");
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(len.to_be_bytes());
        frame.extend([extensions.first().map_or(self.protocol, |(kind, _)| *kind), 64]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(chain);
        frame.extend(&self.payload);
    }

    /// Whether its addresses are of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// Bytes before the IP header.
    pub fn link_len(&self) -> usize {
        ETHERNET + self.tags.len() * VLAN
    }
}

fn macs() -> Vec<u8> {
    vec![0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_its_fields_where_the_rfcs_put_them() {
        let frame = Packet::syn("198.18.0.1", "198.18.100.1", 443).bytes();
        assert_eq!(frame.len(), 14 + 20 + 20);
        assert_eq!(frame[12..15], [0x08, 0x00, 0x45]);
        assert_eq!(frame[16..18], 40_u16.to_be_bytes());
        assert_eq!(frame[30..34], [198, 18, 100, 1]);
        assert_eq!(frame[36..38], 443_u16.to_be_bytes());
        assert_eq!(frame[47], SYN);
    }

    #[test]
    fn numbers_and_data_go_into_the_segment() {
        let segment = Packet::tcp("198.18.0.1", "198.18.100.1", 80, ACK).numbers(1, 2).text(b"hello").bytes();
        assert_eq!(segment[38..46], [0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!((&segment[54..], segment[17]), (&b"hello"[..], 45));
    }

    #[test]
    fn extension_headers_name_what_follows_them() {
        let frame = Packet::syn("2001:db8::1", "2001:db8::2", 80)
            .extension(0, 1)
            .extension(60, 2)
            .fragment(0, true)
            .bytes();
        assert_eq!(frame.len(), 14 + 40 + 8 + 16 + 8 + 20);
        assert_eq!(frame[20], 0, "hop by hop comes first");
        assert_eq!((frame[54], frame[62], frame[63], frame[78]), (60, FRAGMENT, 1, TCP));
        assert_eq!(frame[81], 1, "more fragments");
    }

    #[test]
    fn tags_stand_between_the_addresses_and_the_type() {
        let frame = Packet::syn("198.18.0.1", "198.18.100.1", 443).vlan(0x88a8).vlan(0x8100).bytes();
        assert_eq!(frame[12..22], [0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 7, 0x08, 0x00]);
    }
}
