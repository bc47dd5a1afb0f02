//! What the XDP program costs, as a multiple of an empty one: `cargo xtask bench kernel`.
//!
//! `BPF_PROG_TEST_RUN` repeats a packet in the kernel. Every round measures the empty program and each row right after
//! another, and the median over the rounds of their ratio is what counts: times of a busy machine are not comparable, their
//! ratios within milliseconds are.
#![expect(clippy::print_stdout, reason = "a benchmark talks to its user")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use ingress_common::flow::addr_of;
use ingress_common::maps::VipKey;
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{EMPTY_PROGRAM, PROGRAM, Rig, Seen, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet};
use ingress_userspace::model::edge::EdgeLimit;

/// Foreign traffic must not cost more than this.
const GATE: f64 = 3.5;
const ROUNDS: usize = 21;
const REPEAT: u32 = 400_000;
/// Prefixes of the long list.
const PREFIXES: u32 = 50_000;

const PLAIN: &str = "198.18.100.1";
const LISTED: &str = "198.18.101.1";
const LIMITED: &str = "198.18.102.1";
const PLAIN6: &str = "2001:db8:100::1";
const NODE: &str = "198.18.0.10";

struct Row {
    name: &'static str,
    frame: Vec<u8>,
    /// The counter that the packet goes to: a row that measures something else is a mistake.
    reason: Reason,
    is_gated: bool,
}

fn main() -> ExitCode {
    let mut rig = rig();
    let rows = rows();
    for row in &rows {
        // The first connection of a source makes its bucket; what is measured are those after it.
        rig.run(&row.frame);
        let seen: Seen = rig.run(&row.frame);
        assert_eq!(seen.reason, row.reason, "{}", row.name);
    }
    let mut ratios = vec![Vec::with_capacity(ROUNDS); rows.len()];
    let mut empty_ns = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        for (row, ratios) in rows.iter().zip(&mut ratios) {
            let before = rig.time_ns(EMPTY_PROGRAM, &row.frame, REPEAT);
            let time = rig.time_ns(PROGRAM, &row.frame, REPEAT);
            let after = rig.time_ns(EMPTY_PROGRAM, &row.frame, REPEAT);
            let empty = f64::midpoint(before, after);
            empty_ns.push(empty);
            ratios.push(time / empty);
        }
    }
    println!(
        "{ROUNDS} rounds of {REPEAT} packets; an empty program takes about {:.0} ns here",
        median(&mut empty_ns)
    );
    println!("{:<58} {:>6}  gate", "packet", "ratio");
    let mut missed = false;
    for (row, ratios) in rows.iter().zip(&mut ratios) {
        let ratio = median(ratios);
        let verdict = match row.is_gated {
            true if ratio > GATE => {
                missed = true;
                format!("MISSED (at most {GATE})")
            }
            true => format!("met (at most {GATE})"),
            false => String::new(),
        };
        println!("{:<58} {ratio:>5.2}x  {verdict}", row.name);
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn rows() -> Vec<Row> {
    let row = |name, packet: Packet, reason, is_gated| Row { name, frame: packet.bytes(), reason, is_gated };
    let (client, client6) = ("198.18.7.7", "2001:db8:7::7");
    vec![
        row(
            "foreign: TCP over IPv4",
            Packet::tcp(client, "198.18.0.11", 80, ACK).data(500),
            Reason::Foreign,
            true,
        ),
        row(
            "foreign: TCP over IPv6",
            Packet::tcp(client6, "2001:db8::11", 80, ACK).data(500),
            Reason::Foreign,
            true,
        ),
        row(
            "foreign: UDP in a VLAN",
            Packet::udp(client, "198.18.0.11", 53).vlan(0x8100),
            Reason::Foreign,
            true,
        ),
        row(
            "own address: a port that is not served",
            Packet::tcp(client, NODE, 22, ACK),
            Reason::Foreign,
            false,
        ),
        row(
            "served: segment, no lists",
            Packet::tcp(client, PLAIN, 80, ACK).data(500),
            Reason::Admitted,
            false,
        ),
        row(
            "served: segment, no lists, IPv6",
            Packet::tcp(client6, PLAIN6, 80, ACK),
            Reason::Admitted,
            false,
        ),
        row("served: new connection, no limits", Packet::syn(client, PLAIN, 80), Reason::Opened, false),
        row(
            "served: segment, list of 50,000, not in it",
            Packet::tcp(client, LISTED, 80, ACK),
            Reason::Admitted,
            false,
        ),
        row(
            "served: segment, list of 50,000, denied",
            Packet::tcp("10.9.9.9", LISTED, 80, ACK),
            Reason::Denied,
            false,
        ),
        row("served: new connection, charged", Packet::syn("198.18.8.8", LIMITED, 80), Reason::Opened, false),
        row(
            "served: new connection, over the limit",
            Packet::syn("198.18.8.8", LIMITED, 443),
            Reason::OverLimit,
            false,
        ),
    ]
}

/// A hundred served addresses, so that the lookups are not those of an empty map.
fn rig() -> Rig {
    let mut listed = policy("listed", Some("listed"));
    listed.deny = (0..PREFIXES)
        .filter_map(|n| ipnet::IpNet::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n * 256)), 24).ok())
        .collect();
    listed.deny.extend(nets(&["198.19.0.0/16"]));
    let mut limited = policy("limited", Some("limited"));
    limited.limits = vec![EdgeLimit { connections_per_second: 1, burst: 1 }];
    let others: Vec<String> = (1..=100).map(|n| format!("198.18.110.{n}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let pools = vec![
        pool("plain", &[PLAIN, PLAIN6]),
        pool("listed", &[LISTED]),
        pool("limited", &[LIMITED]),
        pool("others", &others),
    ];
    let node = NODE.parse().map_or_else(|_| Vec::new(), |ip| vec![ip]);
    Rig::new(&model(pools, vec![listed, limited]), &node, |contents| {
        // Port 80 never runs out, port 443 has a bucket of one connection per 500 years.
        let endless = contents.limits.values().next().copied().unwrap_or_default();
        contents.limits.clear();
        let never = 1_u64 << 54;
        contents.limits.insert(0, ingress_common::maps::Limit { rate_ns: 1, burst_ns: never, ..endless });
        contents
            .limits
            .insert(1, ingress_common::maps::Limit { bucket: 1, rate_ns: never, burst_ns: 0, ..endless });
        if let Some(vip) = contents.vips.get_mut(&VipKey::served(addr_of(ip(LIMITED)), 443, 6)) {
            vip.first_limit = 1;
        }
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
