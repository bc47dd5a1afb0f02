mod room;

use ingress_common::decide::{Listed, refused};
use ingress_common::verdict::Reason;

use super::*;
use crate::model::backend::BackendId;
use crate::model::edge::{Counted, Edge, EdgeLimit, Per, Pool};
use crate::model::listener::{Listener, ListenerProtocol};
use crate::model::stream::StreamRoute;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(name: &str, first: &str, last: &str) -> Pool {
    Pool::new(name, vec![AddressRange { first: ip(first), last: ip(last) }])
}

fn policy(name: &str, pools: &[&str]) -> EdgePolicy {
    let scope = match pools {
        [] => EdgeScope::Cluster,
        names => EdgeScope::Pools(names.iter().map(|name| (*name).to_owned()).collect()),
    };
    EdgePolicy {
        name: name.to_owned(),
        scope,
        allow: vec![],
        deny: vec![],
        exempt: vec![],
        limits: vec![],
        syn_protection: None,
        ban: None,
    }
}

fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn limit(per_second: u64, burst: u64) -> EdgeLimit {
    EdgeLimit { of: Counted::Connections, per: Per::Source, per_second, burst }
}

fn model(pools: Vec<Pool>, policies: Vec<EdgePolicy>) -> Model {
    let listener = |name: &str, port| Listener {
        name: ListenerName(name.to_owned()),
        port,
        protocol: ListenerProtocol::Http,
    };
    Model {
        listeners: vec![listener("http", 80), listener("https", 443)],
        edge: Edge { pools, policies, ..Edge::default() },
        ..Model::default()
    }
}

fn compiled(model: &Model, previous: &MapContents) -> MapContents {
    let compiled = compile(model, &[], previous);
    assert_eq!(compiled.refused, []);
    compiled.contents
}

fn vip(contents: &MapContents, address: &str) -> VipVal {
    contents.vips[&VipKey::served(addr_of(ip(address)), 80, TCP)]
}

/// The answer of the trie: flags of the longest matching prefix.
fn flags(contents: &MapContents, scope: u32, source: &str) -> u32 {
    let found = match ip(source) {
        IpAddr::V4(v4) => contents
            .acl4
            .iter()
            .filter(|((len, key), _)| {
                let net = ipnet::Ipv4Net::new(key.addr.into(), u8::try_from(len - 32).unwrap()).unwrap();
                key.scope == scope.to_be_bytes() && net.contains(&v4)
            })
            .max_by_key(|((len, _), _)| *len)
            .map(|(_, value)| value.word()),
        IpAddr::V6(v6) => contents
            .acl6
            .iter()
            .filter(|((len, key), _)| {
                let net = ipnet::Ipv6Net::new(key.addr.into(), u8::try_from(len - 32).unwrap()).unwrap();
                key.scope == scope.to_be_bytes() && net.contains(&v6)
            })
            .max_by_key(|((len, _), _)| *len)
            .map(|(_, value)| value.word()),
    };
    found.unwrap_or(0)
}

/// What the kernel would decide by the lists.
fn judged(contents: &MapContents, address: &str, source: &str) -> Option<Reason> {
    let vip = vip(contents, address);
    let all = if vip.flags & VipVal::LISTS_ALL != 0 { flags(contents, SCOPE_ALL, source) } else { 0 };
    let scope = if vip.flags & VipVal::LISTS_SCOPE != 0 { flags(contents, vip.scope, source) } else { 0 };
    refused(&vip, Listed { all, scope })
}

#[test]
fn every_address_of_a_block_serves_every_listener() {
    let contents =
        compiled(&model(vec![pool("edge", "198.18.100.1", "198.18.100.3")], vec![]), &MapContents::default());
    assert_eq!(contents.vips.len(), 3 * 3);
    assert_eq!(contents.listen.len(), 3 * 2);
    let key = VipKey::served(addr_of(ip("198.18.100.2")), 443, TCP);
    assert_eq!(contents.listen[&key], ListenerName("https".to_owned()));
    let entry = contents.vips[&VipKey::address(addr_of(ip("198.18.100.2")))];
    assert_eq!(
        entry,
        vip(&contents, "198.18.100.2"),
        "without policies an address and its ports say the same"
    );
    assert_eq!(entry.flags, VipVal::SYNCOOKIE);
    assert_eq!(entry.ports, 1 << (80 % 32) | 1 << (443 % 32));
}

#[test]
fn only_the_served_ports_of_a_node_are_ours() {
    let compiled = compile(&model(vec![], vec![]), &[ip("198.18.0.10")], &MapContents::default());
    let address = compiled.contents.vips[&VipKey::address(addr_of(ip("198.18.0.10")))];
    assert_eq!(address.flags, VipVal::PORTS_ONLY | VipVal::SYNCOOKIE);
    assert_eq!(vip(&compiled.contents, "198.18.0.10").flags, VipVal::SYNCOOKIE);
}

