//! The choices; what the kernel does with them is shown by the datapath tier.

use ingress_common::flow::{TCP, addr_of};

use super::place::{find_run, free_run};
use super::*;
use ingress_common::maps::SlotVal;

fn shadow(taken: &[(u32, u64)]) -> BTreeMap<u32, SlotVal> {
    taken.iter().map(|(slot, cookie)| (*slot, SlotVal { cookie: *cookie, pid: 1, handover: 1 })).collect()
}

fn run(first: u32) -> Run {
    Run { first, slots: 2, port: 4000, is_udp: false }
}

fn with_proxy(slots: &mut Slots, number: u64, first: u32) -> ProxyId {
    let id = ProxyId::for_test(number);
    let runs = Runs::from([(("http".to_owned(), Family::V4), run(first))]);
    slots.proxies.insert(id, Proxy { runs, is_ready: false, is_draining: false });
    id
}

fn first_slot(slots: &Slots) -> Option<u32> {
    slots.serving().values().next().map(|run| run.first)
}

#[test]
fn a_run_of_free_slots_is_found_between_others_and_not_past_the_end() {
    let taken = shadow(&[(2, 7), (3, 8), (6, 9)]);
    assert_eq!(free_run(&taken, 2, 0), Some(0));
    assert_eq!(free_run(&taken, 2, 1), Some(4));
    assert_eq!(free_run(&taken, 3, 0), Some(7));
    assert_eq!(free_run(&taken, SLOTS - 7, 0), Some(7));
    assert_eq!(free_run(&taken, SLOTS - 6, 0), None);
}

#[test]
fn sockets_that_are_in_place_are_recognised_by_their_cookies() {
    let taken = shadow(&[(2, 7), (3, 8), (6, 9)]);
    assert_eq!(find_run(&taken, &[7, 8]), Some(2));
    assert_eq!(find_run(&taken, &[7, 9]), None, "not side by side");
    assert_eq!(find_run(&taken, &[8, 7]), None, "another order");
    assert_eq!(find_run(&taken, &[5]), None);
}

#[test]
fn the_newest_ready_proxy_serves_and_a_draining_one_only_when_it_is_alone() {
    let mut slots = Slots::default();
    let old = with_proxy(&mut slots, 1, 0);
    assert_eq!(first_slot(&slots), None, "sockets alone are not enough, the proxy must have a configuration");
    slots.mark_ready(old);
    assert_eq!(first_slot(&slots), Some(0));
    let new = with_proxy(&mut slots, 2, 10);
    assert_eq!(first_slot(&slots), Some(0));
    slots.mark_ready(new);
    assert_eq!(first_slot(&slots), Some(10));
    slots.mark_draining(new);
    assert_eq!(first_slot(&slots), Some(0), "an upgrade that is taken back");
    slots.mark_draining(old);
    assert_eq!(first_slot(&slots), Some(10));
    slots.forget(new);
    assert_eq!(first_slot(&slots), Some(0));
}

#[test]
fn sockets_of_a_lost_proxy_serve_until_they_are_closed() {
    let mut slots = Slots::default();
    let only = with_proxy(&mut slots, 1, 0);
    slots.mark_ready(only);
    slots.forget(only);
    assert!(!slots.has_serving_proxy());
    assert_eq!(first_slot(&slots), Some(0));
    assert_eq!(
        slots.group_ports(),
        BTreeMap::from([("http".to_owned(), 4000)]),
        "the next proxy joins the group"
    );
    slots.drop_dead(|_, run| run.port == 4000);
    assert_eq!(first_slot(&slots), Some(0));
    slots.drop_dead(|_, _| false);
    assert_eq!(first_slot(&slots), None);
}

#[test]
fn every_address_points_at_the_sockets_of_its_family() {
    let runs = Runs::from([
        (("http".to_owned(), Family::V4), run(0)),
        (("http".to_owned(), Family::V6), run(2)),
        (("https".to_owned(), Family::V4), run(4)),
    ]);
    let key = |ip: &str, port| VipKey::served(addr_of(ip.parse().unwrap()), port, TCP);
    let name = |name: &str| ListenerName(name.to_owned());
    let wanted = BTreeMap::from([
        (key("198.18.0.1", 80), name("http")),
        (key("198.18.0.1", 443), name("https")),
        (key("2001:db8::1", 80), name("http")),
        (key("2001:db8::1", 443), name("https")),
    ]);
    let entries: Vec<_> = listen_entries(&[&runs], &wanted)
        .into_iter()
        .map(|(key, value)| (ip_of(&key.addr).to_string(), key.port, value.first_slot))
        .collect();
    assert_eq!(entries.len(), 3);
    for expected in [("198.18.0.1", 80, 0), ("198.18.0.1", 443, 4), ("2001:db8::1", 80, 2)] {
        assert!(
            entries.contains(&(expected.0.to_owned(), expected.1, expected.2)),
            "{expected:?} of {entries:?}"
        );
    }
}

#[test]
fn the_proxy_beside_the_one_that_serves_is_the_spare() {
    let wanted = BTreeMap::from([(
        VipKey::served(addr_of("198.18.0.1".parse().unwrap()), 80, TCP),
        ListenerName("http".to_owned()),
    )]);
    let entry = |slots: &Slots| {
        let ranked = slots.with_spare();
        let value = listen_entries(&ranked, &wanted).into_values().next();
        value.map(|value| ((value.first_slot, value.slots), (value.spare_slot, value.spare_slots)))
    };
    let mut slots = Slots::default();
    assert_eq!(entry(&slots), None);
    let old = with_proxy(&mut slots, 1, 0);
    slots.mark_ready(old);
    assert_eq!(entry(&slots), Some(((0, 2), (0, 0))));
    let new = with_proxy(&mut slots, 2, 10);
    slots.mark_ready(new);
    assert_eq!(entry(&slots), Some(((10, 2), (0, 2))));
    slots.mark_closed(old);
    assert_eq!(entry(&slots), Some(((10, 2), (0, 0))), "it takes no connections any more");
    slots.forget(new);
    assert_eq!(entry(&slots), Some(((10, 2), (0, 0))), "its sockets may be open");
    let third = with_proxy(&mut slots, 3, 20);
    slots.mark_ready(third);
    slots.drop_dead(|_, _| true);
    assert_eq!(entry(&slots), Some(((20, 2), (10, 2))));
    slots.mark_closed(third);
    assert_eq!(first_slot(&slots), None, "whether anybody is left is not known: clients shall wait");
}

#[test]
fn what_waits_goes_to_the_proxy_that_serves_whichever_socket_of_the_group_closes() {
    let mut slots = Slots::default();
    let old = with_proxy(&mut slots, 1, 0);
    slots.mark_ready(old);
    let new = with_proxy(&mut slots, 2, 10);
    let heirs = |slots: &Slots| {
        let ranked = slots.with_spare();
        group_entries(&ranked)
    };
    let key = GroupKey { port: 4000, family: 4 };
    assert_eq!(heirs(&slots), BTreeMap::from([(key, GroupVal { first_slot: 0, slots: 2 })]));
    slots.mark_ready(new);
    assert_eq!(heirs(&slots), BTreeMap::from([(key, GroupVal { first_slot: 10, slots: 2 })]));
}
