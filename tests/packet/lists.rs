//! Lists while they change, in the maps that the product fills; and what their entries caught.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ingress_common::flow::addr_of;
use ingress_common::maps::{AclVal, LISTED, VIPS, VipKey, VipVal};
use ingress_common::source::Acl4Key;
use ingress_common::verdict::Reason;
use ingress_tests::bpffs::Bpffs;
use ingress_tests::kernel::{Rig, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet};
use ingress_userspace::bpf::load::load;
use ingress_userspace::bpf::pins::Pins;
use ingress_userspace::bpf::sync::{apply, read_hash};
use ingress_userspace::compile::maps::{MapContents, compile};
use ingress_userspace::model::edge::EdgePolicy;

const VIP: &str = "198.18.100.1";
const VIP6: &str = "2001:db8:100::1";

/// A policy that denies these, and so many others.
fn denying(texts: &[&str], others: u32, previous: &MapContents) -> MapContents {
    let mut listed = policy("listed", Some("edge"));
    listed.deny = nets(texts);
    listed.deny.extend((0..others).map(|n| {
        let network = Ipv4Addr::from(0x2000_0000 + n * 256);
        ipnet::IpNet::new(IpAddr::V4(network), 24).unwrap()
    }));
    let compiled = compile(&model(vec![pool("edge", &[VIP, VIP6])], vec![listed]), &[], previous);
    assert_eq!(compiled.refused, []);
    compiled.contents
}

fn segment(source: &str, to: &str) -> Vec<u8> {
    Packet::tcp(source, to, 80, ACK).bytes()
}

#[test]
fn a_source_that_the_old_and_the_new_lists_deny_is_denied_at_every_moment_between() {
    let bpffs = Bpffs::new("lists");
    let pins = Pins::new(&bpffs.path);
    pins.create().unwrap();
    let mut maps = load(&pins, None).unwrap().maps;
    let rig = Rig::pinned(&pins);

    // The same sources by other prefixes: longer, shorter, of another bit.
    let one = denying(
        &["10.1.2.0/24", "10.2.0.0/16", "10.3.3.3/32", "2001:db8:1::/48", "2001:db8:2::/32"],
        2_000,
        &MapContents::default(),
    );
    let other = denying(
        &["10.1.2.3/32", "10.2.2.0/24", "10.3.0.0/20", "2001:db8:1::1/128", "2001:db8:2::2/128"],
        10,
        &one,
    );
    let denied = [
        segment("10.1.2.3", VIP),
        segment("10.2.2.2", VIP),
        segment("10.3.3.3", VIP),
        segment("2001:db8:1::1", VIP6),
        segment("2001:db8:2::2", VIP6),
    ];
    let never = [segment("10.9.9.9", VIP), segment("2001:dead::1", VIP6)];
    assert!(apply(&mut maps, &one).unwrap().refused.is_empty());

    let (ended, leaks, wrongly, looked) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let rig = std::thread::scope(|scope| {
        let (ended, leaks, wrongly, looked, denied, never) =
            (&ended, &leaks, &wrongly, &looked, &denied, &never);
        let hammering = scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for frame in denied {
                    leaks.fetch_add(usize::from(rig.passes(frame)), Ordering::Relaxed);
                }
                for frame in never {
                    wrongly.fetch_add(usize::from(!rig.passes(frame)), Ordering::Relaxed);
                }
                looked.fetch_add(1, Ordering::Relaxed);
            }
            rig
        });
        for _ in 0..20 {
            for contents in [&other, &one] {
                let before = looked.load(Ordering::Relaxed);
                assert!(apply(&mut maps, contents).unwrap().refused.is_empty());
                // At least once beside each state at rest.
                while looked.load(Ordering::Relaxed) < before + 2 {
                    std::thread::yield_now();
                }
            }
        }
        ended.store(true, Ordering::Relaxed);
        hammering.join().unwrap()
    });
    assert_eq!((leaks.into_inner(), wrongly.into_inner()), (0, 0));

    // Nothing is left of a list that went.
    assert!(apply(&mut maps, &denying(&[], 0, &one)).unwrap().refused.is_empty());
    assert!(denied.iter().all(|frame| rig.passes(frame)));
    let removed = load(&pins, None).unwrap().maps;
    assert_eq!(removed.acl4.keys().count() + removed.acl6.keys().count(), 0);
}