#[test]
fn a_nodes_address_within_a_pool_keeps_its_other_ports() {
    let model = model(vec![pool("edge", "198.18.0.10", "198.18.0.11")], vec![]);
    let contents = compile(&model, &[ip("198.18.0.10")], &MapContents::default()).contents;
    let flags = |text| contents.vips[&VipKey::address(addr_of(ip(text)))].flags;
    assert_eq!(flags("198.18.0.10"), VipVal::PORTS_ONLY | VipVal::SYNCOOKIE);
    assert_eq!(flags("198.18.0.11"), VipVal::SYNCOOKIE);
}

#[test]
fn of_several_policies_the_strongest_word_on_syn_cookies_holds() {
    let says = |name, pools: &[&str], word| EdgePolicy { syn_protection: Some(word), ..policy(name, pools) };
    let answers = |policies| {
        let model = model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], policies);
        vip(&compiled(&model, &MapContents::default()), "198.18.100.1").flags & VipVal::SYNCOOKIE != 0
    };
    let off = || says("off", &[], SynProtection::Off);
    assert!(!answers(vec![off()]));
    assert!(answers(vec![off(), says("on", &["edge"], SynProtection::Auto)]));
    let always = vec![off(), says("on", &["edge"], SynProtection::Always)];
    assert!(answers(always.clone()));
    let model = model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], always);
    let contents = compiled(&model, &MapContents::default());
    assert_ne!(vip(&contents, "198.18.100.1").flags & VipVal::SYNCOOKIE_ALWAYS, 0, "asked for every SYN");
    assert!(!answers(vec![off(), says("other", &["other"], SynProtection::Always)]), "of another address");
    assert!(!answers(vec![off(), policy("silent", &["edge"])]));
}

#[test]
fn a_pause_holds_for_every_entry_and_ends_with_the_next_contents() {
    let model = model(vec![pool("edge", "198.18.100.1", "198.18.100.2")], vec![]);
    let serving = compiled(&model, &MapContents::default());
    let mut paused = serving.clone();
    pause(&mut paused);
    assert!(paused.vips.values().all(|vip| vip.flags & VipVal::PAUSED != 0));
    assert_eq!(compiled(&model, &paused), serving);
}

#[test]
fn addresses_keep_their_ids_when_others_come_and_go() {
    let before =
        compiled(&model(vec![pool("a", "198.18.1.1", "198.18.1.4")], vec![]), &MapContents::default());
    let pools = vec![pool("0", "198.18.0.1", "198.18.0.2"), pool("a", "198.18.1.3", "198.18.1.4")];
    let after = compiled(&model(pools, vec![]), &before);
    for address in ["198.18.1.3", "198.18.1.4"] {
        assert_eq!(vip(&after, address).vip_id, vip(&before, address).vip_id, "{address}");
    }
    let ids: BTreeSet<u32> = after.vips.values().map(|value| value.vip_id).collect();
    assert_eq!(ids.len(), 4, "no two addresses share an id");
    assert!(
        !ids.contains(&vip(&before, "198.18.1.1").vip_id),
        "the id of a leaving address is not given away at once"
    );
}

#[test]
fn deny_lists_unite_and_allow_lists_intersect() {
    let mut cluster = policy("cluster", &[]);
    cluster.deny = nets(&["198.18.7.0/24"]);
    cluster.allow = nets(&["198.18.0.0/16"]);
    let mut edge = policy("edge", &["edge"]);
    edge.deny = nets(&["198.18.1.66/32"]);
    edge.allow = nets(&["198.18.1.0/24", "198.18.7.0/24", "198.19.0.0/16"]);
    let pools =
        vec![pool("edge", "198.18.100.1", "198.18.100.1"), pool("other", "198.18.200.1", "198.18.200.1")];
    let contents = compiled(&model(pools, vec![cluster, edge]), &MapContents::default());
    for (address, source, expected) in [
        ("198.18.100.1", "198.18.1.1", None),
        ("198.18.100.1", "198.18.1.66", Some(Reason::Denied)),
        ("198.18.100.1", "198.18.7.1", Some(Reason::Denied)),
        ("198.18.100.1", "198.18.2.1", Some(Reason::NotAllowed)),
        ("198.18.100.1", "198.19.0.1", Some(Reason::NotAllowed)),
        ("198.18.200.1", "198.18.2.1", None),
        ("198.18.200.1", "198.18.1.66", None),
        ("198.18.200.1", "198.19.0.1", Some(Reason::NotAllowed)),
    ] {
        assert_eq!(judged(&contents, address, source), expected, "{source} to {address}");
    }
}

