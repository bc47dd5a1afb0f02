//! What a packet is → what becomes of it.

use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, Seen, model, nets, policy, pool};
use ingress_tests::packet::{ACK, CWR, ECE, FIN, PSH, Packet, RST, SYN};

/// A VIP without policies of its own.
const OPEN: &str = "198.18.100.1";
const OPEN6: &str = "2001:db8:100::1";
/// A VIP behind an allow list.
const WALLED: &str = "198.18.150.1";
const WALLED6: &str = "2001:db8:150::1";
/// An address of the node.
const NODE: &str = "198.18.0.10";
const NODE6: &str = "2001:db8::10";
/// An address that is not ours.
const ELSEWHERE: &str = "198.18.0.11";
const ELSEWHERE6: &str = "2001:db8::11";
/// Anybody.
const CLIENT: &str = "198.18.7.7";
const CLIENT6: &str = "2001:db8:7::7";
/// Denied at every address.
const DENIED: &str = "198.19.66.6";
const DENIED6: &str = "2001:db8:66::6";
/// Denied at `WALLED` only, though on its allow list.
const BANISHED: &str = "198.18.1.66";
const BANISHED6: &str = "2001:db8:1::66";
/// On the allow list of `WALLED`.
const FRIEND: &str = "198.18.1.1";
const FRIEND6: &str = "2001:db8:1::1";

fn rig() -> Rig {
    let mut everywhere = policy("everywhere", None);
    everywhere.deny = nets(&["198.19.66.0/24", "2001:db8:66::/48"]);
    let mut walled = policy("walled", Some("walled"));
    walled.allow = nets(&["198.18.1.0/24", "2001:db8:1::/48", "198.19.66.0/24"]);
    walled.deny = nets(&["198.18.1.66/32", "2001:db8:1::66/128"]);
    let pools = vec![pool("open", &[OPEN, OPEN6]), pool("walled", &[WALLED, WALLED6])];
    let node = [NODE, NODE6].map(|text| text.parse().unwrap());
    Rig::new(&model(pools, vec![everywhere, walled]), &node, |_| {})
}

type Case = (&'static str, Vec<u8>, Option<&'static str>, Reason);

fn check(cases: &[Case]) {
    for (hook, mut rig) in [("at XDP", rig()), ("at TC", rig().at_tc())] {
        for (name, frame, address, reason) in cases {
            if !rig.takes(frame) {
                continue;
            }
            let expected = Seen { vip_id: rig.vip_id(*address), reason: *reason };
            assert_eq!(rig.run(frame), expected, "{name} {hook}");
        }
    }
}

