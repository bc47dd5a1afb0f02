//! A packet's identity, as far as the decision needs it. Ports are in host byte order, addresses as on the wire.

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`; bytes as on the wire.
pub type Addr = [u8; 16];

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// The IPv4-mapped form of an address.
#[inline(always)]
pub const fn v4_mapped(v4: [u8; 4]) -> Addr {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The IPv4 address in a mapped address, `None` for an IPv6 address.
#[inline(always)]
pub const fn v4_of(addr: &Addr) -> Option<[u8; 4]> {
    match *addr {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

/// An address of the standard library as the maps hold it.
pub fn addr_of(ip: core::net::IpAddr) -> Addr {
    match ip {
        core::net::IpAddr::V4(v4) => v4_mapped(v4.octets()),
        core::net::IpAddr::V6(v6) => v6.octets(),
    }
}

/// The inverse of [`addr_of`].
pub fn ip_of(addr: &Addr) -> core::net::IpAddr {
    match v4_of(addr) {
        Some(v4) => core::net::IpAddr::from(v4),
        None => core::net::IpAddr::from(*addr),
    }
}

/// What a packet is, once its headers were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sent it.
    pub source: Addr,
    /// Whom it is for.
    pub destination: Addr,
    /// What it carries.
    pub payload: Payload,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A TCP segment that opens a connection (SYN without ACK), to this port.
    TcpOpen(u16),
    /// Any other TCP segment, to this port.
    Tcp(u16),
    /// A UDP datagram, to this port.
    Udp(u16),
    /// An ICMP error about a packet that this port sent, with the protocol of that packet.
    Error(u16, u8),
    /// An echo request.
    Echo,
    /// Another protocol.
    Other,
    /// A fragment that is not the first: it has no ports.
    Fragment,
    /// More IPv6 extension headers than are followed.
    LongChain,
    /// The transport header is cut short.
    Cut,
}

impl Payload {
    /// The port and protocol by which a VIP is looked up, `None` where only its address can be.
    #[inline(always)]
    pub const fn port(self) -> Option<(u16, u8)> {
        match self {
            Self::TcpOpen(port) | Self::Tcp(port) => Some((port, TCP)),
            Self::Udp(port) => Some((port, UDP)),
            Self::Error(port, proto) => Some((port, proto)),
            Self::Echo | Self::Other | Self::Fragment | Self::LongChain | Self::Cut => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_into_a_map_key_and_back() {
        for text in ["198.18.0.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "::1"] {
            let ip: core::net::IpAddr = text.parse().unwrap();
            assert_eq!(ip_of(&addr_of(ip)), ip, "{text}");
        }
    }

    #[test]
    fn only_packets_with_a_port_are_looked_up_by_port() {
        assert_eq!(Payload::TcpOpen(80).port(), Some((80, TCP)));
        assert_eq!(Payload::Tcp(443).port(), Some((443, TCP)));
        assert_eq!(Payload::Udp(53).port(), Some((53, UDP)));
        assert_eq!(Payload::Other.port(), None);
        assert_eq!(Payload::Fragment.port(), None);
    }
}
