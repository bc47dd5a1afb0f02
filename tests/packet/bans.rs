//! Bans: whose packets are dropped until when, and what leads to one.

use std::time::Duration;

use ingress_common::flow::{addr_of, ip_of};
use ingress_common::maps::{BAN_ASKS, BanAsk, Limit};
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, connections, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet};
use ingress_userspace::bpf::clock::now_ns;
use ingress_userspace::compile::maps::bans::terms;
use ingress_userspace::model::edge::{BanRule, Counted, EdgeLimit, EdgePolicy, Per};

const BANNING: &str = "198.18.100.1";
const BANNING6: &str = "2001:db8:100::1";
/// Under the same limits by a policy that bans nobody.
const LENIENT: &str = "198.18.200.1";
const BURST: usize = 2;
const AFTER: usize = 4;

fn rule(after: usize, within: Duration) -> BanRule {
    BanRule { after: u32::try_from(after).unwrap(), within, lasts: Duration::from_secs(60), most: 10 }
}

/// One connection a second, two at once; four refused ones lead to a ban.
fn policies() -> Vec<EdgePolicy> {
    let mut banning = policy("banning", Some("banning"));
    banning.limits = vec![connections(1, BURST as u64)];
    banning.exempt = nets(&["198.18.9.0/24", "2001:db8:9::1/128"]);
    banning.deny = nets(&["198.18.66.0/24"]);
    banning.ban = Some(rule(AFTER, Duration::from_secs(3600)));
    let mut lenient = policy("lenient", Some("lenient"));
    lenient.limits = vec![connections(1, BURST as u64)];
    vec![banning, lenient]
}

fn rig_of(policies: Vec<EdgePolicy>) -> Rig {
    let pools = vec![pool("banning", &[BANNING, BANNING6]), pool("lenient", &[LENIENT])];
    Rig::new(&model(pools, policies), &[], |contents| {
        // An hour for each connection, so that nothing refills while a test runs.
        for limit in contents.limits.values_mut().filter(|limit| limit.rate_ns > 0) {
            let hour = 3_600_000_000_000;
            *limit = Limit { rate_ns: hour, burst_ns: limit.burst_ns / limit.rate_ns * hour, ..*limit };
        }
    })
}

fn rig() -> Rig {
    rig_of(policies())
}

fn later() -> u64 {
    now_ns() + 3_600_000_000_000
}

fn reason(rig: &mut Rig, packet: &Packet) -> Reason {
    rig.run(&packet.bytes()).reason
}

#[test]
fn every_packet_of_a_banned_source_is_dropped_and_of_nobody_else() {
    type Made = fn(&str, &str) -> Packet;
    let kinds: [(&str, Made); 8] = [
        ("a new connection", |from, to| Packet::syn(from, to, 80)),
        ("a segment", |from, to| Packet::tcp(from, to, 80, ACK)),
        ("a datagram", |from, to| Packet::udp(from, to, 80)),
        ("a ping", |from, to| Packet::other(from, to, if from.contains(':') { 58 } else { 1 })),
        ("a fragment", |from, to| Packet::udp(from, to, 80).fragment(0, true)),
        ("a port that is not served", |from, to| Packet::syn(from, to, 22)),
        ("a tagged segment", |from, to| Packet::tcp(from, to, 443, ACK).vlan(0x8100)),
        ("a long segment", |from, to| Packet::tcp(from, to, 443, ACK).data(700)),
    ];
    for at_tc in [false, true] {
        let mut rig = if at_tc { rig().at_tc() } else { rig() };
        rig.ban("198.18.7.1", later());
        rig.ban("2001:db8:7:1::1", later());
        for (name, packet) in kinds {
            if at_tc && name.contains("tagged") {
                // There, a tag stands beside the packet.
                continue;
            }
            assert_eq!(reason(&mut rig, &packet("198.18.7.1", BANNING)), Reason::Banned, "{name}");
            assert_ne!(reason(&mut rig, &packet("198.18.7.2", BANNING)), Reason::Banned, "{name}");
            let neighbour = "2001:db8:7:1:ffff::2";
            assert_eq!(
                reason(&mut rig, &packet(neighbour, BANNING6)),
                Reason::Banned,
                "{name}: the same /64"
            );
            let next = "2001:db8:7:2::1";
            assert_ne!(reason(&mut rig, &packet(next, BANNING6)), Reason::Banned, "{name}: the next /64");
        }
        assert_ne!(reason(&mut rig, &Packet::syn("198.18.7.1", LENIENT, 80)), Reason::Banned, "bans nobody");
        assert_eq!(reason(&mut rig, &Packet::syn("198.18.7.1", "198.18.1.1", 80)), Reason::Foreign);
    }
}

