//! What does not fit, and what the node has itself.

use ingress_common::maps::{LIMITS_PER_VIP, LISTED};

use super::*;

#[test]
fn lists_are_whole_or_as_they_were() {
    let of = |count: u32| {
        let mut feed = policy("feed", &["edge"]);
        feed.deny = (0..count).map(|n| ipnet::IpNet::V4(Ipv4Addr::from(n + 1).into())).collect();
        let mut own = policy("own", &[]);
        own.deny = nets(&["203.0.113.1/32"]);
        model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], vec![feed, own])
    };
    let (small, large) = (of(2), of(LISTED));
    let first = compile(&small, &[], &MapContents::default());
    assert!(first.has_all_lists && first.refused.is_empty());
    let node = NodeAddresses { served: &[], all: &BTreeSet::new() };
    let second = compile_on(&large, node, &first.contents, &small.edge.policies);
    assert_eq!(second.contents, first.contents, "nothing of the long list, all of what was");
    assert!(!second.has_all_lists);
    assert_eq!(second.refused[0].policy.as_deref(), Some("feed"));
    // A start that finds it so takes the other policy alone.
    let alone = compile(&large, &[], &MapContents::default());
    assert_eq!(judged(&alone.contents, "198.18.100.1", "203.0.113.1"), Some(Reason::Denied));
    assert_eq!(judged(&alone.contents, "198.18.100.1", "0.0.0.1"), None, "which holds at accept");
}

#[test]
fn an_address_for_whose_limits_there_is_no_room_keeps_those_that_it_has() {
    // Each address under policies of its own: 128 with 8 limits each take all rows.
    let of = |per_second: u64, addresses: u8| {
        let pools = (0..addresses)
            .map(|n| pool(&format!("p{n:03}"), &format!("198.18.100.{n}"), &format!("198.18.100.{n}")));
        let policies = (0..addresses).map(|n| {
            let mut own = policy(&format!("l{n:03}"), &[&format!("p{n:03}")]);
            own.limits = (0..8).map(|more| limit(per_second + more, 10)).collect();
            own
        });
        model(pools.collect(), policies.collect())
    };
    let first = compiled(&of(100, 128), &MapContents::default());
    assert_eq!(first.limits.len(), 1024);
    // One that comes finds no row, and is told of; the others are as they were.
    let more = compile(&of(100, 129), &[], &first);
    assert_eq!(more.contents.limits, first.limits);
    assert_eq!(vip(&more.contents, "198.18.100.128").limits, 0);
    let told = &more.refused[0];
    assert_eq!((more.refused.len(), told.policy.as_deref()), (1, Some("l128")));
    assert!(
        told.sentence.contains("EdgePolicy l128: its spec.limits") && told.sentence.contains("1024 rows")
    );
    // Changed ones find none beside the old ones, which stay until then.
    let changed = compile(&of(200, 128), &[], &first);
    assert_eq!((&changed.contents.limits, changed.refused.len()), (&first.limits, 128));
    assert_eq!(vip(&changed.contents, "198.18.100.7"), vip(&first, "198.18.100.7"));
    // Where they have room, they take it.
    let fewer = compiled(&of(100, 64), &first);
    let changed = compiled(&of(200, 64), &fewer);
    assert_eq!(changed.limits.len(), 512);
    assert_ne!(vip(&changed, "198.18.100.7").first_limit, vip(&fewer, "198.18.100.7").first_limit);
}

#[test]
fn limits_beyond_the_eighth_on_an_address_are_told_of_by_policy() {
    let mut one = policy("one", &[]);
    one.limits = (1..7).map(|n| limit(n, 1)).collect();
    let mut two = policy("two", &["edge"]);
    two.limits = (1..6).map(|n| limit(n, 1)).collect();
    let model = model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], vec![one, two]);
    let compiled = compile(&model, &[], &MapContents::default());
    assert_eq!(vip(&compiled.contents, "198.18.100.1").limits, LIMITS_PER_VIP);
    let [told] = compiled.refused.as_slice() else { panic!("{:?}", compiled.refused) };
    assert_eq!(told.policy.as_deref(), Some("two"));
    assert!(told.sentence.contains("the last 3 of its spec.limits"), "{}", told.sentence);
}

#[test]
fn addresses_that_are_served_go_before_new_ones() {
    let block =
        |name: &str, net: u8| pool(name, &format!("198.18.{net}.0"), &format!("198.18.{}.255", net + 1));
    let first =
        compiled(&model(vec![block("b", 2), block("c", 4)][..1].to_vec(), vec![]), &MapContents::default());
    // 512 and 512 addresses, of which 1023 have a number: the last of the new ones has none.
    let both = compile(&model(vec![block("a", 0), block("b", 2)], vec![]), &[], &first);
    assert_eq!(both.refused.len(), 1, "{:?}", both.refused);
    for (key, value) in &first.vips {
        assert_eq!(both.contents.vips.get(key), Some(value));
    }
    // In the place of the others there is room once they went.
    let instead = model(vec![block("a", 0), block("c", 4)], vec![]);
    let once = compile(&instead, &[], &both.contents);
    let twice = compile(&instead, &[], &once.contents);
    assert_eq!((once.refused.len(), twice.refused.len()), (3, 1), "{:?}", twice.refused);
    assert!(twice.contents.vips.len() > once.contents.vips.len());
    assert!(once.refused[0].sentence.contains("AddressPool"), "{:?}", once.refused);
}

#[test]
fn an_address_of_the_node_is_no_vip_of_a_pool() {
    let own = BTreeSet::from([ip("198.18.100.1"), ip("2001:db8::1")]);
    let mut all = vec![pool("edge", "198.18.100.1", "198.18.100.2")];
    all.push(pool("six", "2001:db8::1", "2001:db8::1"));
    let model = model(all, vec![]);
    let of = |served: &[IpAddr]| {
        compile_on(&model, NodeAddresses { served, all: &own }, &MapContents::default(), &[])
    };
    let unserved = of(&[]);
    let addresses: BTreeSet<IpAddr> =
        unserved.contents.vips.keys().map(|key| ingress_common::flow::ip_of(&key.addr)).collect();
    assert_eq!(addresses, BTreeSet::from([ip("198.18.100.2")]));
    assert_eq!(unserved.refused.len(), 2);
    let sentence = &unserved.refused[0].sentence;
    assert!(sentence.starts_with("AddressPool edge: 198.18.100.1 is an address of this node"), "{sentence}");
    let served = of(&[ip("198.18.100.1")]);
    let value = served.contents.vips[&VipKey::address(addr_of(ip("198.18.100.1")))];
    assert_ne!(value.flags & VipVal::PORTS_ONLY, 0);
    assert_eq!(served.refused, unserved.refused, "told in any case");
}