/// Packets of these sources to a VIP, at both hooks, and what the entries caught after them.
fn caught(policies: &[EdgePolicy], packets: &[(&str, &str)]) -> Vec<(u32, String, u64)> {
    let pools = || vec![pool("edge", &[VIP, VIP6]), pool("other", &["198.18.200.1"])];
    let [by_xdp, by_tc] = [false, true].map(|at_tc| {
        let rig = Rig::new(&model(pools(), policies.to_vec()), &[], |_| {});
        let mut rig = if at_tc { rig.at_tc() } else { rig };
        let mut bytes = 0;
        for (source, to) in packets {
            let frame = segment(source, to);
            let seen = rig.run(&frame);
            if seen.reason == Reason::Denied {
                bytes += frame.len() as u64;
            }
        }
        let hits = rig.hits();
        assert_eq!(
            hits.values().map(|(_, bytes)| bytes).sum::<u64>(),
            bytes,
            "every byte of a denied packet"
        );
        hits.into_iter().map(|((scope, prefix), (packets, _))| (scope, prefix, packets)).collect::<Vec<_>>()
    });
    assert_eq!(by_xdp, by_tc);
    by_xdp
}

fn denies(name: &str, pool: Option<&str>, deny: &[&str]) -> EdgePolicy {
    EdgePolicy { deny: nets(deny), ..policy(name, pool) }
}

