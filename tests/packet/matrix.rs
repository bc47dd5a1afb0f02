//! Who may reach what, in every shape that a packet can have: each kind of source at each kind of address, over both
//! families, each way to write a packet, at XDP and at TC.
//!
//! The outcome is the product of two small tables: what the lists say of a source at an address, and what a shape is to an
//! address that admits its source.

use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, Seen, everywhere_and_walled, model, pool, without_end};
use ingress_tests::packet::{ACK, FIN, PSH, Packet, RST, SYN};

/// A name and an address of each family.
type Party = (&'static str, [&'static str; 2]);

const ANYBODY: Party = ("anybody", ["198.18.7.7", "2001:db8:7::7"]);
const DENIED: Party = ("a denied source", ["198.19.66.6", "2001:db8:66::6"]);
const FRIEND: Party = ("an allowed source", ["198.18.1.1", "2001:db8:1::1"]);
const BANISHED: Party = ("a source that is allowed and denied", ["198.18.1.66", "2001:db8:1::66"]);
const EXEMPT: Party = ("an exempt source", ["198.18.9.9", "2001:db8:9::9"]);

const OPEN: Party = ("a VIP", ["198.18.100.1", "2001:db8:100::1"]);
const WALLED: Party = ("a VIP with an allow list and limits", ["198.18.150.1", "2001:db8:150::1"]);
const NODE: Party = ("the node", ["198.18.0.10", "2001:db8::10"]);
const ELSEWHERE: Party = ("another host", ["198.18.0.11", "2001:db8::11"]);

/// What the lists say.
#[derive(Clone, Copy)]
enum Lists {
    Admit,
    /// Admit, and limits do not hold.
    Exempt,
    Refuse(Reason),
}

use Lists::{Admit, Refuse};

/// Source, and what is said of it at `OPEN` and the node, and at `WALLED`.
const SOURCES: [(Party, Lists, Lists); 5] = [
    (ANYBODY, Admit, Refuse(Reason::NotAllowed)),
    (DENIED, Refuse(Reason::Denied), Refuse(Reason::Denied)),
    (FRIEND, Admit, Admit),
    (BANISHED, Admit, Refuse(Reason::Denied)),
    (EXEMPT, Admit, Lists::Exempt),
];

/// What a packet is to an address that serves TCP on 80 and 443.
#[derive(Clone, Copy)]
enum Is {
    /// A new connection to a served port.
    Opening,
    /// Another packet to a served port.
    Served,
    /// For the address, but no port that it serves; the reason at a VIP.
    Beside(Reason),
}

