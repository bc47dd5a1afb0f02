//! Connection limits: which packets are charged, to whom, and where the edges are.
//!
//! The limits here cost an hour per connection, so that no bucket refills while a test runs.

use ingress_common::flow::addr_of;
use ingress_common::maps::{Limit, VipKey, VipVal};
use ingress_common::source::{SrcKey, limited_source};
use ingress_common::verdict::Reason;
use ingress_tests::kernel::{Rig, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet};
use ingress_userspace::model::edge::EdgeLimit;

const LIMITED: &str = "198.18.100.1";
const LIMITED6: &str = "2001:db8:100::1";
const NEIGHBOUR: &str = "198.18.100.2";
const OTHER: &str = "198.18.200.1";
const HOUR_NS: u64 = 3_600_000_000_000;
const BURST: usize = 3;

/// `LIMITED`, `LIMITED6` and `NEIGHBOUR` share a policy of one limit; `OTHER` has one of its own.
fn rig() -> Rig {
    let limit = EdgeLimit { connections_per_second: 1, burst: 3 };
    let mut edge = policy("edge", Some("edge"));
    edge.limits = vec![limit];
    edge.exempt = nets(&["198.18.9.0/24", "2001:db8:9::/48"]);
    let mut other = policy("other", Some("other"));
    other.limits = vec![EdgeLimit { connections_per_second: 1, burst: 5 }, limit];
    let pools = vec![pool("edge", &[LIMITED, LIMITED6, NEIGHBOUR]), pool("other", &[OTHER])];
    Rig::new(&model(pools, vec![edge, other]), &[], |contents| {
        for limit in contents.limits.values_mut() {
            let connections = limit.burst_ns / limit.rate_ns;
            *limit = Limit { rate_ns: HOUR_NS, burst_ns: connections * HOUR_NS, ..*limit };
        }
    })
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
fn the_bucket_holds_the_theoretical_arrival_time() {
    let mut rig = rig();
    let source = addr_of("198.18.7.1".parse().unwrap());
    let vip = rig.contents.vips[&VipKey::address(addr_of(LIMITED.parse().unwrap()))];
    let limit = rig.contents.limits[&u32::from(vip.first_limit)];
    let key = SrcKey { addr: limited_source(&source), bucket: limit.bucket };
    let frame = Packet::syn("198.18.7.1", LIMITED, 80).bytes();

    assert_eq!(rig.bucket(key), None);
    assert_eq!(rig.run(&frame).reason, Reason::Opened);
    let first = rig.bucket(key).expect("the source has a bucket");
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