#[test]
fn deny_comes_before_a_ban_and_exempt_sources_meet_none() {
    let mut rig = rig();
    for source in ["198.18.66.1", "198.18.9.1", "2001:db8:9::1"] {
        rig.ban(source, later());
    }
    assert_eq!(reason(&mut rig, &Packet::syn("198.18.66.1", BANNING, 80)), Reason::Denied);
    for _ in 0..20 {
        assert_eq!(reason(&mut rig, &Packet::syn("198.18.9.1", BANNING, 80)), Reason::Exempt);
        assert_eq!(reason(&mut rig, &Packet::syn("2001:db8:9::1", BANNING6, 80)), Reason::Exempt);
    }
    // One address of the /64 is exempt, the others of it are not.
    assert_eq!(reason(&mut rig, &Packet::syn("2001:db8:9::2", BANNING6, 80)), Reason::Banned);
    assert_eq!(rig.asks(), []);
}

#[test]
fn a_ban_comes_before_an_allow_list() {
    let mut policies = policies();
    policies[0].allow = nets(&["198.18.0.0/16"]);
    let mut rig = rig_of(policies);
    rig.ban("198.18.7.1", later());
    rig.ban("203.0.113.1", later());
    assert_eq!(reason(&mut rig, &Packet::syn("198.18.7.1", BANNING, 80)), Reason::Banned);
    assert_eq!(reason(&mut rig, &Packet::syn("203.0.113.1", BANNING, 80)), Reason::Banned);
    assert_eq!(reason(&mut rig, &Packet::syn("203.0.113.2", BANNING, 80)), Reason::NotAllowed);
}

#[test]
fn the_program_itself_ends_a_ban() {
    let mut rig = rig();
    let segment = Packet::tcp("198.18.7.1", BANNING, 80, ACK);
    for (expires_ns, is_banned) in
        [(0, false), (1, false), (now_ns() - 1_000_000_000, false), (u64::MAX, true)]
    {
        rig.ban("198.18.7.1", expires_ns);
        assert_eq!(reason(&mut rig, &segment) == Reason::Banned, is_banned, "{expires_ns}");
    }
    let end = now_ns() + 300_000_000;
    rig.ban("198.18.7.1", end);
    while reason(&mut rig, &segment) == Reason::Banned {
        assert!(now_ns() < end + 1_000_000_000, "the ban goes on");
    }
    // The program's clock is coarse: it may be a tick behind, never ahead.
    assert!(now_ns() >= end, "the ban ended early");
}

#[test]
fn so_many_refused_packets_ask_for_a_ban_once() {
    for (source, to) in [("198.18.7.1", BANNING), ("2001:db8:7:1::1", BANNING6)] {
        let mut rig = rig();
        let syn = Packet::syn(source, to, 80);
        for _ in 0..BURST {
            assert_eq!(reason(&mut rig, &syn), Reason::Opened);
        }
        for _ in 1..AFTER {
            assert_eq!(reason(&mut rig, &syn), Reason::OverLimit);
        }
        assert_eq!(rig.asks(), [], "one too few");
        assert_eq!(reason(&mut rig, &syn), Reason::OverLimit);
        let policies = policies();
        let number = *terms(&policies).keys().next().unwrap();
        let [BanAsk { source: named, policy, kind }] = rig.asks()[..] else { panic!("named once") };
        let counted = if to == BANNING { source } else { "2001:db8:7:1::" };
        assert_eq!((ip_of(&named), policy), (counted.parse().unwrap(), number));
        assert_eq!(kind, Limit::CONNECTIONS);
        for _ in 0..20 {
            assert_eq!(reason(&mut rig, &syn), Reason::OverLimit);
        }
        assert_eq!(rig.asks(), [], "the agent has it already");
        assert_eq!(rig.strikes(), 1);
    }
}

