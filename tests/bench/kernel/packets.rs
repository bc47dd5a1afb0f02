//! What the XDP program costs, as a multiple of an empty one.
//!
//! `BPF_PROG_TEST_RUN` repeats a packet in the kernel. Every round measures the empty program and each row right after
//! another, and the median over the rounds of their ratio is what counts: times of a busy machine are not comparable, their
//! ratios within milliseconds are.
//!
//! Repeated runs see the packet as the run before left it, and always the same source. Rows for which that would be
//! another packet are measured one run at a time, each with the packet as it came, against the row `BASE` measured in the
//! same way and in turn (the row of cookies: against `SEGMENT`); what they cost more is added to the ratio of that one. What a system call leaves in the caches is
//! in both and so in neither.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use ingress_common::flow::addr_of;
use ingress_common::maps::{Cluster, Limit, NodeVal, VipKey};
use ingress_common::steer::TABLE_SLOTS;
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{EMPTY_PROGRAM, PROGRAM, Rig, Seen, connections, model, nets, policy, pool};
use ingress_tests::netns::Namespace;
use ingress_tests::packet::{ACK, Packet};
use ingress_tests::tunnel::hash;
use ingress_userspace::model::edge::{Counted, EdgeLimit};

use crate::Row;

/// What a packet may cost that is not ours.
const FOREIGN: f64 = 3.5;
/// A packet to an address with lists and limits, its owner looked up; also one that opens a connection.
const SERVED: f64 = 9.0;
/// What a hit in a list of 50,000 prefixes may add.
const LIST: f64 = 8.0;
/// A new source with every packet.
const FLOOD: f64 = 20.0;
/// A SYN that is answered by a cookie: most of it is the kernel's making of the cookie.
const COOKIE: f64 = 45.0;
const ROUNDS: usize = 21;
const REPEAT: u32 = 400_000;
/// Single runs of a row that cannot be repeated.
const SINGLES: u32 = 60_000;
/// Prefixes of the long list.
const PREFIXES: u32 = 50_000;

const PLAIN: &str = "198.18.100.1";
const LISTED: &str = "198.18.101.1";
const LIMITED: &str = "198.18.102.1";
const METERED: &str = "198.18.103.1";
const SHIELDED: &str = "198.18.104.1";
const PLAIN6: &str = "2001:db8:100::1";
const NODE: &str = "198.18.0.10";
/// A source with a bucket of its own.
const NEIGHBOUR: &str = "198.18.8.8";
/// A source whose connection another node owns.
const STEERED: &str = "198.18.8.9";
/// The port that the packet builder sends from.
const SOURCE_PORT: u16 = 0xc001;

struct Case {
    name: &'static str,
    frame: Vec<u8>,
    /// The counter that the packet goes to: a row that measures something else is a mistake.
    reason: Reason,
    gate: Option<f64>,
}

/// What single runs are compared with.
const BASE: &str = "served: new connection, lists (miss), charged, by the table, a socket listens";
/// The same for the row of cookies, whose address has no limits.
const SEGMENT: &str = "served: segment, no lists";