#[test]
fn traffic_that_is_not_ours_passes() {
    use Reason::{Foreign, NotIp};
    let foreign = |packet: Packet| packet.bytes();
    check(&[
        ("SYN to another host", foreign(Packet::syn(CLIENT, ELSEWHERE, 80)), None, Foreign),
        ("SYN to another host, IPv6", foreign(Packet::syn(CLIENT6, ELSEWHERE6, 443)), None, Foreign),
        ("UDP to another host", foreign(Packet::udp(CLIENT, ELSEWHERE, 53)), None, Foreign),
        ("ping to another host", foreign(Packet::other(CLIENT, ELSEWHERE, 1)), None, Foreign),
        ("a denied source to another host", foreign(Packet::syn(DENIED, ELSEWHERE, 80)), None, Foreign),
        (
            "a denied source to another host, IPv6",
            foreign(Packet::syn(DENIED6, ELSEWHERE6, 80)),
            None,
            Foreign,
        ),
        ("from a served address", foreign(Packet::tcp(OPEN, CLIENT, 80, ACK)), None, Foreign),
        (
            "a fragment to another host",
            foreign(Packet::udp(CLIENT, ELSEWHERE, 53).fragment(9, true)),
            None,
            Foreign,
        ),
        ("IPIP between nodes", foreign(Packet::other(CLIENT, NODE, 4)), None, Foreign),
        ("SSH to the node", foreign(Packet::syn(CLIENT, NODE, 22)), None, Foreign),
        (
            "to a port of the node with the bit of a served one",
            foreign(Packet::syn(CLIENT, NODE, 443 + 64)),
            None,
            Foreign,
        ),
        ("SSH to the node, IPv6", foreign(Packet::syn(CLIENT6, NODE6, 22)), None, Foreign),
        ("SSH to the node from a denied source", foreign(Packet::syn(DENIED, NODE, 22)), None, Foreign),
        ("UDP to a port of the node that TCP serves", foreign(Packet::udp(CLIENT, NODE, 443)), None, Foreign),
        ("ping to the node", foreign(Packet::other(DENIED, NODE, 1)), None, Foreign),
        (
            "a later fragment to the node",
            foreign(Packet::udp(DENIED, NODE, 80).fragment(9, false)),
            None,
            Foreign,
        ),
        (
            "to an IPv4 address as IPv6",
            foreign(Packet::syn(CLIENT6, "::ffff:198.18.100.1", 80)),
            None,
            Foreign,
        ),
        ("from an IPv4 address as IPv6", foreign(Packet::syn("::ffff:198.18.1.1", OPEN6, 80)), None, Foreign),
        ("to the limited broadcast", foreign(Packet::udp(CLIENT, "255.255.255.255", 67)), None, Foreign),
        ("to a multicast group, IPv6", foreign(Packet::other(CLIENT6, "ff02::1", 58)), None, Foreign),
        ("ARP", Packet::ethernet(0x0806, &[0; 28]), None, NotIp),
        ("ARP in a VLAN", Packet::ethernet(0x8100, &[0, 7, 0x08, 0x06, 0, 1, 8, 0]), None, NotIp),
        ("LLDP", Packet::ethernet(0x88cc, &[2, 7, 4]), None, NotIp),
        ("an unknown type", Packet::ethernet(0x1234, b"data"), None, NotIp),
        ("a frame with a length instead of a type", Packet::ethernet(38, &[0x42; 38]), None, NotIp),
        (
            "three VLAN tags",
            Packet::syn(DENIED, OPEN, 80).vlan(0x88a8).vlan(0x8100).vlan(0x8100).bytes(),
            None,
            NotIp,
        ),
    ]);
}

