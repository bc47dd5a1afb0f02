//! Addresses, lists and limits as a client meets them.

use std::time::Duration;

use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, CLIENT6, NODE, NODE6, Node, OTHER, VIP, VIP6, policy};

/// Long enough for an answer, short enough for a test of silence.
const SILENCE: Duration = Duration::from_millis(1500);

fn served(extra: &str) -> (Node, ingress_tests::node::Process) {
    let node = Node::new().unwrap();
    if !extra.is_empty() {
        node.write("policy.yaml", &policy(extra)).unwrap();
    }
    let process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    (node, process)
}

#[test]
fn addresses_that_no_interface_has_answer_and_so_do_the_nodes_own() {
    let (node, _process) = served("");
    for (source, address) in [(CLIENT, VIP), (CLIENT6, VIP6), (CLIENT, NODE), (CLIENT6, NODE6)] {
        let outcome = node.get(source, address, 80).unwrap();
        assert_eq!(outcome, Outcome::Answered(200, "origin".to_owned()), "{address}");
    }
    assert_eq!(
        node.get(CLIENT, NODE, 81).unwrap(),
        Outcome::Refused,
        "other ports of the node are the node's"
    );
    let status = node.status().unwrap();
    assert_eq!(status["mode"], "xdp-native");
    assert_eq!(status["interfaces"][0]["name"], "eth0");
    // No address of the pool was bound by anyone.
    let addresses = node.node.run("ip addr show").unwrap();
    assert!(!addresses.contains(VIP) && !addresses.contains(VIP6), "{addresses}");
}

#[test]
fn a_denied_source_hears_nothing_and_is_counted() {
    let (node, _process) = served(&format!("deny: [{OTHER}/32, \"{CLIENT6}/128\"]"));
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    assert!(node.packets(VIP, "denied").unwrap() > 0);
    assert_eq!(node.get_within(CLIENT6, VIP6, 80, SILENCE).unwrap(), Outcome::TimedOut);
    assert!(node.packets(VIP6, "denied").unwrap() > 0);
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    assert!(node.get(OTHER, NODE, 80).unwrap().is_ok(), "the policy is for the pool alone");

    let metrics = node.admin("run", "/metrics").unwrap();
    assert!(
        metrics.contains("portcullis_packets_total{address=\"198.18.100.10\",reason=\"denied\"}"),
        "{metrics}"
    );
    assert!(
        metrics.contains("portcullis_dataplane_mode{interface=\"eth0\",mode=\"xdp-native\"} 1"),
        "{metrics}"
    );

    // The list follows the folder.
    node.write("policy.yaml", &policy("deny: []")).unwrap();
    node.wait_for("the source to be admitted again", || Ok(node.get(OTHER, VIP, 80)?.is_ok())).unwrap();
}

#[test]
fn an_allow_list_keeps_everyone_else_out() {
    let (node, _process) = served(&format!("allow: [{CLIENT}/32]"));
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    assert!(node.packets(VIP, "not-allowed").unwrap() > 0);
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn a_connection_limit_bites_except_for_exempt_sources() {
    let limit = "limits: [{per: Source, connectionsPerSecond: 1, burst: 10}]";
    let (node, _process) = served(&format!("{limit}, exempt: [{CLIENT}/32]"));
    // Short patience: a dropped SYN is sent again only after a second.
    let burst = |source: &str| {
        let attempts = (0..40).map(|_| node.get_within(source, VIP, 80, Duration::from_millis(200)).unwrap());
        attempts.filter(Outcome::is_ok).count()
    };
    let of_other = burst(OTHER);
    assert!((10..40).contains(&of_other), "10 at once and 1 per second, not {of_other}");
    assert!(node.packets(VIP, "over-limit").unwrap() > 0);
    assert_eq!(burst(CLIENT), 40, "exempt");
}

#[test]
fn pools_and_addresses_of_the_node_come_and_go_while_it_runs() {
    let (node, _process) = served("");
    let later = "198.18.100.11";
    node.client.run(&format!("ip route add {later} via {NODE}")).unwrap();
    node.write("later.yaml", &pool("later", &format!("{later}/32"))).unwrap();
    node.wait_for("the new VIP to answer", || Ok(node.get(CLIENT, later, 80)?.is_ok())).unwrap();
    std::fs::remove_file(node.folder.join("manifests/later.yaml")).unwrap();
    node.wait_for("the route of the VIP to go", || {
        Ok(!node.node.run("ip route show table local")?.contains(later))
    })
    .unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());

    let own = "198.18.0.2";
    node.node.run(&format!("ip addr add {own}/24 dev eth0")).unwrap();
    node.wait_for("the node's new address to be served", || Ok(node.get(CLIENT, own, 80)?.is_ok())).unwrap();
}

#[test]
fn a_pool_that_is_far_too_large_takes_no_other_address_away() {
    let (node, process) = served("");
    node.write("large.yaml", &pool("large", "198.19.0.0/16")).unwrap();
    node.wait_for("the message about it", || Ok(process.log().contains("AddressPool large"))).unwrap();
    let routes = node.node.run("ip route get 198.19.255.1 from 198.18.0.10 iif eth0");
    assert!(!routes.unwrap_or_default().contains("local"), "an address that is not served is not local");
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

fn pool(name: &str, cidr: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: AddressPool\nmetadata: {{name: {name}}}\n\
         spec: {{blocks: [{{cidr: {cidr}}}]}}\n"
    )
}
