//! Neighbours that ask for a VIP, or say that they have it: who answers, with which bytes, and who keeps quiet.

use std::net::{Ipv4Addr, Ipv6Addr};

use ingress_common::maps::VipVal;
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, Seen, Sent, XDP_DROP, XDP_PASS, XDP_TX, model, nets, policy, pool};
use ingress_tests::neighbour::{
    ALL_NODES, BROADCAST, Discovery, Mac, REPLY, REQUEST, arp, frame, group, group_mac,
};

/// Announced by this node.
const OURS: &str = "198.18.100.1";
const OURS6: &str = "2001:db8:100::1";
/// Announced by another node of ours.
const THEIRS: &str = "198.18.100.2";
const THEIRS6: &str = "2001:db8:100::2";
/// Announced by none of our nodes.
const ROUTED: &str = "198.18.100.3";
const ROUTED6: &str = "2001:db8:100::3";
/// An address of the node.
const NODE: &str = "198.18.0.10";
const NODE6: &str = "2001:db8::10";
const ELSEWHERE: &str = "198.18.0.11";
const ELSEWHERE6: &str = "2001:db8::11";
const CLIENT: &str = "198.18.0.7";
const CLIENT6: &str = "2001:db8::7";

const NIC: Mac = [2, 0xaa, 0xbb, 0xcc, 0xdd, 0x01];
const ASKER: Mac = [2, 0x11, 0x22, 0x33, 0x44, 0x55];
const STRANGER: Mac = [2, 0x66, 0x77, 0x88, 0x99, 0xaa];
const NOBODY: Mac = [0; 6];
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const TAGS: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 7)], &[(0x88a8, 9), (0x8100, 7)]];

