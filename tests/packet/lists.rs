//! Lists while they change, in the maps that the product fills.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ingress_tests::bpffs::Bpffs;
use ingress_tests::kernel::{Rig, model, nets, policy, pool};
use ingress_tests::packet::{ACK, Packet};
use ingress_userspace::bpf::load::load;
use ingress_userspace::bpf::pins::Pins;
use ingress_userspace::bpf::sync::apply;
use ingress_userspace::compile::maps::{MapContents, compile};

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
    assert_eq!(compiled.refused, Vec::<String>::new());
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
