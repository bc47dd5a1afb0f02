//! Several nodes serve one pool: every flow has one owner, wherever its packets arrive.

use std::collections::BTreeMap;

use ingress_tests::fleet::Fleet;
use ingress_tests::http::Outcome;
use ingress_tests::node::{Process, VIP, VIP6};

/// Nodes 1 to `count`, all members of the pool, each known to be up by the others.
pub(crate) fn fleet(count: usize, spec: &str) -> (Fleet, Vec<Process>) {
    let fleet = Fleet::new(count).unwrap();
    fleet.write("pool.yaml", &ingress_tests::fleet::pool(spec)).unwrap();
    for number in 1..=count {
        fleet.join(number, "active").unwrap();
    }
    let processes = (1..=count)
        .map(|number| fleet.start(number, &format!("node-{number}"), &["--mode", "xdp-native"]).unwrap())
        .collect();
    fleet
        .wait_for("an answer from every node", || {
            let seen = owners(&fleet, VIP, 40);
            Ok(seen.len() == count)
        })
        .unwrap();
    (fleet, processes)
}

/// Which nodes answered how many of so many requests.
fn owners(fleet: &Fleet, vip: &str, requests: usize) -> BTreeMap<String, usize> {
    let mut owners = BTreeMap::new();
    for _ in 0..requests {
        let owner = match fleet.get(vip).unwrap() {
            Outcome::Answered(200, body) => body,
            other => format!("{other:?}"),
        };
        *owners.entry(owner).or_insert(0) += 1;
    }
    owners
}

#[test]
fn each_node_owns_its_share_of_the_flows_wherever_they_arrive() {
    let (fleet, _processes) = fleet(3, "");
    for vip in [VIP, VIP6] {
        for receiver in [1, 2] {
            fleet.route_by(receiver).unwrap();
            let owners = owners(&fleet, vip, 90);
            let names: Vec<&str> = owners.keys().map(String::as_str).collect();
            assert_eq!(names, ["node-1", "node-2", "node-3"], "{vip} by {receiver}: {owners:?}");
            assert!(owners.values().all(|count| *count >= 12), "{owners:?}");
        }
    }
    assert!(fleet.packets(1, "steered").unwrap() > 100);
}

#[test]
fn a_node_at_tc_takes_flows_out_of_a_tunnel_of_the_other_family() {
    let fleet = Fleet::new(2).unwrap();
    fleet.write("pool.yaml", &ingress_tests::fleet::pool("")).unwrap();
    for number in [1, 2] {
        fleet.join(number, "active").unwrap();
    }
    let start = |number, mode| fleet.start(number, &format!("node-{number}"), &["--mode", mode]).unwrap();
    let _processes = [start(1, "xdp-native"), start(2, "tc")];
    // Between the nodes it is IPv4.
    for vip in [VIP, VIP6] {
        let asked = || Ok(owners(&fleet, vip, 40).into_keys().eq(["node-1", "node-2"].map(String::from)));
        fleet.wait_for("both nodes to answer, and nothing to be lost", asked).unwrap();
    }
}

#[test]
fn flows_go_through_ip_in_ip_as_well() {
    let (fleet, _processes) = fleet(2, ", encapsulation: IPIP");
    for vip in [VIP, VIP6] {
        assert_eq!(owners(&fleet, vip, 40).len(), 2, "{vip}");
    }
}
