//! The programs at TC: the same verdicts as XDP on the way in; counted and corrected on the way out.

use ingress_common::flow::addr_of;
use ingress_common::maps::{Count, VipKey, VipVal};
use ingress_common::source::{SrcKey, limited_source};
use ingress_common::verdict::{Action, Reason};
use ingress_tests::kernel::tc::{Act, EGRESS, INGRESS};
use ingress_tests::kernel::{Rig, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet, SYN};

const VIP: &str = "198.18.100.1";
const VIP6: &str = "2001:db8:100::1";
const NODE: &str = "198.18.0.10";
const CLIENT: &str = "198.18.7.7";
const CLIENT6: &str = "2001:db8:7::7";
const DENIED: &str = "198.19.66.6";
const DENIED6: &str = "2001:db8:66::6";
/// Where the segment's options begin: after Ethernet, IP and the fixed part of TCP.
const OPTIONS: usize = 14 + 20 + 20;
const OPTIONS6: usize = 14 + 40 + 20;

fn rig() -> Rig {
    let mut everywhere = policy("everywhere", None);
    everywhere.deny = nets(&["198.19.66.0/24", "2001:db8:66::/48"]);
    let pools = vec![pool("edge", &[VIP, VIP6])];
    Rig::new(&model(pools, vec![everywhere]), &[NODE.parse().unwrap()], |_| {})
}

#[test]
fn the_way_in_is_judged_as_at_xdp() {
    let packets = [
        ("opened", Packet::syn(CLIENT, VIP, 80)),
        ("opened, IPv6", Packet::syn(CLIENT6, VIP6, 443)),
        ("admitted", Packet::tcp(CLIENT, VIP, 80, ACK)),
        ("denied", Packet::syn(DENIED, VIP, 80)),
        ("denied, IPv6", Packet::tcp(DENIED6, VIP6, 80, ACK)),
        ("denied at the node's port", Packet::syn(DENIED, NODE, 80)),
        ("another port of the node", Packet::syn(DENIED, NODE, 22)),
        ("unserved port", Packet::syn(CLIENT, VIP, 81)),
        ("ping", Packet::other(CLIENT, VIP, 1)),
        ("fragment", Packet::udp(CLIENT, VIP, 80).fragment(5, true)),
        ("not ours", Packet::syn(CLIENT, "198.18.0.11", 80)),
        ("long", Packet::tcp(CLIENT, VIP, 80, ACK).data(1400)),
    ];
    for (name, packet) in packets {
        let frame = packet.bytes();
        let mut rig = rig();
        let seen = rig.run(&frame);
        let before = rig.counted(seen.vip_id, seen.reason);
        let (act, bytes) = rig.classify(INGRESS, &frame);
        let expected = if seen.reason.action() == Action::Drop { Act::Drop } else { Act::Next };
        assert_eq!(act, expected, "{name}");
        assert_eq!(bytes, frame, "{name}: untouched");
        let after = rig.counted(seen.vip_id, seen.reason);
        assert_eq!(
            (after.packets - before.packets, after.bytes - before.bytes),
            (1, frame.len() as u64),
            "{name}: counted once as {:?}",
            seen.reason
        );
    }
}

#[test]
fn what_leaves_is_counted_by_address_and_client() {
    let mut rig = rig();
    let sent = |rig: &mut Rig, vip: &str, client: &str, frame: &[u8]| {
        let vip_id = rig.vip_id(Some(vip));
        let key = SrcKey { addr: limited_source(&addr_of(client.parse().unwrap())), bucket: vip_id };
        let (act, bytes) = rig.classify(EGRESS, frame);
        assert_eq!((act, &bytes[..]), (Act::Next, frame), "untouched");
        (rig.counted(vip_id, Reason::Sent), rig.sent_to(key))
    };
    let frame = Packet::tcp(VIP, CLIENT, 4000, ACK).source_port(80).data(500).bytes();
    let once = Count { packets: 1, bytes: frame.len() as u64 };
    assert_eq!(sent(&mut rig, VIP, CLIENT, &frame), (once, once));
    let twice = Count { packets: 2, bytes: 2 * frame.len() as u64 };
    assert_eq!(sent(&mut rig, VIP, CLIENT, &frame), (twice, twice));

    let frame = Packet::udp(VIP6, CLIENT6, 4000).vlan(0x8100).bytes();
    let once = Count { packets: 1, bytes: frame.len() as u64 };
    assert_eq!(sent(&mut rig, VIP6, "2001:db8:7::ffff", &frame), (once, once), "by the /64 of the client");

    // The node's own address is served on some ports only; the rest of its traffic is not ours.
    let frame = Packet::tcp(NODE, CLIENT, 4000, ACK).source_port(80).bytes();
    let once = Count { packets: 1, bytes: frame.len() as u64 };
    assert_eq!(sent(&mut rig, NODE, CLIENT, &frame), (once, once));
    let frame = Packet::tcp(NODE, CLIENT, 4000, ACK).source_port(22).bytes();
    assert_eq!(sent(&mut rig, NODE, CLIENT, &frame), (once, once), "not counted");
    let frame = Packet::other(NODE, CLIENT, 1).bytes();
    assert_eq!(sent(&mut rig, NODE, CLIENT, &frame), (once, once), "not counted");
}

/// An ARP message about IPv4 addresses.
fn arp(operation: u8, sender: &str, target: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let mut data = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 2];
    data.extend(octets(sender));
    data.extend([0; 6]);
    data.extend(octets(target));
    Packet::ethernet(0x0806, &data)
}

