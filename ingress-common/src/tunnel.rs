//! How a packet travels from the node that received it to the node that owns it.
//!
//! `UDP`: outer IP, UDP to [`PORT`] with a source port made from the flow (so that receive queues and links spread it),
//! then [`Header`], then the packet from its IP header on. `IPIP`: outer IP and the packet, nothing between (RFC 2003,
//! RFC 2473); the hops stand in the outer identification (IPv4) or flow label (IPv6). UDP checksums are zero, also over
//! IPv6 (RFC 6935 permits it for tunnels): the inner packet has its own.

/// UDP port of the tunnel; not registered by anyone.
pub const PORT: u16 = 7447;

/// What follows the UDP header, bytes as on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`Header::VERSION`].
    pub version: u8,
    /// How often the packet was sent on, this time included.
    pub hops: u8,
    /// Bits, the constants below.
    pub flags: u8,
    /// IP protocol number of the inner packet: 4 or 41; 0 in a probe.
    pub protocol: u8,
    /// Number of the pool at the sender, big endian; for people who look at packets.
    pub pool: [u8; 4],
    /// The cluster's key, big endian. Keeps stray packets out, not an attacker who reads the network.
    pub key: [u8; 8],
}
const _: () = assert!(size_of::<Header>() == 16 && align_of::<Header>() == 1);

impl Header {
    /// The only version.
    pub const VERSION: u8 = 1;
    /// Asks the program at the other end for an answer.
    pub const PROBE: u8 = 1;
    /// The answer to a probe.
    pub const ANSWER: u8 = 1 << 1;
    /// In an answer: the node answers SYNs by cookies at present.
    pub const ARMED: u8 = 1 << 2;
    /// In an answer: the agent of the node gave no sign of life for so long that its programs announce nothing.
    pub const SILENT: u8 = 1 << 3;
}

/// Bytes that the tunnel adds in front of an inner packet.
pub const fn overhead(is_udp: bool, outer_is_ipv6: bool) -> u16 {
    let ip = if outer_is_ipv6 { 40 } else { 20 };
    if is_udp { ip + 8 + size_of::<Header>() as u16 } else { ip }
}

/// What a TCP segment may carry so that it still fits through the tunnel: MTU without the headers on either side.
pub const fn mss(mtu: u16, overhead: u16, inner_is_ipv6: bool) -> u16 {
    let headers = if inner_is_ipv6 { 40 + 20 } else { 20 + 20 };
    mtu.saturating_sub(overhead).saturating_sub(headers)
}

/// Source port of a flow in the tunnel, from the range that no service listens on.
#[inline(always)]
pub const fn source_port(flow_hash: u64) -> u16 {
    (flow_hash as u16) | 0xc000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_is_what_the_documentation_says() {
        assert_eq!([overhead(true, false), overhead(true, true)], [44, 64]);
        assert_eq!([overhead(false, false), overhead(false, true)], [20, 40]);
        assert_eq!(mss(1500, 44, false), 1416);
        assert_eq!(mss(1500, 64, true), 1376);
        assert_eq!(mss(40, 44, true), 0);
    }
}