#[test]
fn served_ports_are_admitted() {
    use Reason::{Admitted, Opened};
    let syn = |address, port| Packet::syn(CLIENT, address, port);
    let syn6 = |address, port| Packet::syn(CLIENT6, address, port);
    check(&[
        ("SYN", syn(OPEN, 80).bytes(), Some(OPEN), Opened),
        ("SYN to the other port", syn(OPEN, 443).bytes(), Some(OPEN), Opened),
        ("SYN, IPv6", syn6(OPEN6, 80).bytes(), Some(OPEN6), Opened),
        ("SYN to the node", syn(NODE, 443).bytes(), Some(NODE), Opened),
        ("SYN to the node, IPv6", syn6(NODE6, 443).bytes(), Some(NODE6), Opened),
        ("SYN in a VLAN", syn(OPEN, 80).vlan(0x8100).bytes(), Some(OPEN), Opened),
        ("SYN in a service VLAN", syn(OPEN, 80).vlan(0x88a8).bytes(), Some(OPEN), Opened),
        ("SYN in two VLANs", syn(OPEN, 80).vlan(0x88a8).vlan(0x8100).bytes(), Some(OPEN), Opened),
        ("SYN in two VLANs, IPv6", syn6(OPEN6, 80).vlan(0x8100).vlan(0x8100).bytes(), Some(OPEN6), Opened),
        ("SYN in a VLAN, IPv6", syn6(OPEN6, 80).vlan(0x8100).bytes(), Some(OPEN6), Opened),
        ("SYN with data", syn(OPEN, 80).data(100).bytes(), Some(OPEN), Opened),
        ("SYN with ECN", Packet::tcp(CLIENT, OPEN, 80, SYN | ECE | CWR).bytes(), Some(OPEN), Opened),
        ("SYN with FIN", Packet::tcp(CLIENT, OPEN, 80, SYN | FIN).bytes(), Some(OPEN), Opened),
        ("SYN with IPv4 options", syn(OPEN, 80).options(1).bytes(), Some(OPEN), Opened),
        ("SYN with all IPv4 options", syn(OPEN, 443).options(10).bytes(), Some(OPEN), Opened),
        ("SYN as a first fragment", syn(OPEN, 80).data(60).fragment(0, true).bytes(), Some(OPEN), Opened),
        ("SYN, do not fragment", syn(OPEN, 80).fragment(0x4000, false).bytes(), Some(OPEN), Opened),
        ("SYN after hop by hop", syn6(OPEN6, 80).extension(0, 1).bytes(), Some(OPEN6), Opened),
        ("SYN after destination options", syn6(OPEN6, 80).extension(60, 3).bytes(), Some(OPEN6), Opened),
        ("SYN after a routing header", syn6(OPEN6, 80).extension(43, 2).bytes(), Some(OPEN6), Opened),
        ("SYN in an atomic fragment", syn6(OPEN6, 80).fragment(0, false).bytes(), Some(OPEN6), Opened),
        (
            "SYN after four extensions",
            syn6(OPEN6, 443).extension(0, 1).extension(60, 1).extension(43, 1).extension(60, 1).bytes(),
            Some(OPEN6),
            Opened,
        ),
        ("ACK", Packet::tcp(CLIENT, OPEN, 80, ACK).bytes(), Some(OPEN), Admitted),
        ("data", Packet::tcp(CLIENT, OPEN, 80, ACK | PSH).data(1000).bytes(), Some(OPEN), Admitted),
        ("data, IPv6", Packet::tcp(CLIENT6, OPEN6, 443, ACK | PSH).data(1000).bytes(), Some(OPEN6), Admitted),
        ("SYN-ACK", Packet::tcp(CLIENT, OPEN, 80, SYN | ACK).bytes(), Some(OPEN), Admitted),
        ("RST", Packet::tcp(CLIENT, OPEN, 80, RST).bytes(), Some(OPEN), Admitted),
        ("no flags at all", Packet::tcp(CLIENT, OPEN, 80, 0).bytes(), Some(OPEN), Admitted),
        ("ACK to the node", Packet::tcp(CLIENT, NODE, 80, ACK).bytes(), Some(NODE), Admitted),
        (
            "data in a first fragment",
            Packet::tcp(CLIENT, OPEN, 80, ACK).data(52).fragment(0, true).bytes(),
            Some(OPEN),
            Admitted,
        ),
    ]);
}

#[test]
fn other_packets_for_a_vip_go_to_the_stack() {
    use Reason::{Fragment, LongChain, OtherProtocol, UnservedPort};
    let five =
        Packet::syn(CLIENT6, OPEN6, 80).extension(0, 1).extension(60, 1).extension(43, 1).extension(60, 1);
    check(&[
        ("SYN to a port that is not served", Packet::syn(CLIENT, OPEN, 22).bytes(), Some(OPEN), UnservedPort),
        (
            "SYN to a port with the bit of a served one",
            Packet::syn(CLIENT, OPEN, 80 + 32).bytes(),
            Some(OPEN),
            UnservedPort,
        ),
        ("SYN to port 0", Packet::syn(CLIENT, OPEN, 0).bytes(), Some(OPEN), UnservedPort),
        ("the same, IPv6", Packet::syn(CLIENT6, OPEN6, 22).bytes(), Some(OPEN6), UnservedPort),
        ("UDP to a port that TCP serves", Packet::udp(CLIENT, OPEN, 443).bytes(), Some(OPEN), UnservedPort),
        ("UDP, IPv6", Packet::udp(CLIENT6, OPEN6, 443).bytes(), Some(OPEN6), UnservedPort),
        ("ping", Packet::other(CLIENT, OPEN, 1).bytes(), Some(OPEN), OtherProtocol),
        ("ping, IPv6", Packet::other(CLIENT6, OPEN6, 58).bytes(), Some(OPEN6), OtherProtocol),
        ("ping with options", Packet::other(CLIENT, OPEN, 1).options(2).bytes(), Some(OPEN), OtherProtocol),
        ("SCTP", Packet::other(CLIENT, OPEN, 132).bytes(), Some(OPEN), OtherProtocol),
        ("ESP, IPv6", Packet::other(CLIENT6, OPEN6, 50).bytes(), Some(OPEN6), OtherProtocol),
        ("a later fragment", Packet::syn(CLIENT, OPEN, 80).fragment(1, false).bytes(), Some(OPEN), Fragment),
        (
            "a middle fragment",
            Packet::syn(CLIENT, OPEN, 80).fragment(185, true).bytes(),
            Some(OPEN),
            Fragment,
        ),
        (
            "a far fragment",
            Packet::syn(CLIENT, OPEN, 80).fragment(0x1000, false).bytes(),
            Some(OPEN),
            Fragment,
        ),
        (
            "a far fragment, IPv6",
            Packet::udp(CLIENT6, OPEN6, 80).fragment(0x1000, true).bytes(),
            Some(OPEN6),
            Fragment,
        ),
        (
            "a later fragment, IPv6",
            Packet::udp(CLIENT6, OPEN6, 80).fragment(1, true).bytes(),
            Some(OPEN6),
            Fragment,
        ),
        ("five extensions", five.extension(60, 1).bytes(), Some(OPEN6), LongChain),
    ]);
}

