//! Limits: which packets are charged, to whom, and where the edges are.
//!
//! Most limits here cost an hour per connection or packet, so that no bucket refills while a test runs.

use std::time::{Duration, Instant};

use ingress_common::flow::{Addr, addr_of};
use ingress_common::maps::{Limit, VipKey, VipVal};
use ingress_common::source::{SrcKey, gate_slot};
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, connections, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet};
use ingress_userspace::model::edge::{Counted, EdgeLimit, EdgePolicy, Per, Pool};

const LIMITED: &str = "198.18.100.1";
const LIMITED6: &str = "2001:db8:100::1";
const NEIGHBOUR: &str = "198.18.100.2";
const OTHER: &str = "198.18.200.1";
const HOUR_NS: u64 = 3_600_000_000_000;
const BURST: usize = 3;

/// `LIMITED`, `LIMITED6` and `NEIGHBOUR` share a policy of one limit; `OTHER` has one of its own.
fn rig() -> Rig {
    let limit = connections(1, 3);
    let mut edge = policy("edge", Some("edge"));
    edge.limits = vec![limit];
    edge.exempt = nets(&["198.18.9.0/24", "2001:db8:9::/48"]);
    let mut other = policy("other", Some("other"));
    other.limits = vec![connections(1, 5), limit];
    let pools = vec![pool("edge", &[LIMITED, LIMITED6, NEIGHBOUR]), pool("other", &[OTHER])];
    slow(pools, vec![edge, other])
}

/// One policy with this limit for `LIMITED`, `LIMITED6` and `NEIGHBOUR`, which takes hours to refill; `OTHER` has none.
fn limited(limit: EdgeLimit) -> Rig {
    let (pools, policies) = one(limit);
    slow(pools, policies)
}

/// The same with the limit as it is.
fn rig_of(limit: EdgeLimit) -> Rig {
    let (pools, policies) = one(limit);
    Rig::new(&model(pools, policies), &[], |_| {})
}

fn one(limit: EdgeLimit) -> (Vec<Pool>, Vec<EdgePolicy>) {
    let mut edge = policy("edge", Some("edge"));
    edge.limits = vec![limit];
    edge.exempt = nets(&["198.18.9.0/24"]);
    (vec![pool("edge", &[LIMITED, LIMITED6, NEIGHBOUR]), pool("other", &[OTHER])], vec![edge])
}

/// Limits of connections and packets cost an hour each.
fn slow(pools: Vec<Pool>, policies: Vec<EdgePolicy>) -> Rig {
    Rig::new(&model(pools, policies), &[], |contents| {
        for limit in contents.limits.values_mut().filter(|limit| limit.rate_ns > 0) {
            let units = limit.burst_ns / limit.rate_ns;
            *limit = Limit { rate_ns: HOUR_NS, burst_ns: units * HOUR_NS, ..*limit };
        }
    })
}

fn address(text: &str) -> Addr {
    addr_of(text.parse().unwrap())
}

/// How many of 10 equal packets get through.
fn admitted(rig: &mut Rig, packet: &Packet) -> usize {
    let frame = packet.bytes();
    (0..10).filter(|_| rig.run(&frame).reason != Reason::OverLimit).count()
}

#[test]
fn a_source_opens_as_many_connections_as_the_burst() {
    let mut rig = rig();
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", LIMITED, 80)), BURST);
    assert_eq!(
        admitted(&mut rig, &Packet::syn("198.18.7.2", LIMITED, 80)),
        BURST,
        "another source has its own bucket"
    );
    assert_eq!(admitted(&mut rig, &Packet::syn("2001:db8:7::1", LIMITED6, 443)), BURST);
}

#[test]
fn the_addresses_and_ports_of_a_policy_share_a_sources_bucket() {
    let mut rig = rig();
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", LIMITED, 80)), BURST);
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", LIMITED, 443)), 0);
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", NEIGHBOUR, 80)), 0);
    assert_eq!(
        admitted(&mut rig, &Packet::syn("198.18.7.1", OTHER, 80)),
        BURST,
        "another policy has its own buckets"
    );
}

#[test]
fn an_ipv6_source_is_its_64() {
    let mut rig = rig();
    assert_eq!(admitted(&mut rig, &Packet::syn("2001:db8:7:1::1", LIMITED6, 80)), BURST);
    assert_eq!(admitted(&mut rig, &Packet::syn("2001:db8:7:1:ffff::1", LIMITED6, 80)), 0);
    assert_eq!(admitted(&mut rig, &Packet::syn("2001:db8:7:2::1", LIMITED6, 80)), BURST);
}

#[test]
fn every_limit_of_an_address_applies() {
    // Bursts of 5 and of 3: the smaller one bites.
    let mut rig = rig();
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", OTHER, 80)), BURST);
}