#[test]
fn no_question_goes_out_in_the_name_of_a_vip_of_another_node() {
    let (request, reply) = (1, 2);
    let own = "198.18.0.10";
    let mut rig = rig();
    let question = arp(request, VIP, CLIENT);
    let (act, bytes) = rig.classify(EGRESS, &question);
    assert_eq!((act, bytes), (Act::Next, arp(request, "0.0.0.0", CLIENT)), "a probe, without an address");
    rig.set_interface_address([198, 18, 0, 10]);
    assert_eq!(rig.classify(EGRESS, &question).1, arp(request, own, CLIENT));
    for (name, frame) in [
        ("of the node itself", arp(request, own, CLIENT)),
        ("of somebody else", arp(request, "198.18.0.11", CLIENT)),
        ("an announcement", arp(request, VIP, VIP)),
        ("an answer", arp(reply, VIP, CLIENT)),
    ] {
        assert_eq!(rig.classify(EGRESS, &frame).1, frame, "{name}");
    }
    let key = VipKey::address(addr_of(VIP.parse().unwrap()));
    let vip = rig.contents.vips[&key];
    rig.set_vip(key, VipVal { flags: vip.flags | VipVal::ANNOUNCE, ..vip });
    assert_eq!(rig.classify(EGRESS, &question).1, arp(request, own, CLIENT), "its agent is gone");
    rig.set_heartbeat(Some(0));
    assert_eq!(rig.classify(EGRESS, &question).1, question, "this node announces it");
}

#[test]
fn the_mss_of_a_syn_ack_is_lowered_and_its_checksum_stays_right() {
    let limit = 1416_u16;
    let mut rig = rig();
    for address in [VIP, VIP6] {
        let key = VipKey::address(addr_of(address.parse().unwrap()));
        let vip = rig.contents.vips[&key];
        rig.set_vip(key, VipVal { mss: limit, ..vip });
    }
    let mss = |value: u16| [2, 4, value.to_be_bytes()[0], value.to_be_bytes()[1]];
    let first = [&mss(1460)[..], &[1, 3, 3, 7]].concat();
    let behind_two = [&[1, 1][..], &mss(1460), &[1, 1]].concat();
    let at_odd_place = [&[1][..], &mss(1460), &[1, 1, 1]].concat();
    let behind_an_option = [&[3, 3, 7][..], &mss(1460), &[1]].concat();
    for (name, options, at) in [
        ("first", first, 0),
        ("at an odd place", at_odd_place, 1),
        ("behind padding", behind_two, 2),
        ("behind another option", behind_an_option, 3),
    ] {
        for (vip, client, start) in [(VIP, CLIENT, OPTIONS), (VIP6, CLIENT6, OPTIONS6)] {
            let frame = Packet::tcp(vip, client, 4000, SYN | ACK)
                .source_port(80)
                .tcp_options(&options)
                .bytes_with_checksum();
            let (_, bytes) = rig.classify(EGRESS, &frame);
            let field = start + at + 2;
            assert_eq!(bytes[field..field + 2], limit.to_be_bytes(), "{name}");
            let mut expected = options.clone();
            expected[at + 2..at + 4].copy_from_slice(&limit.to_be_bytes());
            let expected = Packet::tcp(vip, client, 4000, SYN | ACK)
                .source_port(80)
                .tcp_options(&expected)
                .bytes_with_checksum();
            assert_eq!(bytes, expected, "{name}: with its checksum, and nothing else");
        }
    }
    for (name, flags, options) in [
        ("small enough", SYN | ACK, mss(1416).to_vec()),
        ("a SYN of ours", SYN, mss(1460).to_vec()),
        ("data", ACK, mss(1460).to_vec()),
        ("no MSS", SYN | ACK, vec![1, 1, 1, 1]),
        ("the end comes first", SYN | ACK, [&[0, 0, 0, 0][..], &mss(1460)].concat()),
        ("an option without length", SYN | ACK, [&[8, 0, 1, 1][..], &mss(1460)].concat()),
    ] {
        let packet = Packet::tcp(VIP, CLIENT, 4000, flags).source_port(80);
        let frame = packet.tcp_options(&options).bytes_with_checksum();
        assert_eq!(rig.classify(EGRESS, &frame).1, frame, "{name}");
    }
    // Another address is not in an encapsulated pool.
    let frame = Packet::tcp(NODE, CLIENT, 4000, SYN | ACK).source_port(80).tcp_options(&mss(1460)).bytes();
    assert_eq!(rig.classify(EGRESS, &frame).1, frame);
}

#[test]
fn cut_and_strange_packets_leave_as_they_are() {
    let mut rig = rig();
    let whole =
        Packet::tcp(VIP, CLIENT, 4000, SYN | ACK).source_port(80).tcp_options(&[2, 4, 5, 180]).bytes();
    for len in 34..whole.len() {
        assert_eq!(rig.classify(EGRESS, &whole[..len]), (Act::Next, whole[..len].to_vec()), "{len} bytes");
        assert_eq!(rig.classify(INGRESS, &whole[..len]).1, whole[..len], "{len} bytes");
    }
    let short = arp(1, VIP, CLIENT);
    for len in 15..short.len() {
        assert_eq!(rig.classify(EGRESS, &short[..len]).1, short[..len], "{len} bytes of ARP");
    }
    let other = Packet::ethernet(0x88cc, &[0; 50]);
    assert_eq!(rig.classify(EGRESS, &other), (Act::Next, other));
}
