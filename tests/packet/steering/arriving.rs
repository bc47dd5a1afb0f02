//! What comes through the tunnel from another node: taken out, sent on to the next candidate, or left as it is.

use std::net::TcpListener;

use ingress_common::maps::{Cluster, NodeVal};
use ingress_common::tunnel::Header;
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Hook, Rig, connections, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet, SYN};
use ingress_tests::tunnel::{Outer, Udp};

use super::{
    ALONE, CLIENT, DENIED, FAMILY, HERE, KEY, NODES, OLD_KEY, SEED, STRANGER, VIP, WAYS, Way, address,
    arrived, both, expect, fill, inner, node, outer, rig, shapes, unpacked,
};

#[test]
fn a_node_that_holds_nothing_asks_the_next_candidate() {
    /// Candidates, candidates that had their turn, who gets a SYN when nothing listens here, and who a segment of a
    /// connection that is not here (1: it stays).
    type Row = ([u16; 4], u8, usize, usize);
    const ROWS: [Row; 9] = [
        ([2, 1, 3, 4], 0, 3, 3),
        ([2, 1, 3, 4], 1, 3, 3),
        ([2, 1, 3, 4], 2, 3, 3),
        // Enough is enough.
        ([2, 1, 3, 4], 3, 1, 1),
        // The first candidate holds what it should while nobody came or went.
        ([1, 2, 3, 4], 0, 2, 1),
        ([2, 3, 1, 4], 1, 4, 4),
        ([2, 3, 4, 1], 0, 1, 1),
        ([2, 1, 0, 0], 0, 1, 1),
        // Not in the slot at all: the tables of the nodes differ for a moment.
        ([3, 2, 4, 0], 0, 3, 3),
    ];
    for (way, hook) in both(WAYS) {
        let mut rig = rig(way, hook);
        for (candidates, hops, opens, continues) in ROWS {
            fill(&mut rig, candidates);
            for family in [0, 1] {
                for (flag, to, stays) in [(SYN, opens, Reason::Opened), (ACK, continues, Reason::Admitted)] {
                    let packet = inner(&Packet::tcp(CLIENT[family], VIP[family], 80, flag));
                    let name = format!(
                        "{candidates:?}, hops {hops}, flags {flag}, {} {}, {hook:?}",
                        FAMILY[family], way.name
                    );
                    let (reason, expected) = if to == 1 {
                        (stays, unpacked(&packet, 0))
                    } else {
                        (Reason::Steered, outer(way, family, 80, 6, 1, to, hops + 1).around(&packet))
                    };
                    let frame = arrived(way, family, hops).around(&packet);
                    let before = rig.sent_on(0).packets;
                    expect(&mut rig, &name, &frame, Some(VIP[family]), reason, Some(&expected));
                    assert_eq!(rig.sent_on(0).packets - before, 1, "{name}: it came from a node");
                    rig.forget(1);
                }
            }
        }
    }
}

#[test]
fn where_somebody_listens_a_connection_is_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (way, hook) in both(WAYS) {
        let mut rig = rig(way, hook);
        fill(&mut rig, [2, 1, 3, 4]);
        for family in [0, 1] {
            rig.accept(VIP[family], 80, &listener);
            for hops in 0..=3 {
                let packet = inner(&Packet::syn(CLIENT[family], VIP[family], 80));
                let name = format!("hops {hops}, {} {}, {hook:?}", FAMILY[family], way.name);
                let frame = arrived(way, family, hops).around(&packet);
                let expected = unpacked(&packet, 0);
                expect(&mut rig, &name, &frame, Some(VIP[family]), Reason::Opened, Some(&expected));
            }
        }
        // From the network it is the first candidate that counts; this node, once it is that one.
        fill(&mut rig, [1, 2, 3, 4]);
        for family in [0, 1] {
            let frame = Packet::syn(CLIENT[family], VIP[family], 80).bytes();
            expect(&mut rig, way.name, &frame, Some(VIP[family]), Reason::Opened, Some(&frame));
        }
    }
}

#[test]
fn lists_hold_for_what_is_in_the_tunnel_and_limits_do_not_again() {
    let mut limited = policy("limited", Some("pool"));
    limited.limits = vec![connections(1, 1)];
    limited.deny = nets(&["198.19.66.0/24", "2001:db8:66::/48"]);
    let way = WAYS[0];
    let mut rig = Rig::new(&model(vec![pool("pool", &VIP)], vec![limited]), &[], |contents| {
        for limit in contents.limits.values_mut() {
            (limit.rate_ns, limit.burst_ns) = (1 << 50, 0);
        }
    });
    VIP.iter().for_each(|vip| rig.join(vip));
    rig.set_cluster(Cluster { seed: SEED, keys: [KEY, 0], me: 1, flags: 0 });
    for id in 1..=4 {
        rig.set_node(id, node(way, id as usize), &NODES.map(|addresses| addresses[id as usize]));
    }
    fill(&mut rig, [2, 3, 4, 1]);
    for family in [0, 1] {
        let vip = Some(VIP[family]);
        let denied = inner(&Packet::syn(DENIED[family], VIP[family], 80));
        let frame = arrived(way, family, 0).around(&denied);
        expect(&mut rig, "denied", &frame, vip, Reason::Denied, None);
        let packet = Packet::syn(CLIENT[family], VIP[family], 80);
        let through = arrived(way, family, 0).around(&inner(&packet));
        for _ in 0..5 {
            expect(&mut rig, "through the tunnel", &through, vip, Reason::Opened, None);
        }
        let frame = packet.bytes();
        expect(&mut rig, "the first from the network", &frame, vip, Reason::Steered, None);
        expect(&mut rig, "the second", &frame, vip, Reason::OverLimit, Some(&frame));
    }
}