#[test]
fn packets_that_open_nothing_are_not_charged() {
    let mut rig = rig();
    let source = "198.18.7.1";
    for packet in [
        Packet::tcp(source, LIMITED, 80, ACK),
        Packet::udp(source, LIMITED, 80),
        Packet::syn(source, LIMITED, 22),
        Packet::other(source, LIMITED, 1),
        Packet::syn(source, LIMITED, 80).fragment(2, false),
    ] {
        assert_eq!(admitted(&mut rig, &packet), 10, "{packet:?}");
    }
    assert_eq!(admitted(&mut rig, &Packet::syn(source, LIMITED, 80)), BURST, "the bucket was still full");
}

#[test]
fn an_exempt_source_has_no_limit() {
    let mut rig = rig();
    for packet in [Packet::syn("198.18.9.1", LIMITED, 80), Packet::syn("2001:db8:9::1", LIMITED6, 80)] {
        for _ in 0..10 {
            assert_eq!(rig.run(&packet.bytes()).reason, Reason::Exempt);
        }
    }
}

#[test]
fn detours_are_charged_like_the_straight_way() {
    let mut rig = rig();
    let syn = |source| Packet::syn(source, LIMITED, 80);
    let detours = [
        ("options", syn("198.18.8.1").options(3)),
        ("a VLAN", syn("198.18.8.2").vlan(0x8100)),
        ("a first fragment", syn("198.18.8.3").data(60).fragment(0, true)),
        // Eight bytes: ports, but no flags; they come in the next fragment.
        ("a fragment before the flags", syn("198.18.8.4").transport_bytes(8).fragment(0, true)),
        // The same in a frame that Ethernet filled up: what stands where the flags would be says ACK.
        (
            "a padded fragment before the flags",
            syn("198.18.8.5").transport_bytes(8).fragment(0, true).padded(60),
        ),
        ("an extension", Packet::syn("2001:db8:8:1::1", LIMITED6, 80).extension(60, 1)),
        ("an atomic fragment", Packet::syn("2001:db8:8:2::1", LIMITED6, 80).fragment(0, false)),
        (
            "an IPv6 fragment before the flags",
            Packet::syn("2001:db8:8:3::1", LIMITED6, 80).transport_bytes(8).fragment(0, true),
        ),
    ];
    for (name, packet) in detours {
        assert_eq!(admitted(&mut rig, &packet), BURST, "{name}");
    }
}

#[test]
fn the_bucket_of_an_address_holds_its_theoretical_arrival_time() {
    let mut rig = limited(EdgeLimit { per: Per::Address, ..connections(1, 3) });
    let row = u32::from(rig.contents.vips[&VipKey::address(address(LIMITED))].first_limit);
    let limit = Limit { rate_ns: HOUR_NS, burst_ns: 2 * HOUR_NS, ..rig.contents.limits[&row] };
    rig.set_limit(row, limit);
    let key = SrcKey { addr: address(LIMITED), bucket: limit.bucket };
    let frame = Packet::syn("198.18.7.1", LIMITED, 80).bytes();

    assert_eq!(rig.bucket(key), None);
    assert_eq!(rig.run(&frame).reason, Reason::Opened);
    let first = rig.bucket(key).expect("the address has a bucket");
    assert_eq!(rig.run(&frame).reason, Reason::Opened);
    assert_eq!(rig.bucket(key), Some(first + HOUR_NS), "each connection costs its time");

    // `first - HOUR_NS` is the moment of the first packet; the clock has gone on since, by far less than a minute.
    let now = first - HOUR_NS;
    let minute = 60_000_000_000;
    rig.set_bucket(key, now + limit.burst_ns + minute);
    assert_eq!(rig.run(&frame).reason, Reason::OverLimit, "over the burst");
    assert_eq!(rig.bucket(key), Some(now + limit.burst_ns + minute), "a refused connection costs nothing");
    rig.set_bucket(key, now + limit.burst_ns);
    assert_eq!(rig.run(&frame).reason, Reason::Opened, "the last of the burst");
    rig.set_bucket(key, 1);
    assert_eq!(rig.run(&frame).reason, Reason::Opened, "long ago");
    assert!(rig.bucket(key).unwrap() >= first, "time that was not used is not saved up");
    rig.set_bucket(key, u64::MAX);
    assert_eq!(rig.run(&frame).reason, Reason::OverLimit, "a state that this limit never leaves");
    let most = now + limit.burst_ns + HOUR_NS + minute;
    assert!(rig.bucket(key).unwrap() < most, "keeps nobody waiting longer than the limit does");
}