#[test]
fn headers_that_end_early_go_to_the_stack() {
    use Reason::{Foreign, Truncated};
    let syn = Packet::syn(CLIENT, OPEN, 80);
    let syn6 = Packet::syn(CLIENT6, OPEN6, 80);
    let tagged = syn.clone().vlan(0x8100);
    assert_eq!((syn.link_len(), tagged.link_len()), (14, 18));
    let cut = |packet: &Packet, len| packet.clone().cut(len).bytes();
    check(&[
        ("nothing after the Ethernet header", cut(&syn, 14), None, Truncated),
        ("nothing after the Ethernet header, IPv6", cut(&syn6, 14), None, Truncated),
        ("half a VLAN tag", cut(&tagged, 16), None, Truncated),
        ("nothing after the VLAN tag", cut(&tagged, 18), None, Truncated),
        ("one byte of IPv4 missing", cut(&syn, 33), None, Truncated),
        ("one byte of IPv6 missing", cut(&syn6, 53), None, Truncated),
        ("a version that is not 4", syn.clone().version_and_length(0x65).bytes(), None, Truncated),
        (
            "an IPv4 header shorter than it can be",
            syn.clone().version_and_length(0x44).bytes(),
            None,
            Truncated,
        ),
        ("options that are not there", cut(&syn.clone().options(10), 40), Some(OPEN), Truncated),
        ("no TCP header", cut(&syn, 34), Some(OPEN), Truncated),
        ("one byte of TCP missing", cut(&syn, 53), Some(OPEN), Truncated),
        ("one byte of TCP missing, IPv6", cut(&syn6, 73), Some(OPEN6), Truncated),
        ("one byte of UDP missing", cut(&Packet::udp(CLIENT, OPEN, 80), 41), Some(OPEN), Truncated),
        (
            "an extension header that is not there",
            cut(&syn6.clone().extension(60, 2), 61),
            Some(OPEN6),
            Truncated,
        ),
        ("an extension longer than the packet", cut(&syn6.extension(60, 200), 100), Some(OPEN6), Truncated),
        ("TCP missing, to the node", cut(&Packet::syn(CLIENT, NODE, 80), 40), None, Foreign),
        ("TCP missing, to another host", cut(&Packet::syn(CLIENT, ELSEWHERE, 80), 40), None, Foreign),
    ]);
}