/// All rows.
pub(crate) fn measure() -> Vec<Row> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = rig(&listener);
    let (_namespace, always) = listens_by_cookies();
    rig.listen(SocketAddr::new(ip(SHIELDED), 80), 1, &always);
    let cases = cases();
    for case in &cases {
        // The first connection of a source makes its bucket; what is measured are those after it.
        rig.run(&case.frame);
        let seen: Seen = rig.run(&case.frame);
        assert_eq!(seen.reason, case.reason, "{}", case.name);
    }
    let mut ratios = vec![Vec::with_capacity(ROUNDS); cases.len()];
    let mut empty_ns = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        for (case, ratios) in cases.iter().zip(&mut ratios) {
            let before = rig.time_ns(EMPTY_PROGRAM, &case.frame, REPEAT);
            let time = rig.time_ns(PROGRAM, &case.frame, REPEAT);
            let after = rig.time_ns(EMPTY_PROGRAM, &case.frame, REPEAT);
            let empty = f64::midpoint(before, after);
            empty_ns.push(empty);
            ratios.push(time / empty);
        }
    }
    let empty = median(&mut empty_ns);
    println!("{ROUNDS} rounds of {REPEAT} packets; an empty program takes about {empty:.0} ns here");
    let mut rows: Vec<Row> = cases
        .iter()
        .zip(&mut ratios)
        .map(|(case, ratios)| row(case.name, median(ratios), case.gate))
        .collect();
    let of = |name: &str| rows.iter().find(|row| row.case == name).map(|row| row.value).unwrap();
    let listed = of("served: segment, list of 50,000, denied") - of(SEGMENT);
    let (base, segment) = (of(BASE), of(SEGMENT));
    rows.push(row("a hit in a list of 50,000 prefixes adds", listed, Some(LIST)));
    let flood = (0..SINGLES).map(|n| {
        // An odd factor visits addresses from 11.0.0.0 to 122.255.255.255 in an order that no cache foresees.
        let source = Ipv4Addr::from(0x0b00_0000 + n.wrapping_mul(0x9e37_79b1) % 0x7000_0000).to_string();
        Packet::syn(&source, LIMITED, 80).bytes()
    });
    let more = singly(&rig, flood, &Packet::syn(NEIGHBOUR, LIMITED, 80).bytes()) / empty;
    let steered = std::iter::repeat_n(Packet::syn(STEERED, LIMITED, 80).bytes(), SINGLES as usize);
    let sent = singly(&rig, steered, &Packet::syn(NEIGHBOUR, LIMITED, 80).bytes()) / empty;
    let syn = Packet::syn(NEIGHBOUR, SHIELDED, 80).bytes();
    // The first few are not asked about; from the first cookie on, all are.
    let is_answered = (0..1000).any(|_| rig.send(&syn).seen.reason == Reason::CookieSent);
    assert!(is_answered, "a listener that always wants cookies");
    let answered = std::iter::repeat_n(syn, SINGLES as usize);
    let cookie = singly(&rig, answered, &Packet::tcp(NEIGHBOUR, PLAIN, 80, ACK).data(500).bytes()) / empty;
    rows.push(row("served: new connection, answered by a SYN cookie", segment + cookie, Some(COOKIE)));
    rows.push(row("served: new connection of another node, sent on over UDP", base + sent, None));
    rows.push(row("served: new connections of ever new sources (flood)", base + more, Some(FLOOD)));
    rows
}

/// A listener for which a cookie is due for every SYN, and the network namespace with that setting.
fn listens_by_cookies() -> (Namespace, TcpListener) {
    let namespace = Namespace::new("cookies").unwrap();
    let listen = || {
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap()
    };
    let listener = namespace.enter(listen).unwrap();
    (namespace, listener)
}

/// What each of these frames takes more than `base`, in ns, one run at a time.
fn singly(rig: &Rig, frames: impl Iterator<Item = Vec<u8>>, base: &[u8]) -> f64 {
    let mut differences: Vec<f64> =
        frames.map(|frame| rig.time_ns(PROGRAM, &frame, 1) - rig.time_ns(PROGRAM, base, 1)).collect();
    // A mean without the hundredth at either end, where an interrupt fell into a run.
    differences.sort_by(f64::total_cmp);
    let cut = differences.len() / 100;
    let kept = &differences[cut..differences.len() - cut];
    kept.iter().sum::<f64>() / kept.len() as f64
}

fn row(case: &str, value: f64, gate: Option<f64>) -> Row {
    Row { case: case.to_owned(), value, unit: "x", gate }
}

fn cases() -> Vec<Case> {
    let case = |name, packet: Packet, reason, gate| Case { name, frame: packet.bytes(), reason, gate };
    let (client, client6) = ("198.18.7.7", "2001:db8:7::7");
    vec![
        case(
            "foreign: TCP over IPv4",
            Packet::tcp(client, "198.18.0.11", 80, ACK).data(500),
            Reason::Foreign,
            Some(FOREIGN),
        ),
        case(
            "foreign: TCP over IPv6",
            Packet::tcp(client6, "2001:db8::11", 80, ACK).data(500),
            Reason::Foreign,
            Some(FOREIGN),
        ),
        case(
            "foreign: UDP in a VLAN",
            Packet::udp(client, "198.18.0.11", 53).vlan(0x8100),
            Reason::Foreign,
            Some(FOREIGN),
        ),
        case(
            "own address: a port that is not served",
            Packet::tcp(client, NODE, 22, ACK),
            Reason::Foreign,
            None,
        ),
        case(SEGMENT, Packet::tcp(client, PLAIN, 80, ACK).data(500), Reason::Admitted, None),
        case(
            "served: segment, no lists, IPv6",
            Packet::tcp(client6, PLAIN6, 80, ACK),
            Reason::Admitted,
            None,
        ),
        case("served: new connection, no limits", Packet::syn(client, PLAIN, 80), Reason::Opened, None),
        case(
            "served: segment, list of 50,000, not in it",
            Packet::tcp(client, LISTED, 80, ACK),
            Reason::Admitted,
            None,
        ),
        case(
            "served: segment, list of 50,000, denied",
            Packet::tcp("10.9.9.9", LISTED, 80, ACK),
            Reason::Denied,
            None,
        ),
        case(
            "served: segment, lists (miss), charged, by the table",
            Packet::tcp(NEIGHBOUR, METERED, 80, ACK).data(500),
            Reason::Admitted,
            Some(SERVED),
        ),
        case(BASE, Packet::syn(NEIGHBOUR, LIMITED, 80), Reason::Opened, Some(SERVED)),
        case(
            "served: new connection, over the limit",
            Packet::syn(NEIGHBOUR, LIMITED, 443),
            Reason::OverLimit,
            None,
        ),
    ]
}

