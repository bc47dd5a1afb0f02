//! What neighbours on a link say to each other, byte by byte: ARP, IPv6 neighbour discovery, echo; checksums are right.
#![expect(clippy::indexing_slicing, reason = "places in messages of a fixed length")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];
/// Everybody on the link.
pub const BROADCAST: Mac = [0xff; 6];
/// Every IPv6 node on the link.
pub const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// ARP asks.
pub const REQUEST: u8 = 1;
/// ARP answers.
pub const REPLY: u8 = 2;
/// Neighbour discovery asks.
pub const SOLICITATION: u8 = 135;
/// Neighbour discovery answers.
pub const ADVERTISEMENT: u8 = 136;

/// A frame with VLAN tags, the outer first: (type, number).
pub fn frame(to: Mac, from: Mac, tags: &[(u16, u16)], ether_type: u16, data: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for (kind, number) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(number.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(data);
    frame
}

/// An ARP message: sender and target, each with both addresses.
pub fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, ip) in [sender, target] {
        message.extend(mac);
        message.extend(ip.octets());
    }
    message
}

/// A message of neighbour discovery in its IPv6 packet.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Solicitation or advertisement.
    pub kind: u8,
    /// First byte of the flags.
    pub flags: u8,
    /// Whom it is about.
    pub target: Ipv6Addr,
    /// Who sends it.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// Options as they are.
    pub options: Vec<u8>,
    /// Hop limit.
    pub hops: u8,
}

impl Discovery {
    /// The question for an address, to its group, with the asker's hardware address.
    pub fn question(source: Ipv6Addr, mac: Mac, target: Ipv6Addr) -> Self {
        Self {
            kind: SOLICITATION,
            flags: 0,
            target,
            source,
            destination: group(target),
            options: [&[1, 1][..], &mac].concat(),
            hops: 255,
        }
    }

    /// The answer, with the hardware address that it is about.
    pub fn answer(flags: u8, destination: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Self {
        Self {
            kind: ADVERTISEMENT,
            flags,
            target,
            source: target,
            destination,
            options: [&[2, 1][..], &mac].concat(),
            hops: 255,
        }
    }

    /// The IPv6 packet.
    pub fn bytes(&self) -> Vec<u8> {
        let mut icmp = vec![self.kind, 0, 0, 0, self.flags, 0, 0, 0];
        icmp.extend(self.target.octets());
        icmp.extend(&self.options);
        ip(IpAddr::V6(self.source), IpAddr::V6(self.destination), self.hops, icmp)
    }
}

/// The group of those whose address ends like this one (RFC 4291, 2.7.1).
pub fn group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet address of an IPv6 group.
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// An echo request or reply with so many bytes of data.
pub fn echo(source: IpAddr, destination: IpAddr, is_reply: bool, life: u8, data: usize) -> Vec<u8> {
    let kind = match (source.is_ipv4(), is_reply) {
        (true, false) => 8,
        (true, true) => 0,
        (false, false) => 128,
        (false, true) => 129,
    };
    let mut icmp = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 7];
    icmp.extend((0..data).map(|at| at.to_le_bytes()[0]));
    ip(source, destination, life, icmp)
}

/// An ICMP message, its checksum zero, in an IP packet.
fn ip(source: IpAddr, destination: IpAddr, life: u8, mut icmp: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(icmp.len()).unwrap_or(u16::MAX);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let sum = checksum(&icmp);
            icmp[2..4].copy_from_slice(&sum);
            let mut header = vec![0x45, 0];
            header.extend((20 + length).to_be_bytes());
            header.extend([0xab, 0xcd, 0x40, 0, life, 1, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum);
            [header, icmp].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let addresses = [source.octets(), destination.octets()].concat();
            let sum = checksum(&[&addresses[..], &length.to_be_bytes(), &[0, 58], &icmp].concat());
            icmp[2..4].copy_from_slice(&sum);
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([58, life]);
            [header, addresses, icmp].concat()
        }
        _ => Vec::new(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), [0x22, 0x0d]);
    }

    #[test]
    fn a_solicitation_has_its_fields_where_rfc_4861_puts_them() {
        let target: Ipv6Addr = "2001:db8::1:2345".parse().unwrap();
        let packet = Discovery::question("fe80::1".parse().unwrap(), [2, 0, 0, 0, 0, 9], target).bytes();
        assert_eq!(packet.len(), 40 + 32);
        assert_eq!(packet[24..40], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 1, 0x23, 0x45]);
        assert_eq!((packet[6], packet[7], packet[40]), (58, 255, SOLICITATION));
        assert_eq!(packet[48..64], target.octets());
        assert_eq!(packet[64..], [1, 1, 2, 0, 0, 0, 0, 9]);
    }
}