#[test]
fn what_comes_through_the_tunnel_is_unpacked_with_its_link_header() {
    for way in WAYS {
        let mut rig = rig(way, Hook::Xdp);
        fill(&mut rig, [2, 3, 4, 1]);
        for family in [0, 1] {
            for (shape, packet) in shapes(family) {
                let name = format!("{shape}, {} {}", FAMILY[family], way.name);
                let reason = if shape.starts_with("SYN") && shape != "SYN-ACK" {
                    Reason::Opened
                } else {
                    Reason::Admitted
                };
                let packet = inner(&packet);
                for tag in [0, 9] {
                    let frame = Outer { vlan: tag, ..arrived(way, family, 1) }.around(&packet);
                    let expected = unpacked(&packet, tag);
                    expect(&mut rig, &name, &frame, Some(VIP[family]), reason, Some(&expected));
                }
            }
        }
    }
}

#[test]
fn both_keys_and_both_kinds_of_tunnel_are_taken() {
    for way in WAYS {
        let mut rig = rig(way, Hook::Xdp);
        // While the nodes change from one kind to the other.
        let flags = Cluster::TAKES_IPIP;
        rig.set_cluster(Cluster { seed: SEED, keys: [KEY, OLD_KEY], me: 1, flags });
        fill(&mut rig, [2, 3, 4, 1]);
        let packet = inner(&Packet::syn(CLIENT[0], VIP[0], 80));
        let old = |udp: Udp| Udp { key: OLD_KEY, ..udp };
        let plain = arrived(Way { is_udp: false, ..way }, 0, 0);
        let over_udp = arrived(Way { is_udp: true, ..way }, 0, 0);
        let before = Outer { udp: over_udp.udp.clone().map(old), ..over_udp.clone() };
        for (name, outer) in [("IP in IP", plain), ("this key", over_udp), ("the key before", before)] {
            let name = format!("{name} at a node {}", way.name);
            let (frame, expected) = (outer.around(&packet), unpacked(&packet, 0));
            expect(&mut rig, &name, &frame, Some(VIP[0]), Reason::Opened, Some(&expected));
        }
    }
}

#[test]
fn forged_and_foreign_tunnels_pass_byte_for_byte() {
    for (way, hook) in both(WAYS) {
        let mut rig = rig(way, hook);
        fill(&mut rig, [2, 3, 4, 1]);
        let end = |family: usize, id: usize| address(NODES[family][id]);
        for family in [0, 1] {
            let syn = |to: &str| inner(&Packet::syn(CLIENT[family], to, 80));
            let good = arrived(way, family, 0);
            let vip = syn(VIP[family]);
            let changed = |udp: fn(&mut Udp)| {
                let mut outer = good.clone();
                if let Some(header) = &mut outer.udp {
                    udp(header);
                }
                outer
            };
            let pods = if family == 0 { ("10.244.1.5", "10.244.2.7") } else { ("fd00:1::5", "fd00:2::7") };
            let mut rows = vec![
                (
                    "from a stranger",
                    Outer { source: address(STRANGER[way.family]), ..good.clone() }.around(&vip),
                ),
                ("from this node", Outer { source: end(way.family, 1), ..good.clone() }.around(&vip)),
                ("to another node", Outer { destination: end(way.family, 3), ..good.clone() }.around(&vip)),
                (
                    "to another host",
                    Outer { destination: address(STRANGER[way.family]), ..good.clone() }.around(&vip),
                ),
                ("to another host inside", good.around(&syn(STRANGER[family]))),
                ("to the node inside", good.around(&syn(NODES[family][1]))),
                ("to a VIP of no pool inside", good.around(&syn(ALONE[family]))),
                ("between pods", good.around(&inner(&Packet::syn(pods.0, pods.1, 80)))),
                ("no IP inside", good.around(&[0x10; 40])),
                ("a cut IP header inside", good.around(&vip[..19])),
                ("nothing inside", good.around(&[])),
                (
                    "to an IPv4 address as IPv6 inside",
                    good.around(&inner(&Packet::syn("2001:db8::5", "::ffff:198.18.100.1", 80))),
                ),
            ];
            if way.is_udp {
                rows.push(("with another key", changed(|udp| udp.key = 1).around(&vip)));
                rows.push((
                    "without UDP, and so without key",
                    Outer { udp: None, ..good.clone() }.around(&vip),
                ));
                rows.push(("with no key", changed(|udp| udp.key = 0).around(&vip)));
                rows.push(("of another version", changed(|udp| udp.version = 2).around(&vip)));
                let whole = good.around(&vip);
                // Behind the outer IP header: to another port; and half a header of the tunnel.
                let udp = 14 + [20, 40][way.family];
                let mut other = whole.clone();
                other[udp + 3] ^= 1;
                rows.push(("to another port", other));
                rows.push(("half a header of the tunnel", whole[..udp + 15].to_vec()));
                rows.push(("half a UDP header", whole[..udp + 5].to_vec()));
            }
            if way.family == 0 {
                // One word of options: the header is longer than any that we send.
                let mut with_options = good.around(&vip);
                with_options[14] = 0x46;
                with_options.splice(34..34, [1, 1, 1, 1]);
                rows.push(("with options outside", with_options));
            }
            for (name, frame) in rows {
                let name = format!("{name}, {} {}, {hook:?}", FAMILY[family], way.name);
                expect(&mut rig, &name, &frame, None, Reason::Foreign, Some(&frame));
            }
        }
    }
}