#[test]
fn a_limit_of_packets_meets_every_packet_of_the_address() {
    type Made = fn(&str, &str) -> Packet;
    let kinds: [(&str, &str, Made); 7] = [
        ("a segment", "198.18.7", |from, to| Packet::tcp(from, to, 80, ACK)),
        ("a new connection", "198.18.17", |from, to| Packet::syn(from, to, 80)),
        ("a datagram", "198.18.27", |from, to| Packet::udp(from, to, 80)),
        ("a ping", "198.18.37", |from, to| Packet::other(from, to, 1)),
        ("a later fragment", "198.18.47", |from, to| Packet::udp(from, to, 80).fragment(2, false)),
        ("a port that is not served", "198.18.57", |from, to| Packet::syn(from, to, 22)),
        ("a segment with options", "198.18.67", |from, to| Packet::tcp(from, to, 443, ACK).options(3)),
    ];
    let mut rig = limited(EdgeLimit { of: Counted::Packets, ..connections(1, 3) });
    for (name, net, packet) in kinds {
        assert_eq!(admitted(&mut rig, &packet(&format!("{net}.1"), LIMITED)), BURST, "{name}");
        assert_eq!(
            admitted(&mut rig, &packet(&format!("{net}.2"), LIMITED)),
            BURST,
            "{name}: another source"
        );
    }
    assert_eq!(admitted(&mut rig, &Packet::udp("198.18.7.1", LIMITED, 80)), 0, "one bucket for all kinds");
    assert_eq!(admitted(&mut rig, &Packet::tcp("2001:db8:7::1", LIMITED6, 80, ACK)), BURST);
    assert_eq!(admitted(&mut rig, &Packet::other("2001:db8:7::2", LIMITED6, 58)), 0, "the same /64");
    assert_eq!(admitted(&mut rig, &Packet::tcp("198.18.9.1", LIMITED, 80, ACK)), 10, "exempt");
    assert_eq!(admitted(&mut rig, &Packet::other("198.18.9.1", LIMITED, 1)), 10, "exempt");
    assert_eq!(admitted(&mut rig, &Packet::tcp("198.18.7.1", OTHER, 80, ACK)), 10, "no limit there");
}

#[test]
fn a_limit_of_bytes_counts_frames_by_their_length() {
    // At a byte per second nothing refills within the test, however slow the machine is.
    let burst = 1_000;
    for per in [Per::Source, Per::Address] {
        let mut rig = limited(EdgeLimit { of: Counted::Bytes, per, per_second: 1, burst });
        for (from, to, data) in
            [("198.18.7.1", LIMITED, 100), ("198.18.7.2", NEIGHBOUR, 700), ("2001:db8:7::1", LIMITED6, 30)]
        {
            let packet = Packet::tcp(from, to, 80, ACK).data(data);
            let len = packet.bytes().len() as u64;
            let frame = packet.bytes();
            let through = (0..100).filter(|_| rig.run(&frame).reason != Reason::OverLimit).count() as u64;
            // One more than fits: the packet that exceeds the burst gets through.
            assert_eq!(through, burst / len + 1, "{len} bytes each, {per:?}");
        }
    }
}

#[test]
fn a_limit_per_address_is_shared_by_all_sources() {
    for of in [Counted::Connections, Counted::Packets] {
        let mut rig = limited(EdgeLimit { of, per: Per::Address, ..connections(1, 3) });
        let through = (1..=10)
            .filter(|n| {
                let syn = Packet::syn(&format!("198.18.{n}.7"), LIMITED, 80);
                rig.run(&syn.bytes()).reason == Reason::Opened
            })
            .count();
        assert_eq!(through, BURST, "{of:?}");
        assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", LIMITED, 443)), 0, "whatever the port");
        let neighbour = Packet::syn("198.18.7.1", NEIGHBOUR, 80);
        assert_eq!(admitted(&mut rig, &neighbour), BURST, "the next address has its own");
        assert_eq!(admitted(&mut rig, &Packet::syn("198.18.9.1", LIMITED, 80)), 10, "exempt");
        assert_eq!(rig.buckets(), 2);
    }
}

#[test]
fn limits_of_several_kinds_count_apart() {
    let mut edge = policy("edge", Some("edge"));
    edge.limits = vec![
        EdgeLimit { of: Counted::Packets, ..connections(1, 6) },
        connections(1, 3),
        EdgeLimit { of: Counted::Packets, per: Per::Address, ..connections(1, 8) },
    ];
    let mut rig = slow(vec![pool("edge", &[LIMITED])], vec![edge]);
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", LIMITED, 80)), 3, "three connections");
    // Of the seven refused connections, three were packets, too, until the packets had run out.
    assert_eq!(admitted(&mut rig, &Packet::tcp("198.18.7.1", LIMITED, 80, ACK)), 0, "six packets in all");
    assert_eq!(
        admitted(&mut rig, &Packet::tcp("198.18.7.2", LIMITED, 80, ACK)),
        2,
        "eight of all sources, six are used: a packet is one, also if its connection is refused"
    );
}