#[test]
fn drops_count_together_for_a_time_only() {
    let mut policies = policies();
    // Less than a tick of the clock: drops of different ticks never meet.
    policies[0].ban = Some(rule(2, Duration::ZERO));
    let mut rig = rig_of(policies);
    let syn = Packet::syn("198.18.7.1", BANNING, 80);
    for _ in 0..BURST + 5 {
        let _ = reason(&mut rig, &syn);
        let tick = now_ns() + 10_000_000;
        while now_ns() < tick {
            std::hint::spin_loop();
        }
    }
    assert_eq!(rig.asks(), []);
}

#[test]
fn what_limits_of_a_policy_refuse_counts_together_and_per_address_not_at_all() {
    let mut banning = policy("banning", Some("banning"));
    banning.limits = vec![
        connections(1, 1),
        EdgeLimit { of: Counted::Packets, ..connections(1, 3) },
        EdgeLimit { per: Per::Address, ..connections(1, 1) },
    ];
    banning.ban = Some(rule(3, Duration::from_secs(3600)));
    let mut rig = rig_of(vec![banning]);
    assert_eq!(reason(&mut rig, &Packet::syn("198.18.7.1", BANNING, 80)), Reason::Opened);
    assert_eq!(reason(&mut rig, &Packet::syn("198.18.7.1", BANNING, 80)), Reason::OverLimit, "connections");
    let segment = Packet::tcp("198.18.7.1", BANNING, 80, ACK);
    while reason(&mut rig, &segment) != Reason::OverLimit {}
    assert_eq!(rig.asks(), [], "two so far");
    assert_eq!(reason(&mut rig, &segment), Reason::OverLimit);
    assert_eq!(rig.asks().len(), 1);
    // The address has no connection left, for which none of its sources is to blame.
    for n in 1..=10 {
        assert_eq!(reason(&mut rig, &Packet::syn(&format!("198.18.8.{n}"), BANNING, 80)), Reason::OverLimit);
    }
    assert_eq!((rig.asks(), rig.strikes()), (vec![], 1));
}

#[test]
fn nobody_is_named_where_no_policy_bans() {
    let mut rig = rig();
    let syn = Packet::syn("198.18.7.1", LENIENT, 80);
    let refused = (0..20).filter(|_| reason(&mut rig, &syn) == Reason::OverLimit).count();
    assert_eq!((refused, rig.strikes(), rig.asks()), (20 - BURST, 0, vec![]));
}

#[test]
fn a_source_that_finds_the_queue_full_is_named_later() {
    let mut policies = policies();
    policies[0].ban = Some(rule(1, Duration::from_secs(3600)));
    let mut rig = rig_of(policies);
    let count = BAN_ASKS + 10;
    let syn =
        |n: u32| Packet::syn(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(), BANNING, 80).bytes();
    for n in 0..count {
        let frame = syn(n);
        let refused = (0..=BURST).filter(|_| !rig.passes(&frame)).count();
        assert!(refused >= 1, "source {n}");
    }
    let first = rig.asks();
    assert_eq!(first.len(), BAN_ASKS as usize);
    for n in 0..count {
        assert!(!rig.passes(&syn(n)));
    }
    let mut named: Vec<_> = first.iter().chain(&rig.asks()).map(|ask| ask.source).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), count as usize, "all of them");
    assert!(named.contains(&addr_of("10.0.0.0".parse().unwrap())));
}