fn rig() -> Rig {
    let mut everywhere = policy("everywhere", None);
    everywhere.deny = nets(&["198.19.66.0/24", "2001:db8:66::/48"]);
    let pools = vec![pool("edge", &[OURS, OURS6, THEIRS, THEIRS6, ROUTED, ROUTED6])];
    let node = [NODE, NODE6].map(|text| text.parse().unwrap());
    let mut rig = Rig::new(&model(pools, vec![everywhere]), &node, |_| {});
    for address in [OURS, OURS6] {
        rig.flag_address(address, VipVal::QUIET | VipVal::ANNOUNCE);
    }
    for address in [THEIRS, THEIRS6] {
        rig.flag_address(address, VipVal::QUIET);
    }
    rig.set_interface_mac(NIC);
    rig.set_heartbeat(Some(0));
    rig
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Who has `target`? Tell `sender`.
fn who_has(to: Mac, tags: &[(u16, u16)], sender: &str, target: &str) -> Vec<u8> {
    frame(to, ASKER, tags, ARP, &arp(REQUEST, (ASKER, v4(sender)), (NOBODY, v4(target))))
}

fn asked(tags: &[(u16, u16)], message: &Discovery) -> Vec<u8> {
    let [first, ..] = message.destination.octets();
    let to = if first == 0xff { group_mac(message.destination) } else { NIC };
    frame(to, ASKER, tags, IPV6, &message.bytes())
}

fn question(target: &str) -> Discovery {
    Discovery::question(v6(CLIENT6), ASKER, v6(target))
}

type Case = (String, Vec<u8>, Option<&'static str>, Reason, Option<Vec<u8>>);

/// The answer, if there is one; else the packet passes as it is, or is dropped.
fn check(cases: &[Case]) {
    let hooks: [(&str, Rig); 2] = [("at XDP", rig()), ("at TC", rig().at_tc())];
    for (hook, mut rig) in hooks {
        for (name, frame, address, reason, answer) in cases {
            // TC has the tag beside the packet, if it has one at all.
            if !rig.takes(frame) {
                continue;
            }
            let seen = Seen { vip_id: rig.vip_id(*address), reason: *reason };
            let verdict = match reason {
                Reason::Announced => XDP_TX,
                Reason::Silenced => XDP_DROP,
                _ => XDP_PASS,
            };
            let output = answer.clone().unwrap_or_else(|| frame.clone());
            assert_eq!(rig.send(frame), Sent { seen, verdict, output }, "{name} {hook}");
        }
    }
}

#[test]
fn the_node_that_announces_answers_arp() {
    let reply = |tags: &[(u16, u16)], to: &str| {
        frame(ASKER, NIC, tags, ARP, &arp(REPLY, (NIC, v4(OURS)), (ASKER, v4(to))))
    };
    let mut cases: Vec<Case> = Vec::new();
    for tags in TAGS {
        for (name, to, sender) in [
            ("a question to all", BROADCAST, CLIENT),
            ("a question to this node", NIC, CLIENT),
            ("a probe before an address is taken", BROADCAST, "0.0.0.0"),
        ] {
            let name = format!("{name}, {} tags", tags.len());
            let (asked, answer) = (who_has(to, tags, sender, OURS), reply(tags, sender));
            // As short frames come: filled up to 60 bytes.
            let filled = |mut bytes: Vec<u8>| {
                bytes.resize(60, 0xee);
                bytes
            };
            let is_short = asked.len() < 60;
            cases.push((name.clone(), asked.clone(), Some(OURS), Reason::Announced, Some(answer.clone())));
            if is_short {
                let (asked, answer) = (filled(asked), filled(answer));
                cases.push((format!("{name}, filled"), asked, Some(OURS), Reason::Announced, Some(answer)));
            }
        }
    }
    check(&cases);
}

#[test]
fn other_nodes_keep_quiet_and_the_rest_goes_to_the_stack() {
    let mut cases: Vec<Case> = Vec::new();
    for tags in TAGS {
        let with = |name: &str| format!("{name}, {} tags", tags.len());
        for (name, sender, to) in [
            ("a question to all", CLIENT, BROADCAST),
            ("a question to this node", CLIENT, NIC),
            ("a probe", "0.0.0.0", BROADCAST),
        ] {
            let asked = who_has(to, tags, sender, THEIRS);
            cases.push((with(name), asked, Some(THEIRS), Reason::Silenced, None));
        }
        for (name, target) in [
            ("for an address that others announce", ROUTED),
            ("for the node", NODE),
            ("for another host", ELSEWHERE),
        ] {
            cases.push((with(name), who_has(BROADCAST, tags, CLIENT, target), None, Reason::NotIp, None));
        }
    }
    let pass = |name: &str, frame: Vec<u8>| -> Case { (name.to_owned(), frame, None, Reason::NotIp, None) };
    let request = arp(REQUEST, (ASKER, v4(CLIENT)), (NOBODY, v4(OURS)));
    let changed = |at: usize, byte: u8| {
        let mut request = request.clone();
        request[at] = byte;
        frame(BROADCAST, ASKER, &[], ARP, &request)
    };
    cases.extend([
        pass("a question on its way to another host", who_has(STRANGER, &[], CLIENT, OURS)),
        pass("a question from a group", frame(BROADCAST, BROADCAST, &[], ARP, &request)),
        pass("another kind of network", changed(1, 6)),
        pass("another protocol", changed(2, 0x86)),
        pass("longer hardware addresses", changed(4, 8)),
        pass("longer addresses", changed(5, 16)),
        pass("another operation", changed(7, 8)),
        pass("an operation of two bytes", changed(6, 1)),
        pass("cut", frame(BROADCAST, ASKER, &[], ARP, &request[..27])),
    ]);
    check(&cases);
}

#[test]
fn a_claim_of_somebody_else_is_counted_where_the_address_is_announced() {
    let claim = |operation, from: Mac, sender: &str, target: &str| {
        frame(BROADCAST, from, &[], ARP, &arp(operation, (from, v4(sender)), (from, v4(target))))
    };
    let advertisement = |from: Mac, target: &str| {
        let message = Discovery::answer(0x20, v6("ff02::1"), v6(target), from);
        frame(ALL_NODES, from, &[], IPV6, &message.bytes())
    };
    let solicited = Discovery::answer(0x60, v6(NODE6), v6(OURS6), STRANGER);
    let case = |name: &str, frame, address, reason| (name.to_owned(), frame, address, reason, None);
    check(&[
        case("an announcement", claim(REQUEST, STRANGER, OURS, OURS), Some(OURS), Reason::Claimed),
        case("a reply to all", claim(REPLY, STRANGER, OURS, OURS), Some(OURS), Reason::Claimed),
        case("a reply", claim(REPLY, STRANGER, OURS, NODE), Some(OURS), Reason::Claimed),
        case("a question in its name", claim(REQUEST, STRANGER, OURS, CLIENT), Some(OURS), Reason::Claimed),
        case("our own announcement", claim(REQUEST, NIC, OURS, OURS), None, Reason::NotIp),
        case("of what another node announces", claim(REPLY, STRANGER, THEIRS, THEIRS), None, Reason::NotIp),
        case("of what others announce", claim(REQUEST, STRANGER, ROUTED, ROUTED), None, Reason::NotIp),
        case("of the node's address", claim(REQUEST, STRANGER, NODE, NODE), None, Reason::NotIp),
        case("of another address", claim(REPLY, STRANGER, ELSEWHERE, NODE), None, Reason::NotIp),
        case("an advertisement", advertisement(STRANGER, OURS6), Some(OURS6), Reason::Claimed),
        case(
            "a solicited advertisement",
            frame(NIC, STRANGER, &[], IPV6, &solicited.bytes()),
            Some(OURS6),
            Reason::Claimed,
        ),
        case("our own advertisement", advertisement(NIC, OURS6), None, Reason::Foreign),
        case("an advertisement of another node", advertisement(STRANGER, THEIRS6), None, Reason::Foreign),
        case("an advertisement of the node", advertisement(STRANGER, NODE6), None, Reason::Foreign),
    ]);
}

#[test]
fn the_node_that_announces_answers_neighbour_discovery() {
    const SOLICITED: u8 = 0x60;
    const UNASKED: u8 = 0x20;
    let answer = |tags: &[(u16, u16)]| {
        let message = Discovery::answer(SOLICITED, v6(CLIENT6), v6(OURS6), NIC);
        frame(ASKER, NIC, tags, IPV6, &message.bytes())
    };
    let to_all = |tags: &[(u16, u16)]| {
        let message = Discovery::answer(UNASKED, v6("ff02::1"), v6(OURS6), NIC);
        frame(ALL_NODES, NIC, tags, IPV6, &message.bytes())
    };
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let mut cases: Vec<Case> = Vec::new();
    for tags in TAGS {
        let whole = question(OURS6);
        let bare = Discovery { options: vec![], ..whole.clone() };
        let long = Discovery { options: [&whole.options[..], &nonce].concat(), ..whole.clone() };
        let direct = Discovery { destination: v6(OURS6), ..whole.clone() };
        let bare_direct = Discovery { destination: v6(OURS6), ..bare.clone() };
        let probe = Discovery { source: Ipv6Addr::UNSPECIFIED, ..bare.clone() };
        let nonced = Discovery { options: nonce.to_vec(), ..probe.clone() };
        let local = Discovery { source: v6("fe80::7"), ..whole.clone() };
        let local_answer = Discovery::answer(SOLICITED, v6("fe80::7"), v6(OURS6), NIC);
        for (name, message, expected) in [
            ("to the group", whole, answer(tags)),
            ("without a hardware address", bare, answer(tags)),
            ("with two options", long, answer(tags)),
            ("to the address", direct, answer(tags)),
            ("to the address, without a hardware address", bare_direct, answer(tags)),
            ("a probe for duplicates", probe, to_all(tags)),
            ("a probe for duplicates with a nonce", nonced, to_all(tags)),
            ("from a link-local address", local, frame(ASKER, NIC, tags, IPV6, &local_answer.bytes())),
        ] {
            let name = format!("{name}, {} tags", tags.len());
            cases.push((name, asked(tags, &message), Some(OURS6), Reason::Announced, Some(expected)));
        }
    }
    check(&cases);
}

#[test]
fn other_nodes_and_broken_solicitations_get_no_answer() {
    let mut cases: Vec<Case> = Vec::new();
    let quiet = |name: &str, message: Discovery| -> Case {
        (name.to_owned(), asked(&[], &message), Some(THEIRS6), Reason::Silenced, None)
    };
    cases.extend([
        quiet("another node announces it", question(THEIRS6)),
        quiet(
            "another node announces it, asked directly",
            Discovery { destination: v6(THEIRS6), ..question(THEIRS6) },
        ),
        quiet(
            "another node announces it, a probe",
            Discovery { source: Ipv6Addr::UNSPECIFIED, options: vec![], ..question(THEIRS6) },
        ),
    ]);
    let pass = |name: &str, frame: Vec<u8>| -> Case { (name.to_owned(), frame, None, Reason::Foreign, None) };
    for (name, target) in [
        ("for an address that others announce", ROUTED6),
        ("for the node", NODE6),
        ("for another host", ELSEWHERE6),
    ] {
        cases.push(pass(name, asked(&[], &question(target))));
    }
    let whole = question(OURS6);
    let mut wrong_sum = asked(&[], &whole);
    wrong_sum[14 + 42] ^= 1;
    let mut coded = asked(&[], &whole);
    coded[14 + 41] = 1;
    let bytes = whole.bytes();
    let to = group_mac(group(v6(OURS6)));
    cases.extend([
        pass("forwarded", asked(&[], &Discovery { hops: 254, ..whole.clone() })),
        pass("a wrong checksum", wrong_sum),
        pass("a code", coded),
        pass(
            "an option without length",
            asked(
                &[],
                &Discovery {
                    options: vec![1; 8]
                        .into_iter()
                        .enumerate()
                        .map(|(at, byte)| if at == 1 { 0 } else { byte })
                        .collect(),
                    ..whole.clone()
                },
            ),
        ),
        pass("for an IPv4 address as IPv6", asked(&[], &question("::ffff:198.18.100.1"))),
        pass("on its way to another host", frame(STRANGER, ASKER, &[], IPV6, &bytes)),
        pass("cut", frame(to, ASKER, &[], IPV6, &bytes[..bytes.len() - 1])),
        pass("no message at all", frame(to, ASKER, &[], IPV6, &bytes[..40])),
        pass("of another kind", asked(&[], &Discovery { kind: 134, ..whole.clone() })),
    ]);
    // To the address itself, it is a packet like others: the lists hold, and the stack looks at it.
    let direct = Discovery { destination: v6(OURS6), hops: 64, ..whole };
    let denied = Discovery { source: v6("2001:db8:66::6"), ..direct.clone() };
    let case = |name: &str, message: &Discovery, reason| -> Case {
        (name.to_owned(), asked(&[], message), Some(OURS6), reason, None)
    };
    cases.push(case("forwarded to the address", &direct, Reason::OtherProtocol));
    check(&cases);
    let mut rig = rig();
    let vip_id = rig.vip_id(Some(OURS6));
    assert_eq!(rig.run(&asked(&[], &denied)), Seen { vip_id, reason: Reason::Denied });
}

#[test]
fn a_node_whose_agent_is_gone_announces_no_more() {
    let mut rig = rig();
    let arp = who_has(BROADCAST, &[], CLIENT, OURS);
    let discovery = asked(&[], &question(OURS6));
    let claim = frame(
        BROADCAST,
        STRANGER,
        &[],
        ARP,
        &ingress_tests::neighbour::arp(REPLY, (STRANGER, v4(OURS)), (STRANGER, v4(OURS))),
    );
    for (heartbeat, expected) in [
        (Some(0), Reason::Announced),
        (Some(9), Reason::Announced),
        (Some(11), Reason::Silenced),
        (None, Reason::Silenced),
        (Some(1), Reason::Announced),
    ] {
        rig.set_heartbeat(heartbeat);
        for frame in [&arp, &discovery] {
            assert_eq!(rig.send(frame).seen.reason, expected, "{heartbeat:?}");
        }
        let heard = if expected == Reason::Announced { Reason::Claimed } else { Reason::NotIp };
        assert_eq!(rig.run(&claim).reason, heard, "{heartbeat:?}");
    }
}

#[test]
fn without_a_known_hardware_address_the_stack_answers() {
    let mut rig = rig();
    rig.set_interface_mac(NOBODY);
    let arp = who_has(BROADCAST, &[], CLIENT, OURS);
    assert_eq!(rig.run(&arp), Seen { vip_id: 0, reason: Reason::NotIp });
    let quiet = who_has(BROADCAST, &[], CLIENT, THEIRS);
    assert_eq!(rig.run(&quiet).reason, Reason::Silenced);
}
