//! Packets between nodes, byte by byte as the documentation describes them.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that asks for an impossible packet must fail at once"
)]

use std::net::IpAddr;

use ingress_common::flow::addr_of;
use ingress_common::steer::flow_hash;
use ingress_common::tunnel::PORT;

/// What is written around a packet.
#[derive(Clone, Debug)]
pub struct Outer {
    /// Destination, then source.
    pub macs: [[u8; 6]; 2],
    /// VLAN tag; 0: none.
    pub vlan: u16,
    /// The sending node.
    pub source: IpAddr,
    /// The receiving node.
    pub destination: IpAddr,
    /// How many candidates had their turn.
    pub hops: u8,
    /// UDP with this, or IP in IP.
    pub udp: Option<Udp>,
}

/// Of a tunnel over UDP.
#[derive(Clone, Debug)]
pub struct Udp {
    /// Made from the flow.
    pub source_port: u16,
    /// Of the format.
    pub version: u8,
    /// Probe, answer.
    pub flags: u8,
    /// At the sender.
    pub pool: u32,
    /// Of the cluster.
    pub key: u64,
}

impl Outer {
    /// The frame with a packet, from its IP header on, inside; a probe has none.
    pub fn around(&self, inner: &[u8]) -> Vec<u8> {
        let kind = match inner.first().map(|byte| byte >> 4) {
            Some(4) => 4,
            Some(6) => 41,
            _ => 0,
        };
        let mut payload = Vec::new();
        if let Some(udp) = &self.udp {
            payload.extend(udp.source_port.to_be_bytes());
            payload.extend(PORT.to_be_bytes());
            payload.extend(u16::try_from(8 + 16 + inner.len()).expect("a packet that fits").to_be_bytes());
            payload.extend([0, 0, udp.version, self.hops, udp.flags, kind]);
            payload.extend(udp.pool.to_be_bytes());
            payload.extend(udp.key.to_be_bytes());
        }
        payload.extend(inner);
        let mut frame = self.macs.concat();
        if self.vlan != 0 {
            frame.extend([0x81, 0x00]);
            frame.extend(self.vlan.to_be_bytes());
        }
        let protocol = if self.udp.is_some() { 17 } else { kind };
        frame.extend(ip(self.source, self.destination, protocol, u16::from(self.hops), &payload));
        frame
    }
}

/// An Ethernet type and an IP packet of ours: not to be fragmented, with a time to live of 64.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a packet that fits");
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend([0x08, 0x00, 0x45, 0]);
            packet.extend((length + 20).to_be_bytes());
            packet.extend(id.to_be_bytes());
            packet.extend([0x40, 0, 64, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = checksum(&packet[2..22]);
            packet[12..14].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.extend([0x86, 0xdd, 0x60, 0]);
            packet.extend(id.to_be_bytes());
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => panic!("source and destination are of two families"),
    }
    packet.extend(payload);
    packet
}

/// The Internet checksum (RFC 1071), bit by bit as it is defined.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// The same with the pseudo header of IPv6 (RFC 8200, 8.1).
pub fn checksum6(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).expect("a packet that fits");
    let mut all = [addr_of(source), addr_of(destination)].concat();
    all.extend(length.to_be_bytes());
    all.extend([0, 0, 0, protocol]);
    all.extend(payload);
    checksum(&all)
}

/// The source port of a flow's packets in the tunnel.
pub fn source_port(client: &str, vip: &str, ports: [u16; 2], proto: u8, seed: u64) -> u16 {
    let hash = hash(client, vip, ports, proto, seed);
    u16::from_be_bytes([(hash >> 8) as u8, hash as u8]) | 0xc000
}

/// Which slot of a table a flow has, and which source port in the tunnel.
pub fn hash(client: &str, vip: &str, ports: [u16; 2], proto: u8, seed: u64) -> u64 {
    let words = |text: &str| -> [u32; 4] {
        let bytes = addr_of(text.parse().expect("an address"));
        [0, 4, 8, 12].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
    };
    let [from, to] = ports.map(u16::to_be_bytes);
    let ports = u32::from_ne_bytes([from[0], from[1], to[0], to[1]]);
    flow_hash(&words(client), &words(vip), ports, proto, seed)
}