#[test]
fn a_denied_packet_is_counted_under_the_entry_that_denies_it() {
    let all = |hits: &[(&str, u64)]| -> Vec<(u32, String, u64)> {
        hits.iter().map(|(prefix, packets)| (0, (*prefix).to_owned(), *packets)).collect()
    };
    let listed =
        ["203.0.112.0/20", "203.0.113.0/24", "203.0.113.7/32", "2001:db8:66::/48", "2001:db8:66::7/128"];
    let everywhere = denies("everywhere", None, &listed);
    for (what, source, to, expected) in [
        ("the only one", "203.0.112.1", VIP, "203.0.112.0/20"),
        ("the longer of two", "203.0.113.1", VIP, "203.0.113.0/24"),
        ("a single address", "203.0.113.7", VIP, "203.0.113.7/32"),
        ("IPv6", "2001:db8:66:1::1", VIP6, "2001:db8:66::/48"),
        ("a single IPv6 address", "2001:db8:66::7", VIP6, "2001:db8:66::7/128"),
    ] {
        let hits = caught(std::slice::from_ref(&everywhere), &[(source, to), (source, to)]);
        assert_eq!(hits, all(&[(expected, 2)]), "{what}");
    }
    let hits = caught(std::slice::from_ref(&everywhere), &[("203.0.128.1", VIP), ("2001:db8:67::1", VIP6)]);
    assert_eq!(hits, [], "nobody else leaves a trace");
    for (v4, v6) in
        [("0.0.0.0/0", "::/0"), ("128.0.0.0/1", "2000::/3"), ("203.0.113.4/30", "2001:db8:60::/44")]
    {
        let everybody = denies("everybody", None, &[v4, v6]);
        let hits = caught(&[everybody], &[("203.0.113.7", VIP), ("2001:db8:66::7", VIP6)]);
        let expected: BTreeSet<_> = all(&[(v4, 1), (v6, 1)]).into_iter().collect();
        assert_eq!(hits.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn an_entry_that_only_inherits_a_refusal_counts_nothing() {
    let mut one = denies("one", None, &["203.0.113.0/24"]);
    one.exempt = nets(&["203.0.113.7/32"]);
    one.allow = nets(&["203.0.113.0/28"]);
    let hits = caught(&[one], &[("203.0.113.7", VIP), ("203.0.113.1", VIP), ("203.0.113.200", VIP)]);
    assert_eq!(hits, [(0, "203.0.113.0/24".to_owned(), 3)]);
    let mut allowing = policy("allowing", None);
    allowing.allow = nets(&["198.18.1.0/24"]);
    assert_eq!(caught(&[allowing], &[("203.0.113.7", VIP)]), [], "who is on no allow list met no entry");
}

#[test]
fn entries_of_several_scopes_are_counted_apart() {
    let both = ["203.0.113.0/24"];
    let everywhere = denies("everywhere", None, &["203.0.0.0/16"]);
    let edge = denies("edge", Some("edge"), &both);
    let other = denies("other", Some("other"), &both);
    // For all addresses first, though the other is longer.
    let hits = caught(&[everywhere, edge.clone()], &[("203.0.113.7", VIP)]);
    assert_eq!(hits, [(0, "203.0.0.0/16".to_owned(), 1)]);
    let hits = caught(
        &[edge, other],
        &[("203.0.113.7", VIP), ("203.0.113.8", "198.18.200.1"), ("203.0.113.9", VIP)],
    );
    let counts: Vec<_> = hits.iter().map(|(_, prefix, packets)| (prefix.as_str(), *packets)).collect();
    assert_eq!(counts.iter().map(|(_, packets)| packets).sum::<u64>(), 3);
    assert_eq!(counts.iter().map(|(prefix, _)| *prefix).collect::<Vec<_>>(), ["203.0.113.0/24"; 2]);
    assert!(hits.iter().all(|(scope, _, _)| *scope != 0) && hits[0].0 != hits[1].0, "{hits:?}");
}

#[test]
fn what_entries_caught_goes_with_them() {
    let bpffs = Bpffs::new("hits");
    let pins = Pins::new(&bpffs.path);
    pins.create().unwrap();
    let mut maps = load(&pins, None).unwrap().maps;
    let rig = Rig::pinned(&pins);
    let prefixes = |rig: &Rig| rig.hits().into_keys().map(|(_, prefix)| prefix).collect::<Vec<_>>();
    let before = denying(&["10.1.2.0/24", "10.3.0.0/20", "2001:db8:1::/48"], 0, &MapContents::default());
    apply(&mut maps, &before).unwrap();
    for frame in [segment("10.1.2.3", VIP), segment("10.3.3.3", VIP), segment("2001:db8:1::1", VIP6)] {
        assert!(!rig.passes(&frame));
    }
    assert_eq!(prefixes(&rig), ["10.1.2.0/24", "10.3.0.0/20", "2001:db8:1::/48"]);
    // A prefix stays, another gets longer, the third goes.
    let after = denying(&["10.1.2.0/24", "10.3.3.0/24"], 0, &before);
    assert!(apply(&mut maps, &after).unwrap().refused.is_empty());
    assert_eq!(prefixes(&rig), ["10.1.2.0/24"]);
    assert!(!rig.passes(&segment("10.3.3.3", VIP)));
    assert_eq!(prefixes(&rig), ["10.1.2.0/24", "10.3.3.0/24"]);
}

#[test]
fn a_source_is_found_whatever_the_length_of_its_prefix() {
    for len in [0, 1, 7, 8, 15, 16, 22, 23, 24, 25, 31, 32] {
        let mut one = policy("one", Some("edge"));
        let network = ipnet::Ipv4Net::new(Ipv4Addr::new(203, 0, 113, 201), len).unwrap().trunc();
        one.deny = vec![network.into()];
        let rig = Rig::new(&model(vec![pool("edge", &[VIP])], vec![one]), &[], |_| {});
        for source in [network.network(), network.broadcast()] {
            assert!(!rig.passes(&segment(&source.to_string(), VIP)), "{source} of {network}");
        }
        if let Some(outside) = u32::from(network.broadcast()).checked_add(1).map(Ipv4Addr::from) {
            assert!(rig.passes(&segment(&outside.to_string(), VIP)), "{outside} is not of {network}");
        }
    }
    for len in [0, 12, 31, 32, 33, 47, 48, 49, 64, 127, 128] {
        let mut one = policy("one", Some("edge"));
        let network = ipnet::Ipv6Net::new("2001:db8:7:9::5".parse().unwrap(), len).unwrap().trunc();
        one.deny = vec![network.into()];
        let rig = Rig::new(&model(vec![pool("edge", &[VIP6])], vec![one]), &[], |_| {});
        for source in [network.network(), network.broadcast()] {
            assert!(!rig.passes(&segment(&source.to_string(), VIP6)), "{source} of {network}");
        }
        if let Some(outside) = u128::from(network.broadcast()).checked_add(1) {
            let outside = std::net::Ipv6Addr::from(outside);
            assert!(rig.passes(&segment(&outside.to_string(), VIP6)), "{outside} is not of {network}");
        }
    }
}

#[test]
fn full_maps_take_others_of_the_same_length_in_the_place_of_what_they_hold() {
    let bpffs = Bpffs::new("full-lists");
    let pins = Pins::new(&bpffs.path);
    pins.create().unwrap();
    let mut maps = load(&pins, None).unwrap().maps;
    let full = |from: u32| {
        let deny = AclVal { flags: AclVal::DENY as u16, deny_len: 32 };
        let entry = |n| ((64, Acl4Key { scope: [0; 4], addr: u32::to_be_bytes(n) }), deny);
        let vip = |n: u32| {
            let address = addr_of(IpAddr::V4(Ipv4Addr::from(from + n)));
            (VipKey::address(address), VipVal { vip_id: 1, ..VipVal::default() })
        };
        MapContents {
            acl4: (from..from + LISTED).map(entry).collect(),
            vips: (0..VIPS).map(vip).collect(),
            ..MapContents::default()
        }
    };
    for from in [1 << 24, 2 << 24] {
        let contents = full(from);
        let synced = apply(&mut maps, &contents).unwrap();
        assert_eq!(synced.sentences().collect::<Vec<_>>(), Vec::<String>::new());
        assert_eq!(synced.put, contents.acl4.len() + contents.vips.len());
        let held = read_hash(&maps.vips, "vips").unwrap();
        assert_eq!(held, contents.vips);
    }
}
