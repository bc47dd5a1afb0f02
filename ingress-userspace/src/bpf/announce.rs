//! Tells neighbours, unasked, that VIPs are at this node: gratuitous ARP (RFC 5227, 3) and unsolicited neighbour
//! advertisements (RFC 4861, 7.2.6).
//!
//! They leave by a packet socket, because the stack sends neither for an address that no interface has. ARP goes out as
//! a request and as a reply: hosts differ in which of the two they believe.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;

use socket2::{Domain, Socket, Type};

use super::interfaces::Interface;
use super::syscall;

const BROADCAST: [u8; 6] = [0xff; 6];
/// Every IPv6 node of the link, and their group.
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Tells the neighbours on an interface of these addresses.
pub fn tell(interface: &Interface, addresses: &BTreeSet<IpAddr>) -> io::Result<()> {
    // Protocol 0: it receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    syscall::bind_to_interface(socket.as_fd(), interface.index)?;
    for address in addresses {
        for frame in frames(interface.mac, *address) {
            socket.send(&frame)?;
        }
    }
    Ok(())
}

fn frames(mac: [u8; 6], address: IpAddr) -> Vec<Vec<u8>> {
    const REQUEST: u8 = 1;
    const REPLY: u8 = 2;
    match address {
        IpAddr::V4(address) => vec![arp(REQUEST, mac, address), arp(REPLY, mac, address)],
        IpAddr::V6(address) => vec![advertisement(mac, address)],
    }
}

fn arp(operation: u8, mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    // Of a request, who is asked for has no hardware address yet.
    let target = if operation == 1 { [0; 6] } else { mac };
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let address = address.octets();
    [&BROADCAST[..], &mac, &ARP, &head, &mac, &address, &target, &address].concat()
}

fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let message = |sum: [u8; 2]| {
        let head = [136, 0, sum[0], sum[1], OVERRIDE, 0, 0, 0];
        [&head[..], &address.octets(), &[2, 1], &mac].concat()
    };
    let addresses = [address.octets(), ALL_NODES.octets()].concat();
    let length = [0, 32];
    let sum = checksum(&[&addresses[..], &length, &[0, 58], &message([0, 0])].concat());
    let ip = [&[0x60, 0, 0, 0][..], &length, &[58, 255], &addresses].concat();
    [&ALL_NODES_MAC[..], &mac, &IPV6, &ip, &message(sum)].concat()
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let (pairs, _) = bytes.as_chunks::<2>();
    let mut sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0xaa, 0xbb, 0xcc, 0xdd, 1];

    #[test]
    fn an_ipv4_address_is_told_of_as_a_question_and_as_an_answer() {
        let [request, reply] = &frames(MAC, "198.18.100.1".parse().unwrap())[..] else {
            panic!("two frames")
        };
        let mut expected = vec![0xff; 6];
        expected.extend(MAC);
        expected.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        expected.extend(MAC);
        expected.extend([198, 18, 100, 1, 0, 0, 0, 0, 0, 0, 198, 18, 100, 1]);
        assert_eq!(*request, expected);
        expected[21] = 2;
        expected[32..38].copy_from_slice(&MAC);
        assert_eq!(*reply, expected);
    }

    #[test]
    fn an_ipv6_address_is_told_of_by_an_advertisement_that_overrides() {
        let [frame] = &frames(MAC, "2001:db8:100::1".parse().unwrap())[..] else { panic!("one frame") };
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0xaa, 0xbb, 0xcc, 0xdd, 1, 0x86, 0xdd]);
        assert_eq!((frame[20], frame[21], frame[54], frame[58]), (58, 255, 136, 0x20));
        assert_eq!(frame[78..], [2, 1, 2, 0xaa, 0xbb, 0xcc, 0xdd, 1]);
        // With its checksum in it, the sum over everything is zero.
        let whole = [&frame[22..54], &[0, 32, 0, 58], &frame[54..]].concat();
        assert_eq!(checksum(&whole), [0, 0]);
    }
}
