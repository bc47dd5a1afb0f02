//! Which node gets a packet, and how it looks on the way: this node is number 1 of a pool of four.
//!
//! Every row has the exact bytes that leave, built by `harness/tunnel.rs` without any code of the programs.

mod arriving;

use std::net::IpAddr;

use ingress_common::maps::{Cluster, NodeVal};
use ingress_common::tunnel::Header;
use ingress_common::verdict::Reason;
use ingress_tests::kernel::steering::POOL;
use ingress_tests::kernel::{Hook, Rig, Seen, XDP_DROP, XDP_PASS, XDP_TX, model, nets, policy, pool};
use ingress_tests::packet::{ACK, FIN, PSH, Packet, RST, SYN};
use ingress_tests::tunnel::{Outer, Udp, checksum, checksum6, hash, ip, source_port};

const VIP: [&str; 2] = ["198.18.100.1", "2001:db8:100::1"];
/// A VIP that this node alone serves.
const ALONE: [&str; 2] = ["198.18.101.1", "2001:db8:101::1"];
const CLIENT: [&str; 2] = ["198.18.7.7", "2001:db8:7::7"];
const DENIED: [&str; 2] = ["198.19.66.6", "2001:db8:66::6"];
/// Ends of the tunnel, by number of the node; there is none of number 0.
const NODES: [[&str; 5]; 2] = [
    ["", "198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.4"],
    ["", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"],
];
/// A host beside them.
const STRANGER: [&str; 2] = ["198.18.0.9", "2001:db8::9"];
const SEED: u64 = 0x0123_4567_89ab_cdef;
const KEY: u64 = 0x1122_3344_5566_7788;
const OLD_KEY: u64 = 0x99aa_bbcc_ddee_ff00;
const MTU: u16 = 1500;
/// The port that the packet builder sends from.
const FROM: u16 = 0xc001;
const FAMILY: [&str; 2] = ["IPv4", "IPv6"];
/// What a test run calls the interface of the packet.
const LOOPBACK: u32 = 1;

/// How packets travel between nodes.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    is_udp: bool,
    /// Family of the ends, as an index.
    family: usize,
}

const WAYS: [Way; 4] = [
    Way { name: "over UDP", is_udp: true, family: 0 },
    Way { name: "over UDP over IPv6", is_udp: true, family: 1 },
    Way { name: "over IPIP", is_udp: false, family: 0 },
    Way { name: "over IPv6 without UDP", is_udp: false, family: 1 },
];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(id: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(id).unwrap()]
}

/// What the packet builder writes: destination, then source.
const HERE: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

fn node(way: Way, id: usize) -> NodeVal {
    let addr = |id| ingress_common::flow::addr_of(address(NODES[way.family][id]));
    NodeVal {
        addr: addr(id),
        source: addr(1),
        ifindex: LOOPBACK,
        mac: mac(id),
        source_mac: mac(1),
        mtu: MTU,
        ..NodeVal::default()
    }
}

/// The pool's node number 1. Its own addresses are served, too, as they are by default.
fn rig(way: Way, hook: Hook) -> Rig {
    let mut everywhere = policy("everywhere", None);
    everywhere.deny = nets(&["198.19.66.0/24", "2001:db8:66::/48"]);
    let pools = vec![pool("pool", &VIP), pool("alone", &ALONE)];
    let own = [address(NODES[0][1]), address(NODES[1][1])];
    let mut rig = Rig::new(&model(pools, vec![everywhere]), &own, |_| {});
    VIP.iter().for_each(|vip| rig.join(vip));
    let flags = if way.is_udp { 0 } else { Cluster::IPIP | Cluster::TAKES_IPIP };
    rig.set_cluster(Cluster { seed: SEED, keys: [KEY, OLD_KEY], me: 1, flags });
    for id in 1..=4 {
        rig.set_node(id, node(way, id as usize), &NODES.map(|addresses| addresses[id as usize]));
    }
    if hook == Hook::Tc { rig.at_tc() } else { rig }
}

/// Has the flows of `CLIENT` go to these candidates, best first.
fn fill(rig: &mut Rig, candidates: [u16; 4]) {
    let flows = [0, 1].into_iter().flat_map(|family| [80, 443].map(|port| (family, port)));
    let hashes: Vec<u64> =
        flows.map(|(family, port)| hash(CLIENT[family], VIP[family], [FROM, port], 6, SEED)).collect();
    rig.set_candidates(candidates, &hashes);
}