#[test]
fn two_policies_of_one_pool_intersect_within_its_scope() {
    let mut one = policy("one", &["edge"]);
    one.allow = nets(&["198.18.0.0/16", "2001:db8::/32"]);
    let mut two = policy("two", &["edge", "other"]);
    two.allow = nets(&["198.18.1.0/24", "2001:db8:1::/48"]);
    let pools = vec![
        pool("edge", "198.18.100.1", "198.18.100.2"),
        pool("edge6", "2001:db8:100::1", "2001:db8:100::1"),
        pool("other", "198.18.200.1", "198.18.200.1"),
    ];
    let contents = compiled(&model(pools, vec![one, two]), &MapContents::default());
    assert_eq!(judged(&contents, "198.18.100.1", "198.18.1.1"), None);
    assert_eq!(judged(&contents, "198.18.100.2", "198.18.2.1"), Some(Reason::NotAllowed));
    assert_eq!(judged(&contents, "198.18.200.1", "198.18.2.1"), Some(Reason::NotAllowed));
    assert_eq!(judged(&contents, "2001:db8:100::1", "2001:db8:ffff::1"), None, "a pool without policies");
    assert_eq!(vip(&contents, "198.18.100.1").scope, vip(&contents, "198.18.100.2").scope);
    assert_ne!(vip(&contents, "198.18.100.1").scope, vip(&contents, "198.18.200.1").scope);
}

#[test]
fn a_nested_prefix_inherits_from_all_that_cover_it() {
    let mut one = policy("one", &[]);
    one.deny = nets(&["198.18.0.0/16"]);
    one.exempt = nets(&["0.0.0.0/0"]);
    one.allow = nets(&["198.18.1.0/24", "198.18.1.7/32", "198.18.3.9/24"]);
    let contents = compiled(
        &model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], vec![one]),
        &MapContents::default(),
    );
    let (deny, allow, exempt) = (AclVal::DENY, AclVal::ALLOW, AclVal::EXEMPT);
    // With the prefix that denies, which is not the longest.
    let word = |flags: u32, deny_len| AclVal { flags: flags as u16, deny_len }.word();
    assert_eq!(flags(&contents, SCOPE_ALL, "198.18.1.7"), word(deny | allow | exempt, 16));
    assert_eq!(flags(&contents, SCOPE_ALL, "198.18.2.1"), word(deny | exempt, 16));
    assert_eq!(flags(&contents, SCOPE_ALL, "198.19.0.1"), word(exempt, 0));
    let expected = word(deny | allow | exempt, 16);
    assert_eq!(flags(&contents, SCOPE_ALL, "198.18.3.1"), expected, "host bits are ignored");
}

#[test]
fn an_allow_list_of_one_family_shuts_the_other_out() {
    let mut one = policy("one", &[]);
    one.allow = nets(&["198.18.0.0/16"]);
    let pools = vec![pool("six", "2001:db8::1", "2001:db8::1")];
    let contents = compiled(&model(pools, vec![one]), &MapContents::default());
    assert_eq!(judged(&contents, "2001:db8::1", "2001:db8:1::1"), Some(Reason::NotAllowed));
}

#[test]
fn every_limit_applies_and_addresses_under_one_policy_share_buckets() {
    let mut cluster = policy("cluster", &[]);
    cluster.limits = vec![limit(100, 200)];
    let mut edge = policy("edge", &["edge"]);
    edge.limits = vec![limit(10, 20), limit(10, 20)];
    let pools =
        vec![pool("edge", "198.18.100.1", "198.18.100.2"), pool("other", "198.18.200.1", "198.18.200.1")];
    let contents = compiled(&model(pools, vec![cluster, edge]), &MapContents::default());
    let rows = |address| -> Vec<Limit> {
        let vip = vip(&contents, address);
        assert_ne!(vip.flags & VipVal::LIMIT, 0);
        (vip.first_limit..vip.first_limit + vip.limits).map(|row| contents.limits[&u32::from(row)]).collect()
    };
    let (edge, other) = (rows("198.18.100.1"), rows("198.18.200.1"));
    assert_eq!((edge.len(), other.len()), (3, 1));
    assert_eq!(rows("198.18.100.2"), edge);
    assert_eq!(edge[0], other[0], "the cluster's limit counts in one bucket wherever it applies");
    let buckets: BTreeSet<u32> = edge.iter().map(|limit| limit.bucket).collect();
    assert_eq!(buckets.len(), 3, "each entry has its own bucket, equal ones too");
}