#[test]
fn a_denied_source_reaches_no_served_address() {
    use Reason::Denied;
    let chain =
        Packet::syn(DENIED6, OPEN6, 80).extension(0, 1).extension(60, 1).extension(43, 1).extension(60, 1);
    check(&[
        ("SYN", Packet::syn(DENIED, OPEN, 80).bytes(), Some(OPEN), Denied),
        ("SYN, IPv6", Packet::syn(DENIED6, OPEN6, 443).bytes(), Some(OPEN6), Denied),
        ("SYN to the node", Packet::syn(DENIED, NODE, 443).bytes(), Some(NODE), Denied),
        ("SYN to the node, IPv6", Packet::syn(DENIED6, NODE6, 80).bytes(), Some(NODE6), Denied),
        (
            "data of an older connection",
            Packet::tcp(DENIED, OPEN, 80, ACK).data(9).bytes(),
            Some(OPEN),
            Denied,
        ),
        ("the first address of the prefix", Packet::syn("198.19.66.0", OPEN, 80).bytes(), Some(OPEN), Denied),
        (
            "the last address of the prefix",
            Packet::syn("198.19.66.255", OPEN, 80).bytes(),
            Some(OPEN),
            Denied,
        ),
        (
            "the address after the prefix",
            Packet::syn("198.19.67.0", OPEN, 80).bytes(),
            Some(OPEN),
            Reason::Opened,
        ),
        ("in a VLAN", Packet::syn(DENIED, OPEN, 80).vlan(0x8100).bytes(), Some(OPEN), Denied),
        ("with IPv4 options", Packet::syn(DENIED, OPEN, 80).options(5).bytes(), Some(OPEN), Denied),
        ("with an extension", Packet::syn(DENIED6, OPEN6, 80).extension(60, 1).bytes(), Some(OPEN6), Denied),
        ("with too many extensions", chain.extension(60, 1).bytes(), Some(OPEN6), Denied),
        (
            "a first fragment",
            Packet::syn(DENIED, NODE, 80).data(60).fragment(0, true).bytes(),
            Some(NODE),
            Denied,
        ),
        ("a later fragment", Packet::syn(DENIED, OPEN, 80).fragment(3, true).bytes(), Some(OPEN), Denied),
        ("to a port that is not served", Packet::syn(DENIED, OPEN, 22).bytes(), Some(OPEN), Denied),
        ("UDP", Packet::udp(DENIED, OPEN, 443).bytes(), Some(OPEN), Denied),
        ("ping", Packet::other(DENIED, OPEN, 1).bytes(), Some(OPEN), Denied),
        ("a cut header", Packet::syn(DENIED, OPEN, 80).cut(40).bytes(), Some(OPEN), Denied),
        ("on an allow list, too", Packet::syn(DENIED, WALLED, 80).bytes(), Some(WALLED), Denied),
        ("denied by a policy of the pool", Packet::syn(BANISHED, WALLED, 80).bytes(), Some(WALLED), Denied),
        ("the same, IPv6", Packet::syn(BANISHED6, WALLED6, 80).bytes(), Some(WALLED6), Denied),
        (
            "that policy does not hold elsewhere",
            Packet::syn(BANISHED, OPEN, 80).bytes(),
            Some(OPEN),
            Reason::Opened,
        ),
    ]);
}

#[test]
fn an_allow_list_admits_only_its_sources() {
    use Reason::{NotAllowed, Opened};
    check(&[
        ("on the list", Packet::syn(FRIEND, WALLED, 80).bytes(), Some(WALLED), Opened),
        ("on the list, IPv6", Packet::syn(FRIEND6, WALLED6, 80).bytes(), Some(WALLED6), Opened),
        ("not on the list", Packet::syn(CLIENT, WALLED, 80).bytes(), Some(WALLED), NotAllowed),
        ("not on the list, IPv6", Packet::syn(CLIENT6, WALLED6, 80).bytes(), Some(WALLED6), NotAllowed),
        ("not on the list, ACK", Packet::tcp(CLIENT, WALLED, 80, ACK).bytes(), Some(WALLED), NotAllowed),
        ("not on the list, ping", Packet::other(CLIENT, WALLED, 1).bytes(), Some(WALLED), NotAllowed),
        ("on the list, ping", Packet::other(FRIEND, WALLED, 1).bytes(), Some(WALLED), Reason::OtherProtocol),
        ("elsewhere there is no list", Packet::syn(CLIENT, OPEN, 80).bytes(), Some(OPEN), Opened),
    ]);
}
