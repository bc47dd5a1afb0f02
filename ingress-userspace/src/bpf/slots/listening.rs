//! Whether the sockets of a run are still open, as the kernel's tables of this network namespace say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Family, Run};
use crate::link::messages::{DATAGRAMS_V4, DATAGRAMS_V6};

/// Whether any socket of the run's group is open.
pub fn is_listening(family: Family, run: &Run) -> bool {
    let address: IpAddr = match (family, run.is_udp) {
        (Family::V4, false) => Ipv4Addr::LOCALHOST.into(),
        (Family::V6, false) => Ipv6Addr::LOCALHOST.into(),
        (Family::V4, true) => DATAGRAMS_V4.into(),
        (Family::V6, true) => DATAGRAMS_V6.into(),
    };
    let (protocol, state) = if run.is_udp { ("udp", "07") } else { ("tcp", "0A") };
    let (suffix, address) = match address {
        IpAddr::V4(v4) => ("", word(v4.octets())),
        IpAddr::V6(v6) => ("6", v6.octets().as_chunks::<4>().0.iter().copied().map(word).collect()),
    };
    let wanted = format!("{address}:{:04X}", run.port);
    std::fs::read_to_string(format!("/proc/self/net/{protocol}{suffix}")).is_ok_and(|table| {
        table.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            // Local address, remote address, state.
            fields.next() == Some(&wanted) && fields.nth(1) == Some(state)
        })
    })
}

/// Four bytes of an address as the kernel prints them: a number of this machine.
fn word(bytes: [u8; 4]) -> String {
    format!("{:08X}", u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn run(port: u16, is_udp: bool) -> Run {
        Run { first: 0, slots: 1, port, is_udp }
    }

    #[test]
    fn a_listening_port_is_seen_and_a_closed_one_is_not() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_listening(Family::V4, &run(port, false)));
        assert!(!is_listening(Family::V6, &run(port, false)));
        assert!(!is_listening(Family::V4, &run(port, true)));
        drop(socket);
        assert!(!is_listening(Family::V4, &run(port, false)));
        let socket = TcpListener::bind("[::1]:0").unwrap();
        assert!(is_listening(Family::V6, &run(socket.local_addr().unwrap().port(), false)));
    }

    #[test]
    fn a_socket_for_datagrams_is_seen_at_its_own_address() {
        let socket = UdpSocket::bind((DATAGRAMS_V4, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_listening(Family::V4, &run(port, true)));
        assert!(!is_listening(Family::V4, &run(port, false)));
        drop(socket);
        assert!(!is_listening(Family::V4, &run(port, true)));
    }
}