/// A hundred served addresses, so that the lookups are not those of an empty map.
fn rig(listener: &TcpListener) -> Rig {
    let mut listed = policy("listed", Some("listed"));
    listed.deny = (0..PREFIXES)
        .filter_map(|n| ipnet::IpNet::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n * 256)), 24).ok())
        .collect();
    listed.deny.extend(nets(&["198.19.0.0/16"]));
    let mut limited = policy("limited", Some("limited"));
    // A short list that none of the sources is on: what a user has beside a limit.
    limited.deny = nets(&["203.0.113.0/24", "2001:db8:bad::/48"]);
    limited.limits = vec![connections(1, 1)];
    let mut metered = policy("metered", Some("metered"));
    metered.deny.clone_from(&limited.deny);
    metered.limits = vec![EdgeLimit { of: Counted::Packets, ..connections(1, 1) }];
    let others: Vec<String> = (1..=100).map(|n| format!("198.18.110.{n}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let pools = vec![
        pool("plain", &[PLAIN, PLAIN6]),
        pool("listed", &[LISTED]),
        pool("limited", &[LIMITED]),
        pool("metered", &[METERED]),
        pool("shielded", &[SHIELDED]),
        pool("others", &others),
    ];
    let node = NODE.parse().map_or_else(|_| Vec::new(), |ip| vec![ip]);
    let mut rig = Rig::new(&model(pools, vec![listed, limited, metered]), &node, |contents| {
        // Port 80 never runs out, port 443 has a bucket of one connection per 500 years.
        let never = 1_u64 << 54;
        for limit in contents.limits.values_mut() {
            (limit.rate_ns, limit.rate_q20, limit.burst_ns) = (1, 0, never);
        }
        let spent = contents.limits.keys().max().map_or(0, |row| row + 1);
        if let Some(vip) = contents.vips.get_mut(&VipKey::served(addr_of(ip(LIMITED)), 443, 6)) {
            let limit = contents.limits.get(&u32::from(vip.first_limit)).copied().unwrap_or_default();
            contents.limits.insert(spent, Limit { bucket: 1000, rate_ns: never, burst_ns: 0, ..limit });
            vip.first_limit = spent as u16;
        }
    });
    // The limited addresses belong to a pool whose flows this node owns, but for one.
    rig.join(LIMITED);
    rig.join(METERED);
    rig.set_cluster(Cluster { seed: 1, keys: [1, 0], me: 1, flags: 0 });
    for (id, address) in [(1, NODE), (2, "198.18.0.12")] {
        let node = NodeVal {
            addr: addr_of(ip(address)),
            source: addr_of(ip(NODE)),
            ifindex: 1,
            mac: [2; 6],
            mtu: 1500,
            ..NodeVal::default()
        };
        rig.set_node(id, node, &[address]);
    }
    let slots = u64::from(TABLE_SLOTS);
    let table: Vec<(u64, [u16; 4])> = (0..slots)
        .map(|slot| (((slot << 32) / slots + 1) << 32, [1, 2, 0, 0]))
        .chain([(hash(STEERED, LIMITED, [SOURCE_PORT, 80], 6, 1), [2, 1, 0, 0])])
        .collect();
    rig.set_table(&table);
    rig.accept(LIMITED, 80, listener);
    rig.accept(LIMITED, 443, listener);
    rig
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