type Shape = (&'static str, fn(&str, &str) -> Packet, Is);

const SHAPES: [Shape; 17] = [
    ("SYN", |from, to| Packet::syn(from, to, 80), Is::Opening),
    ("SYN with data", |from, to| Packet::syn(from, to, 443).data(99), Is::Opening),
    ("SYN and FIN", |from, to| Packet::tcp(from, to, 80, SYN | FIN), Is::Opening),
    (
        "a first fragment with a SYN",
        |from, to| Packet::syn(from, to, 80).data(60).fragment(0, true),
        Is::Opening,
    ),
    (
        "a first fragment that hides its flags",
        |from, to| Packet::tcp(from, to, 80, ACK).transport_bytes(8).fragment(0, true),
        Is::Opening,
    ),
    ("ACK", |from, to| Packet::tcp(from, to, 80, ACK), Is::Served),
    ("data", |from, to| Packet::tcp(from, to, 443, ACK | PSH).data(1200), Is::Served),
    ("SYN-ACK", |from, to| Packet::tcp(from, to, 80, SYN | ACK), Is::Served),
    ("RST", |from, to| Packet::tcp(from, to, 80, RST), Is::Served),
    ("no flags", |from, to| Packet::tcp(from, to, 80, 0), Is::Served),
    ("SYN to another port", |from, to| Packet::syn(from, to, 8080), Is::Beside(Reason::UnservedPort)),
    ("ACK to another port", |from, to| Packet::tcp(from, to, 22, ACK), Is::Beside(Reason::UnservedPort)),
    ("UDP", |from, to| Packet::udp(from, to, 443), Is::Beside(Reason::UnservedPort)),
    ("SCTP", |from, to| Packet::other(from, to, 132), Is::Beside(Reason::OtherProtocol)),
    ("GRE", |from, to| Packet::other(from, to, 47), Is::Beside(Reason::OtherProtocol)),
    (
        "a later fragment",
        |from, to| Packet::syn(from, to, 80).fragment(9, false),
        Is::Beside(Reason::Fragment),
    ),
    (
        "a cut TCP header",
        |from, to| {
            let packet = Packet::syn(from, to, 80);
            let whole = packet.bytes().len();
            packet.cut(whole - 1)
        },
        Is::Beside(Reason::Truncated),
    ),
];

/// Ways to write the same packet, none of which is a way around anything.
type Writing = (&'static str, fn(Packet, bool) -> Packet);

const WRITINGS: [Writing; 5] = [
    ("", |packet, _| packet),
    (" in a VLAN", |packet, _| packet.vlan(0x8100)),
    (" in a service VLAN", |packet, _| packet.vlan(0x88a8)),
    (" with one option", |packet, is_v6| if is_v6 { packet.extension(60, 1) } else { packet.options(1) }),
    (" with many options", |packet, is_v6| {
        if is_v6 { packet.extension(0, 1).extension(43, 2).extension(60, 3) } else { packet.options(10) }
    }),
];

struct Row {
    name: String,
    frame: Vec<u8>,
    address: Option<&'static str>,
    reason: Reason,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (source, at_open, at_walled) in SOURCES {
        for destination in [OPEN, WALLED, NODE, ELSEWHERE] {
            let lists = if destination.0 == WALLED.0 { at_walled } else { at_open };
            for (shape, build, is) in SHAPES {
                for (writing, write) in WRITINGS {
                    for family in [0, 1] {
                        // A cut packet ends where it was meant to only as it is.
                        if matches!(is, Is::Beside(Reason::Truncated)) && !writing.is_empty() {
                            continue;
                        }
                        let packet = build(source.1[family], destination.1[family]);
                        let (address, reason) = outcome(destination, family, lists, is);
                        rows.push(Row {
                            name: format!(
                                "{shape}{writing} from {} to {}, {}",
                                source.0,
                                destination.0,
                                ["IPv4", "IPv6"][family]
                            ),
                            frame: write(packet, family == 1).bytes(),
                            address,
                            reason,
                        });
                    }
                }
            }
        }
    }
    rows
}

fn outcome(to: Party, family: usize, lists: Lists, is: Is) -> (Option<&'static str>, Reason) {
    let beside = matches!(is, Is::Beside(_));
    if to.0 == ELSEWHERE.0 || (to.0 == NODE.0 && beside) {
        return (None, Reason::Foreign);
    }
    let reason = match (lists, is) {
        (Refuse(reason), _) | (_, Is::Beside(reason)) => reason,
        (Lists::Exempt, Is::Opening) => Reason::Exempt,
        (Admit, Is::Opening) => Reason::Opened,
        (_, Is::Served) => Reason::Admitted,
    };
    (Some(to.1[family]), reason)
}

fn rig() -> Rig {
    let pools = vec![pool("open", &OPEN.1), pool("walled", &WALLED.1)];
    let node = NODE.1.map(|text| text.parse().unwrap());
    Rig::new(&model(pools, everywhere_and_walled().to_vec()), &node, without_end)
}

fn check(mut rig: Rig) {
    let rows = rows();
    assert!(rows.len() > 2000, "{} rows", rows.len());
    for Row { name, frame, address, reason } in rows {
        let expected = Seen { vip_id: rig.vip_id(address), reason };
        assert_eq!(rig.run(&frame), expected, "{name}");
    }
}

#[test]
fn every_source_meets_at_every_address_what_the_lists_say() {
    check(rig());
}

#[test]
fn the_same_holds_at_tc() {
    check(rig().at_tc());
}