#[test]
fn a_source_within_its_limit_leaves_no_bucket_and_a_flood_none_either() {
    let mut rig = limited(connections(1, 3));
    let mut refused = 0;
    for n in 0..20_000_u32 {
        let source = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        let frame = Packet::syn(&source.to_string(), LIMITED, 80).bytes();
        refused += usize::from(!rig.passes(&frame));
    }
    assert_eq!((refused, rig.buckets()), (0, 0));
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", LIMITED, 80)), BURST);
    assert_eq!(rig.buckets(), 0, "what is refused leaves none");
}

#[test]
fn a_source_is_held_to_its_rate_and_burst_while_it_hammers() {
    let rig = rig_of(connections(50, 5));
    let frame = Packet::syn("198.18.7.1", LIMITED, 80).bytes();
    let start = Instant::now();
    let mut through = 0;
    while start.elapsed() < Duration::from_millis(1_000) {
        through += u64::from(rig.passes(&frame));
    }
    // What the rate gives, the burst, and a tick of the clock at both ends; a busy machine may let tokens lapse.
    let given = u64::try_from(start.elapsed().as_millis()).unwrap() / 20;
    assert!((given / 2..=given + 5 + 2).contains(&through), "{through} of {given} + 5");
    assert_eq!(rig.buckets(), 1);
}

#[test]
fn a_source_that_shares_a_slot_with_a_heavy_one_keeps_its_own_limit() {
    let rig = rig_of(connections(20, 3));
    let row = u32::from(rig.contents.vips[&VipKey::address(address(LIMITED))].first_limit);
    let bucket = rig.contents.limits[&row].bucket;
    let slot = |n: u32| gate_slot(&[0, 0, 0xffff_0000, (0x0a00_0000 + n).to_be()], bucket, 0);
    let heavy = slot(0);
    let neighbour = (1..).find(|n| slot(*n) == heavy).unwrap();
    let syn =
        |n: u32| Packet::syn(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(), LIMITED, 80).bytes();
    let (heavy, neighbour) = (syn(0), syn(neighbour));
    while rig.passes(&heavy) {}
    // The slot stands still from here on, whatever the heavy source goes on to do.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {
        rig.passes(&heavy);
    }
    let through = (0..3).filter(|_| rig.passes(&neighbour)).count();
    assert_eq!(through, 3, "its burst");
}

#[test]
fn a_changed_rate_keeps_what_was_used() {
    let mut rig = limited(connections(1, 3));
    let row = u32::from(rig.contents.vips[&VipKey::address(address(LIMITED))].first_limit);
    let before = rig.contents.limits[&row];
    let frame = Packet::syn("198.18.7.1", LIMITED, 80).bytes();
    assert_eq!(admitted(&mut rig, &Packet::syn("198.18.7.1", LIMITED, 80)), BURST);
    rig.set_limit(row, Limit { rate_ns: 2 * HOUR_NS, burst_ns: HOUR_NS, ..before });
    assert_eq!(rig.run(&frame).reason, Reason::OverLimit, "the hours that were used are still used");
    rig.set_limit(row, Limit { burst_ns: 10 * HOUR_NS, ..before });
    assert_eq!(rig.run(&frame).reason, Reason::Opened, "a larger burst has room at once");

    // A limit of another order does not wait for the hours of the old one.
    rig.set_limit(row, Limit { rate_ns: 1_000_000, burst_ns: 2_000_000, ..before });
    let deadline = Instant::now() + Duration::from_secs(5);
    while rig.run(&frame).reason != Reason::Opened {
        assert!(Instant::now() < deadline, "the source waits for the old limit");
    }
}

#[test]
fn a_paused_address_drops_new_connections_only() {
    let mut rig = rig();
    let key = VipKey::served(addr_of(NEIGHBOUR.parse().unwrap()), 80, 6);
    let vip = rig.contents.vips[&key];
    rig.set_vip(key, VipVal { flags: vip.flags | VipVal::PAUSED, ..vip });
    assert_eq!(rig.run(&Packet::syn("198.18.7.1", NEIGHBOUR, 80).bytes()).reason, Reason::Paused);
    assert_eq!(rig.run(&Packet::tcp("198.18.7.1", NEIGHBOUR, 80, ACK).bytes()).reason, Reason::Admitted);
    assert_eq!(rig.run(&Packet::syn("198.18.7.1", NEIGHBOUR, 443).bytes()).reason, Reason::Opened);
}
