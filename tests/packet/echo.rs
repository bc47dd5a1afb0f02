//! Pings of a VIP: answered by the program, byte for byte as the stack would, and only where the lists admit them.

use std::net::IpAddr;

use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, Seen, Sent, XDP_TX, model, nets, policy, pool};
use ingress_tests::neighbour::{Mac, echo, frame};

const VIP: &str = "198.18.100.1";
const VIP6: &str = "2001:db8:100::1";
const NODE: &str = "198.18.0.10";
const NODE6: &str = "2001:db8::10";
const CLIENT: &str = "198.18.0.7";
const CLIENT6: &str = "2001:db8::7";
const DENIED: &str = "198.19.66.6";
const DENIED6: &str = "2001:db8:66::6";

const NIC: Mac = [2, 0xaa, 0xbb, 0xcc, 0xdd, 0x01];
const ROUTER: Mac = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
const GROUP: Mac = [1, 0, 0x5e, 0, 0, 1];

fn rig() -> Rig {
    let mut everywhere = policy("everywhere", None);
    everywhere.deny = nets(&["198.19.66.0/24", "2001:db8:66::/48"]);
    let node = [NODE, NODE6].map(|text| text.parse().unwrap());
    Rig::new(&model(vec![pool("edge", &[VIP, VIP6])], vec![everywhere]), &node, |_| {})
}

fn both() -> [(&'static str, Rig); 2] {
    [("at XDP", rig()), ("at TC", rig().at_tc())]
}

fn packet(source: &str, destination: &str, is_reply: bool, life: u8, data: usize) -> Vec<u8> {
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    echo(address(source), address(destination), is_reply, life, data)
}

fn ether_type(address: &str) -> u16 {
    if address.contains(':') { 0x86dd } else { 0x0800 }
}

#[test]
fn a_ping_of_a_vip_is_answered() {
    let tags: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 7)], &[(0x88a8, 9), (0x8100, 7)]];
    for (hook, mut rig) in both() {
        for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
            for tags in tags {
                for (life, data) in [(64, 56), (1, 0), (255, 1), (63, 1400)] {
                    let ether = ether_type(vip);
                    let asked = frame(NIC, ROUTER, tags, ether, &packet(client, vip, false, life, data));
                    let output = frame(ROUTER, NIC, tags, ether, &packet(vip, client, true, 64, data));
                    if !rig.takes(&asked) {
                        continue;
                    }
                    let seen = Seen { vip_id: rig.vip_id(Some(vip)), reason: Reason::EchoAnswered };
                    let expected = Sent { seen, verdict: XDP_TX, output };
                    assert_eq!(rig.send(&asked), expected, "{vip}, {data} bytes, {tags:?} {hook}");
                }
            }
        }
    }
}

#[test]
fn lists_hold_for_pings() {
    for (hook, mut rig) in both() {
        for (client, vip) in [(DENIED, VIP), (DENIED6, VIP6)] {
            let asked = frame(NIC, ROUTER, &[], ether_type(vip), &packet(client, vip, false, 64, 56));
            let expected = Seen { vip_id: rig.vip_id(Some(vip)), reason: Reason::Denied };
            assert_eq!(rig.run(&asked), expected, "{client} {hook}");
        }
    }
}

/// Changes a byte of an IP packet and, with `IPv4`, keeps its header checksum right.
fn changed(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    if packet[0] >> 4 == 4 {
        packet[10..12].copy_from_slice(&[0, 0]);
        let header = usize::from(packet[0] & 15) * 4;
        let words = packet[..header].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

#[test]
fn what_no_reply_may_follow_is_left_to_the_stack() {
    let ping = || packet(CLIENT, VIP, false, 64, 56);
    let ping6 = || packet(CLIENT6, VIP6, false, 64, 56);
    let mut broken = ping();
    broken[10] ^= 0x40;
    let mut options = ping();
    options.splice(20..20, [1, 1, 1, 0]);
    options[3] += 4;
    let options = changed(options, 0, 0x46);
    let mut extended = ping6();
    extended.splice(40..40, [58, 0, 1, 4, 0, 0, 0, 0]);
    extended[5] += 8;
    extended[6] = 60;
    let other = Reason::OtherProtocol;
    for (hook, mut rig) in both() {
        for (name, to, packet, reason) in [
            ("a first fragment", NIC, changed(ping(), 6, 0x20), other),
            ("a later fragment", NIC, changed(ping(), 7, 5), Reason::Fragment),
            ("a wrong header checksum", NIC, broken.clone(), other),
            ("with options", NIC, options.clone(), other),
            ("with an extension header", NIC, extended.clone(), other),
            ("a reply", NIC, packet(CLIENT, VIP, true, 64, 56), other),
            ("a reply, IPv6", NIC, packet(CLIENT6, VIP6, true, 64, 56), other),
            ("from no address", NIC, packet("0.0.0.0", VIP, false, 64, 56), other),
            ("from a group", NIC, packet("224.0.0.1", VIP, false, 64, 56), other),
            ("from everybody", NIC, packet("255.255.255.255", VIP, false, 64, 56), other),
            ("from loopback", NIC, packet("127.0.0.1", VIP, false, 64, 56), other),
            ("from a group, IPv6", NIC, packet("ff02::1", VIP6, false, 64, 56), other),
            ("from no address, IPv6", NIC, packet("::", VIP6, false, 64, 56), other),
            ("to a group on the link", GROUP, ping(), other),
            ("to a group on the link, IPv6", GROUP, ping6(), other),
            ("cut", NIC, ping()[..60].to_vec(), other),
        ] {
            let vip = if packet[0] >> 4 == 6 { VIP6 } else { VIP };
            let asked = frame(to, ROUTER, &[], ether_type(vip), &packet);
            let expected = Seen { vip_id: rig.vip_id(Some(vip)), reason };
            assert_eq!(rig.run(&asked), expected, "{name} {hook}");
        }
        for (client, node) in [(CLIENT, NODE), (CLIENT6, NODE6)] {
            let asked = frame(NIC, ROUTER, &[], ether_type(node), &packet(client, node, false, 64, 56));
            assert_eq!(rig.run(&asked).reason, Reason::Foreign, "the node answers for itself {hook}");
        }
    }
}