#[test]
fn an_unchanged_limit_keeps_its_row_and_bucket_while_others_change() {
    let with = |limits: Vec<EdgeLimit>| {
        let mut stays = policy("stays", &["edge"]);
        stays.limits = vec![limit(5, 5)];
        let mut changes = policy("changes", &["other"]);
        changes.limits = limits;
        let pools =
            vec![pool("edge", "198.18.100.1", "198.18.100.1"), pool("other", "198.18.90.1", "198.18.90.1")];
        model(pools, vec![changes, stays])
    };
    let before = compiled(&with(vec![limit(1, 1)]), &MapContents::default());
    let after = compiled(&with(vec![limit(1, 1), limit(2, 2)]), &before);
    assert_eq!(vip(&after, "198.18.100.1"), vip(&before, "198.18.100.1"));
    let (old, new) = (vip(&before, "198.18.90.1"), vip(&after, "198.18.90.1"));
    assert!(new.first_limit > old.first_limit, "a changed range does not overwrite the one in use");
    assert_eq!(
        after.limits[&u32::from(new.first_limit)].bucket,
        before.limits[&u32::from(old.first_limit)].bucket
    );
    let again = compiled(&with(vec![limit(1, 1), limit(2, 2)]), &after);
    assert_eq!(again, after, "the same model compiles to the same contents");
}

#[test]
fn a_changed_rate_keeps_the_bucket_and_kinds_have_buckets_of_their_own() {
    let with = |limits: Vec<EdgeLimit>| {
        let mut edge = policy("edge", &["edge"]);
        edge.limits = limits;
        model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], vec![edge])
    };
    let packets = EdgeLimit { of: Counted::Packets, ..limit(5, 5) };
    let per_address = EdgeLimit { per: Per::Address, ..packets };
    let before = compiled(&with(vec![limit(5, 5), packets, per_address]), &MapContents::default());
    let after = compiled(&with(vec![per_address, limit(50, 9), packets]), &before);
    let buckets = |contents: &MapContents| -> BTreeMap<(u32, u32), u32> {
        let rows = contents.limits.values();
        rows.map(|limit| ((limit.kind, limit.per), limit.bucket)).collect()
    };
    assert_eq!(buckets(&before), buckets(&after));
    assert_eq!(buckets(&before).into_values().collect::<BTreeSet<_>>().len(), 3);
    assert_ne!(vip(&before, "198.18.100.1").flags & VipVal::LIMIT_PACKETS, 0);
    let only_connections = compiled(&with(vec![limit(5, 5)]), &after);
    assert_eq!(vip(&only_connections, "198.18.100.1").flags & VipVal::LIMIT_PACKETS, 0);
}

#[test]
fn a_block_that_is_too_large_is_served_as_far_as_it_fits_and_named() {
    let model = model(vec![pool("huge", "2001:db8::", "2001:db8::ffff:ffff")], vec![]);
    let compiled = compile(&model, &[], &MapContents::default());
    assert_eq!(compiled.contents.vips.len(), (VIP_IDS as usize - 1) * 3);
    assert!(
        compiled.refused[0].sentence.contains("AddressPool huge: addresses from 2001:db8::3ff on"),
        "{:?}",
        compiled.refused
    );
}

#[test]
fn a_large_deny_list_compiles_in_reasonable_time() {
    let mut one = policy("one", &[]);
    one.deny = (0..50_000_u32)
        .map(|n| ipnet::IpNet::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n * 256)), 24).unwrap())
        .collect();
    let started = std::time::Instant::now();
    let contents = compiled(
        &model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], vec![one]),
        &MapContents::default(),
    );
    assert_eq!(contents.acl4.len(), 50_000);
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn services_of_tcp_and_udp_are_let_in_and_handed_over() {
    let route = StreamRoute {
        backend: BackendId { namespace: "n".into(), service: "dns".into(), port: "53".into() },
        accepts_proxy_protocol: false,
        sends_proxy_protocol: false,
    };
    let mut model = model(vec![pool("edge", "198.18.100.1", "198.18.100.1")], Vec::new());
    for (name, protocol) in
        [("tcp-53", ListenerProtocol::Tcp(route.clone())), ("udp-53", ListenerProtocol::Udp(route))]
    {
        model.listeners.push(Listener { name: ListenerName(name.into()), port: 53, protocol });
    }
    let contents = compiled(&model, &MapContents::default());
    let key = |protocol| VipKey::served(addr_of(ip("198.18.100.1")), 53, protocol);
    assert!(contents.vips.contains_key(&key(TCP)) && contents.vips.contains_key(&key(UDP)));
    assert_eq!(contents.listen.get(&key(TCP)).map(|name| name.0.as_str()), Some("tcp-53"));
    assert_eq!(contents.listen.get(&key(UDP)).map(|name| name.0.as_str()), Some("udp-53"));
}