#[test]
fn probes_are_answered_and_answers_noted() {
    for family in [0, 1] {
        let way = WAYS[family];
        for hook in [Hook::Xdp, Hook::Tc] {
            let mut rig = rig(way, hook);
            let with = |flags| {
                let mut outer = arrived(way, 0, 0);
                outer.udp = outer.udp.map(|udp| Udp { flags, source_port: 0xc123, pool: 0, ..udp });
                outer
            };
            let probe = with(Header::PROBE);
            let answer = Outer {
                macs: [HERE[1], HERE[0]],
                source: probe.destination,
                destination: probe.source,
                ..with(Header::ANSWER)
            };
            // The answer is the probe turned round, and says so when there is no agent any more.
            for (seconds, flags) in [(0, Header::ANSWER), (11, Header::ANSWER | Header::SILENT)] {
                rig.set_heartbeat(Some(seconds));
                let answer =
                    Outer { udp: answer.udp.clone().map(|udp| Udp { flags, ..udp }), ..answer.clone() };
                let expected = answer.around(&[]);
                expect(&mut rig, way.name, &probe.around(&[]), None, Reason::ProbeAnswered, Some(&expected));
            }
            assert_eq!(rig.seen(2).answered_ns, 0);
            let silent = with(Header::ANSWER | Header::SILENT).around(&[]);
            expect(&mut rig, way.name, &silent, None, Reason::ProbeReturned, None);
            assert!(rig.seen(2).answered_ns > 0, "the answer of node 2 is noted");
            assert_eq!(rig.seen(2).led_ns, 0, "its agent is silent");
            expect(&mut rig, way.name, &with(Header::ANSWER).around(&[]), None, Reason::ProbeReturned, None);
            assert!(rig.seen(2).led_ns > 0);
            assert_eq!(rig.seen(3).answered_ns, 0);

            let stranger = Outer { source: address(STRANGER[family]), ..probe.clone() }.around(&[]);
            expect(&mut rig, "of a stranger", &stranger, None, Reason::Foreign, Some(&stranger));
            let mut forged = probe;
            forged.udp = forged.udp.map(|udp| Udp { key: 5, ..udp });
            let forged = forged.around(&[]);
            expect(&mut rig, "with another key", &forged, None, Reason::Foreign, Some(&forged));
        }
    }
}

#[test]
fn a_node_of_no_pool_steers_nothing_and_unpacks_nothing() {
    let way = WAYS[0];
    let mut rig = rig(way, Hook::Xdp);
    fill(&mut rig, [2, 3, 4, 1]);
    rig.set_cluster(Cluster { seed: SEED, keys: [KEY, 0], me: 0, flags: 0 });
    let packet = Packet::syn(CLIENT[0], VIP[0], 80);
    let frame = packet.bytes();
    expect(&mut rig, "from the network", &frame, Some(VIP[0]), Reason::Opened, Some(&frame));
    let frame = arrived(way, 0, 0).around(&inner(&packet));
    expect(&mut rig, "through the tunnel", &frame, None, Reason::Foreign, Some(&frame));
}

#[test]
fn without_a_way_to_the_owner_a_packet_is_dropped() {
    for way in WAYS {
        let mut rig = rig(way, Hook::Xdp);
        fill(&mut rig, [2, 3, 4, 1]);
        // No hardware address, and nothing in the routing table of this machine's loopback.
        rig.set_node(2, NodeVal { mac: [0; 6], ..node(way, 2) }, &[]);
        let frame = Packet::syn(CLIENT[0], VIP[0], 80).bytes();
        expect(&mut rig, way.name, &frame, Some(VIP[0]), Reason::Unreachable, None);
    }
}
