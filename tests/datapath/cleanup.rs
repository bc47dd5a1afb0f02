//! `portcullis cleanup`, and what bpftool shows before it.

use std::collections::BTreeSet;
use std::process::Command;

use ingress_tests::node::{Node, VIP, policy, run};
use serde_json::Value;

fn bpftool(arguments: &[&str]) -> Value {
    serde_json::from_str(&run(Command::new("bpftool").arg("--json").args(arguments)).unwrap()).unwrap()
}

fn ids(kind: &str) -> BTreeSet<u64> {
    bpftool(&[kind, "list"]).as_array().unwrap().iter().filter_map(|object| object["id"].as_u64()).collect()
}

#[test]
fn cleanup_leaves_nothing() {
    let node = Node::new().unwrap();
    let process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let status = node.status().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let attached = [&status["sk_lookup"], &status["interfaces"][0], &status["interfaces"][0]["egress"]];
    let links = attached.map(|attached| number(&attached["link_id"]));
    let programs = attached.map(|attached| number(&attached["program_id"]));
    let maps: Vec<u64> = std::fs::read_dir(node.bpffs().join("portcullis/v2"))
        .unwrap()
        .map(|entry| {
            number(&bpftool(&["map", "show", "pinned", entry.unwrap().path().to_str().unwrap()])["id"])
        })
        .collect();
    assert!(maps.len() >= 11, "{maps:?}");
    assert!(node.node.run("ip route show table local").unwrap().contains(VIP));

    process.kill();
    let printed = node.tool(&["cleanup"]).unwrap();
    for part in ["links/sk_lookup", "links/xdp-", "links/tcx-out-", "v2/vips", VIP] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
    assert!(!node.bpffs().join("portcullis").exists());
    assert!(!node.node.run("ip route show table local").unwrap().contains(VIP));
    assert!(!node.node.run("ip -6 route show table local").unwrap().contains("2001:db8:100"));
    // The kernel frees what nobody holds any more a moment later.
    node.wait_for("the kernel to free everything", || {
        let gone = |kind: &str, of_ours: &[u64]| {
            let present = ids(kind);
            of_ours.iter().all(|id| !present.contains(id))
        };
        Ok(gone("link", &links) && gone("prog", &programs) && gone("map", &maps))
    })
    .unwrap();
    assert!(node.tool(&["cleanup"]).unwrap().contains("nothing to remove"), "a second time is no error");
}

#[test]
fn cleanup_touches_nothing_of_others() {
    let node = Node::new().unwrap();
    node.node.run("ip route add local 198.18.200.1 dev lo").unwrap();
    std::fs::create_dir(node.bpffs().join("theirs")).unwrap();
    let process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    process.stop().unwrap();
    node.tool(&["cleanup"]).unwrap();
    assert!(node.bpffs().join("theirs").exists());
    assert!(node.node.run("ip route show table local").unwrap().contains("198.18.200.1"));
}

#[test]
fn bpftool_shows_named_fields_and_pinned_links() {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &policy("deny: [203.0.113.0/24]")).unwrap();
    let _process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let dump = |map: &str| {
        let path = node.bpffs().join("portcullis/v2").join(map);
        run(Command::new("bpftool").args(["map", "dump", "pinned"]).arg(path)).unwrap()
    };
    for (map, fields) in [
        ("vips", &["addr", "port", "vip_id", "flags"][..]),
        ("listen", &["addr", "first_slot", "slots"]),
        ("acl4", &["prefix_len", "scope", "flags"]),
        ("stats", &["packets", "bytes"]),
    ] {
        let text = dump(map);
        for field in fields {
            assert!(text.contains(&format!("\"{field}\"")), "{field} in {map}:\n{text:.600}");
        }
    }
    for (command, parts) in [
        (&["maps", "vips"][..], &["ADDRESS", VIP, "lists-scope"][..]),
        (&["maps", "acl4"], &["203.0.113.0/24", "deny"]),
        (&["status"], &["mode: xdp-native", "agent: running", "eth0", VIP, "opened"]),
    ] {
        let text = node.tool(command).unwrap();
        for part in parts {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
    let links = run(Command::new("bpftool").args(["--bpffs", "--json", "link", "list"])).unwrap();
    for pin in ["portcullis/links/sk_lookup", "portcullis/links/xdp-"] {
        assert!(links.contains(pin), "{pin} in {links}");
    }
}