/// From the IP header on.
fn inner(packet: &Packet) -> Vec<u8> {
    packet.bytes().split_off(packet.link_len())
}

/// What is written around a packet of `CLIENT` to a port of the VIP, from one node to another.
fn outer(way: Way, family: usize, port: u16, proto: u8, from: usize, to: usize, hops: u8) -> Outer {
    let source_port = source_port(CLIENT[family], VIP[family], [FROM, port], proto, SEED);
    Outer {
        macs: [mac(to), mac(1)],
        vlan: 0,
        source: address(NODES[way.family][from]),
        destination: address(NODES[way.family][to]),
        hops,
        udp: way.is_udp.then_some(Udp {
            source_port,
            version: Header::VERSION,
            flags: 0,
            pool: POOL.into(),
            key: KEY,
        }),
    }
}

/// A frame that came through the tunnel from node 2.
fn arrived(way: Way, family: usize, hops: u8) -> Outer {
    Outer { macs: HERE, ..outer(way, family, 80, 6, 2, 1, hops) }
}

/// The frame that is left of it.
fn unpacked(inner: &[u8], tag: u16) -> Vec<u8> {
    let mut frame = HERE.concat();
    if tag != 0 {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(if inner[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(inner);
    frame
}

#[track_caller]
fn expect(rig: &mut Rig, name: &str, frame: &[u8], vip: Option<&str>, reason: Reason, output: Option<&[u8]>) {
    let vip_id = rig.vip_id(vip);
    let sent = rig.send(frame);
    assert_eq!(sent.seen, Seen { vip_id, reason }, "{name}");
    let verdict = match reason.action() {
        ingress_common::verdict::Action::Pass => XDP_PASS,
        ingress_common::verdict::Action::Drop => XDP_DROP,
        ingress_common::verdict::Action::Send => XDP_TX,
    };
    assert_eq!(sent.verdict, verdict, "{name}");
    if let Some(output) = output {
        assert!(sent.output == output, "{name}:\n{}\nexpected\n{}", hex(&sent.output), hex(output));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Packets of one connection.
fn shapes(family: usize) -> Vec<(&'static str, Packet)> {
    let (from, to) = (CLIENT[family], VIP[family]);
    let mut shapes = vec![
        ("SYN", Packet::syn(from, to, 80)),
        ("SYN to the other port", Packet::syn(from, to, 443)),
        ("ACK", Packet::tcp(from, to, 80, ACK)),
        ("data", Packet::tcp(from, to, 443, ACK | PSH).data(1200)),
        ("FIN", Packet::tcp(from, to, 80, FIN | ACK)),
        ("RST", Packet::tcp(from, to, 80, RST)),
        ("SYN-ACK", Packet::tcp(from, to, 80, SYN | ACK)),
    ];
    if family == 0 {
        shapes.push(("SYN with options", Packet::syn(from, to, 80).options(10)));
    } else {
        shapes.push(("SYN with an extension", Packet::syn(from, to, 80).extension(60, 2)));
    }
    shapes
}

#[test]
fn what_comes_from_the_network_goes_to_the_first_candidate() {
    for (way, hook) in both(WAYS) {
        let mut rig = rig(way, hook);
        fill(&mut rig, [2, 3, 4, 1]);
        for family in [0, 1] {
            for (shape, packet) in shapes(family) {
                let port = if shape.contains("other port") || shape == "data" { 443 } else { 80 };
                let expected = outer(way, family, port, 6, 1, 2, 0).around(&inner(&packet));
                let mut writings = vec![("", packet.clone())];
                // At TC a tag stands beside the packet, which a test run has no means to say.
                if hook == Hook::Xdp {
                    writings.push((" in a VLAN", packet.clone().vlan(0x8100)));
                    writings.push((" in two VLANs", packet.vlan(0x88a8).vlan(0x8100)));
                }
                for (writing, packet) in writings {
                    let name = format!("{shape}{writing}, {} {}, {hook:?}", FAMILY[family], way.name);
                    let before = rig.sent_on(2);
                    expect(
                        &mut rig,
                        &name,
                        &packet.bytes(),
                        Some(VIP[family]),
                        Reason::Steered,
                        Some(&expected),
                    );
                    let after = rig.sent_on(2);
                    assert_eq!(after.packets - before.packets, 1, "{name}");
                    assert_eq!(after.bytes - before.bytes, expected.len() as u64, "{name}");
                }
            }
        }
    }
}

fn both(ways: [Way; 4]) -> impl Iterator<Item = (Way, Hook)> {
    ways.into_iter().flat_map(|way| [(way, Hook::Xdp), (way, Hook::Tc)])
}

#[test]
fn frames_to_a_node_carry_the_tag_of_its_network() {
    let way = WAYS[0];
    let mut rig = rig(way, Hook::Xdp);
    fill(&mut rig, [2, 3, 4, 1]);
    rig.set_node(2, NodeVal { vlan: 7, ..node(way, 2) }, &[]);
    let packet = Packet::syn(CLIENT[0], VIP[0], 80);
    let expected = Outer { vlan: 7, ..outer(way, 0, 80, 6, 1, 2, 0) }.around(&inner(&packet));
    for (name, packet) in [("untagged", packet.clone()), ("in another VLAN", packet.vlan(0x8100))] {
        expect(&mut rig, name, &packet.bytes(), Some(VIP[0]), Reason::Steered, Some(&expected));
    }
}

#[test]
fn errors_follow_the_flow_that_they_quote() {
    for way in WAYS {
        let mut rig = rig(way, Hook::Xdp);
        fill(&mut rig, [2, 3, 4, 1]);
        for family in [0, 1] {
            let (client, vip) = (CLIENT[family], VIP[family]);
            // A router between them tells of a packet from us.
            let quoted = inner(&Packet::tcp(vip, client, FROM, ACK).source_port(80));
            let kinds: &[(&str, u8, u8)] = if family == 0 {
                &[
                    ("unreachable", 3, 1),
                    ("too big", 3, 4),
                    ("time exceeded", 11, 0),
                    ("parameter problem", 12, 0),
                ]
            } else {
                &[
                    ("unreachable", 1, 0),
                    ("too big", 2, 0),
                    ("time exceeded", 3, 0),
                    ("parameter problem", 4, 0),
                ]
            };
            for (kind, number, code) in kinds {
                let mut error = vec![*number, *code, 0, 0, 0, 0, 5, 0xdc];
                error.extend(&quoted);
                let protocol = if family == 0 { 1 } else { 58 };
                let packet = Packet::carrying("203.0.113.1", "2001:db8:bad::1", vip, protocol, &error);
                let name = format!("{kind}, {} {}", FAMILY[family], way.name);
                let expected = outer(way, family, 80, 6, 1, 2, 0).around(&inner(&packet));
                expect(&mut rig, &name, &packet.bytes(), Some(vip), Reason::Steered, Some(&expected));
            }
        }
    }
}

#[test]
fn what_has_no_flow_stays_where_it_arrives() {
    use Reason::{Admitted, Fragment, Opened, OtherProtocol, Truncated, UnservedPort};
    for hook in [Hook::Xdp, Hook::Tc] {
        let mut rig = rig(WAYS[0], hook);
        fill(&mut rig, [2, 3, 4, 1]);
        for family in [0, 1] {
            let (client, vip) = (CLIENT[family], VIP[family]);
            let syn = Packet::syn(client, vip, 80).data(40);
            let whole = Packet::syn(client, vip, 80).bytes().len();
            let rows = [
                ("a later fragment", syn.clone().fragment(9, true), Fragment),
                ("a first fragment with a SYN", syn.clone().fragment(0, true), Opened),
                (
                    "a first fragment with data",
                    Packet::tcp(client, vip, 80, ACK).data(40).fragment(0, true),
                    Admitted,
                ),
                ("SCTP", Packet::other(client, vip, 132), OtherProtocol),
                ("a port that is not served", Packet::syn(client, vip, 22), UnservedPort),
                ("a datagram to no service", Packet::udp(client, vip, 443), UnservedPort),
                ("half a TCP header", Packet::syn(client, vip, 80).cut(whole - 9), Truncated),
            ];
            for (name, packet, reason) in rows {
                let (name, frame) = (format!("{name}, {}, {hook:?}", FAMILY[family]), packet.bytes());
                expect(&mut rig, &name, &frame, Some(vip), reason, Some(&frame));
            }
            let frame = Packet::syn(client, ALONE[family], 80).bytes();
            expect(&mut rig, "a VIP of no pool", &frame, Some(ALONE[family]), Opened, Some(&frame));
            let frame = Packet::syn(client, STRANGER[family], 80).bytes();
            expect(&mut rig, "another host", &frame, None, Reason::Foreign, Some(&frame));
        }
    }
}

#[test]
fn the_lists_hold_before_a_packet_is_sent_on() {
    let mut rig = rig(WAYS[0], Hook::Xdp);
    fill(&mut rig, [2, 3, 4, 1]);
    for family in [0, 1] {
        let frame = Packet::syn(DENIED[family], VIP[family], 80).bytes();
        expect(&mut rig, FAMILY[family], &frame, Some(VIP[family]), Reason::Denied, Some(&frame));
    }
}

#[test]
fn states_of_nodes_choose_among_the_candidates() {
    const DOWN: u32 = NodeVal::DOWN;
    const DRAINING: u32 = NodeVal::DRAINING;
    /// Candidates 2, 3, 4 and this node; flags of the first three; who gets a SYN, and who a segment (1: it stays).
    type Row = ([u32; 3], usize, usize);
    const ROWS: [Row; 10] = [
        ([0, 0, 0], 2, 2),
        ([DOWN, 0, 0], 3, 3),
        ([DRAINING, 0, 0], 3, 2),
        ([0, DOWN, DOWN], 2, 2),
        ([DOWN, DOWN, 0], 4, 4),
        ([DRAINING, DOWN, 0], 4, 2),
        ([DOWN, DRAINING, 0], 4, 3),
        ([DRAINING, DRAINING, 0], 4, 2),
        ([DRAINING | DOWN, 0, 0], 3, 3),
        ([DRAINING, DRAINING, DRAINING], 1, 2),
    ];
    for way in WAYS {
        let mut rig = rig(way, Hook::Xdp);
        fill(&mut rig, [2, 3, 4, 1]);
        for (flags, opens, continues) in ROWS {
            for (id, flags) in (2..).zip(flags) {
                rig.set_node(id, NodeVal { flags, ..node(way, id as usize) }, &[]);
            }
            for family in [0, 1] {
                for (flag, to, stays) in [(SYN, opens, Reason::Opened), (ACK, continues, Reason::Admitted)] {
                    let packet = Packet::tcp(CLIENT[family], VIP[family], 80, flag);
                    let name = format!("{flags:?}, flags {flag}, {} {}", FAMILY[family], way.name);
                    let (reason, expected) = if to == 1 {
                        (stays, packet.bytes())
                    } else {
                        (Reason::Steered, outer(way, family, 80, 6, 1, to, 0).around(&inner(&packet)))
                    };
                    expect(&mut rig, &name, &packet.bytes(), Some(VIP[family]), reason, Some(&expected));
                    rig.forget(1);
                }
            }
        }
    }
}

/// What fits to the byte is sent on, one byte more is answered.
#[test]
fn what_is_too_long_for_the_tunnel_is_answered_with_what_fits() {
    for (way, hook) in both(WAYS) {
        let mut rig = rig(way, hook);
        fill(&mut rig, [2, 3, 4, 1]);
        let overhead = [20, 40][way.family] + if way.is_udp { 8 + 16 } else { 0 };
        let most = usize::from(MTU) - overhead;
        for family in [0, 1] {
            let (client, vip) = (CLIENT[family], VIP[family]);
            let headers = [20, 40][family] + 20;
            let whole = |length: usize| {
                let packet = Packet::tcp(client, vip, 80, ACK).data(length - headers);
                if family == 0 { packet.fragment(0x4000, false) } else { packet }
            };
            let name = format!("{} {}, {hook:?}", FAMILY[family], way.name);
            let fits = whole(most);
            let expected = outer(way, family, 80, 6, 1, 2, 0).around(&inner(&fits));
            expect(&mut rig, &name, &fits.bytes(), Some(vip), Reason::Steered, Some(&expected));

            let long = whole(most + 1);
            let quoted = &inner(&long)[..[28, 48][family]];
            let limit = u16::try_from(most).unwrap().to_be_bytes();
            let mut error = if family == 0 { vec![3, 4, 0, 0] } else { vec![2, 0, 0, 0] };
            error.extend([0, 0]);
            error.extend(limit);
            error.extend(quoted);
            let (from, to) = (address(vip), address(client));
            let protocol = [1, 58][family];
            let sum = if family == 0 { checksum(&error) } else { checksum6(from, to, protocol, &error) };
            error[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut expected = [HERE[1], HERE[0]].concat();
            expected.extend(ip(from, to, protocol, 0, &error));
            expect(&mut rig, &name, &long.bytes(), Some(vip), Reason::TooBig, Some(&expected));
        }
        // Somebody may cut it into fragments, who is not this program.
        let cuttable = Packet::tcp(CLIENT[0], VIP[0], 80, ACK).data(1500).bytes();
        expect(&mut rig, way.name, &cuttable, Some(VIP[0]), Reason::Unreachable, None);
    }
}
