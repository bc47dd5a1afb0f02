//! The kernel maps as an operator reads them: `portcullis maps`, and the lines of the reference page.

use std::path::Path;
use std::process::Command;

use ingress_common::maps::table::MAPS;
use ingress_tests::fleet::Fleet;
use ingress_tests::node::{CLIENT, Node, OTHER, Process, VIP, policy, run};
use serde_json::Value;

/// A node with entries in most maps: lists, and a source that is over its limit until it is banned.
fn busy() -> (Node, Process) {
    let node = Node::new().unwrap();
    let spec = format!(
        "exempt: [{CLIENT}/32], deny: [203.0.112.0/23, 10.0.0.0/8, \"2001:db8:66::/48\"], \
         limits: [{{per: Source, packetsPerSecond: 20, burst: 40}}], ban: {{after: 20, within: 1m, for: 10m, max: 10}}"
    );
    node.write("policy.yaml", &policy(&spec)).unwrap();
    let process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_for("an answer to an exempt client", || Ok(node.get(CLIENT, VIP, 80)?.is_ok())).unwrap();
    let flood = || -> std::io::Result<()> {
        let socket = std::net::UdpSocket::bind((OTHER, 0))?;
        (0..200).try_for_each(|_| socket.send_to(b"flood", (VIP, 80)).map(drop))
    };
    node.client.enter(flood).unwrap().unwrap();
    node.wait_for("the ban", || Ok(!rows(&node, "bans")?.is_empty())).unwrap();
    (node, process)
}

fn rows(node: &Node, map: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_json::from_str(&node.tool(&["maps", map, "--output", "json"])?)?)
}

#[test]
fn every_map_is_printed_in_words() {
    let (node, _process) = busy();
    for map in MAPS {
        match node.tool(&["maps", map.name]) {
            Ok(table) => {
                assert!(table.lines().next().is_some_and(|head| head == head.to_uppercase()), "{table}")
            }
            Err(error) => {
                assert_eq!(map.name, "events", "{error}");
                assert!(error.to_string().contains("`portcullis drops` reads it"), "{error}");
            }
        }
    }
    let of = |map: &str| rows(&node, map).unwrap();
    let has = |map: &str, expected: &[(&str, Value)]| {
        let rows = of(map);
        let is_it = |row: &&Value| expected.iter().all(|(column, value)| row[column] == *value);
        assert!(rows.iter().any(|row| is_it(&row)), "{expected:?} in {map}: {rows:?}");
    };
    has(
        "vips",
        &[("address", VIP.into()), ("port", 80.into()), ("protocol", "tcp".into()), ("pool", 0.into())],
    );
    has(
        "acl4",
        &[("prefix", "203.0.112.0/23".into()), ("flags", "deny".into()), ("denied_by", "/23".into())],
    );
    has(
        "acl4",
        &[("prefix", format!("{CLIENT}/32").into()), ("flags", "exempt".into()), ("denied_by", Value::Null)],
    );
    has("acl6", &[("prefix", "2001:db8:66::/48".into()), ("flags", "deny".into())]);
    // A /23 is two neighbours, a /8 is 65,536.
    has(
        "acl4_bits",
        &[
            ("each", "/24".into()),
            ("first", "203.0.112.0".into()),
            ("last", "203.0.113.255".into()),
            ("networks", 2.into()),
        ],
    );
    has(
        "acl4_bits",
        &[("first", "10.0.0.0".into()), ("last", "10.255.255.255".into()), ("networks", 65_536.into())],
    );
    has(
        "acl4_bits",
        &[
            ("each", "/16".into()),
            ("first", "203.0.0.0".into()),
            ("last", "203.0.255.255".into()),
            ("networks", 1.into()),
        ],
    );
    has("acl6_bits", &[("stands_for", "hashes of prefixes".into())]);
    has("limits", &[("counts", "packets".into()), ("per_second", 20.into()), ("ban_after", 20.into())]);
    has("bans", &[("source", format!("{OTHER}/32").into()), ("policy", "edge".into())]);
    has("strikes", &[("source", format!("{OTHER}/32").into())]);
    has("globals", &[("row", 1.into()), ("limits", "sources that get an entry of strikes".into())]);
    has("cluster", &[("me", 0.into()), ("tunnel", "UDP".into())]);
    has("stats", &[("address", VIP.into()), ("reason", "over-limit".into())]);
    assert!(of("gate").iter().any(|row| row["tat"].as_u64().unwrap() > 0), "{:?}", of("gate"));
    assert!(of("bans")[0]["left_ms"].as_u64().unwrap() > 500_000, "{:?}", of("bans"));
    assert!(!of("slots").is_empty() && of("slots") == of("socks"));
    assert_eq!((of("ban_asks"), of("pools")), (vec![], vec![]), "asked and answered; one node");
    let schema = node.tool(&["maps", "--schema"]).unwrap();
    assert!(MAPS.iter().all(|map| schema.contains(&format!("\n{}: ", map.name))), "{schema}");
}

#[test]
fn a_table_of_a_pool_is_shown_by_what_each_node_has() {
    let fleet = Fleet::new(2).unwrap();
    fleet.write("pool.yaml", &ingress_tests::fleet::pool("")).unwrap();
    for number in [1, 2] {
        fleet.join(number, "active").unwrap();
    }
    let _process = fleet.start(1, "node-1", &["--mode", "xdp-native"]).unwrap();
    let rows = |map: &str| -> anyhow::Result<Vec<Value>> {
        Ok(serde_json::from_str(&fleet.tool(1, &["maps", map, "--output", "json"])?)?)
    };
    fleet.wait_for("the table", || Ok(rows("pools").is_ok_and(|rows| rows.len() == 2))).unwrap();
    let (pools, nodes) = (rows("pools").unwrap(), rows("nodes").unwrap());
    let slots = |place: &str| pools.iter().filter_map(|row| row[place].as_u64()).sum::<u64>();
    assert_eq!((slots("first"), slots("second"), slots("third")), (65_537, 65_537, 0), "{pools:?}");
    for row in &pools {
        assert!((25_000..40_000).contains(&row["first"].as_u64().unwrap()), "about half: {pools:?}");
        assert!(nodes.iter().any(|node| node["node"] == row["node"]), "{nodes:?}");
    }
    let cluster = fleet.tool(1, &["maps", "cluster", "--output", "json"]).unwrap();
    assert!(!cluster.contains("key") && !cluster.contains("seed"), "{cluster}");
}

#[test]
fn every_bpftool_line_of_the_reference_works() {
    let (node, _process) = busy();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/bpf-maps.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("bpftool ")).collect();
    assert_eq!(lines.len(), MAPS.len());
    for (map, line) in MAPS.iter().zip(lines) {
        let line = line.replace("/sys/fs/bpf", node.bpffs().to_str().unwrap());
        let told = run(Command::new("sh").args(["-c", &line])).unwrap();
        // Fields by name, where the kernel knows the type.
        let is_typed = line.contains(" dump ") && !told.starts_with("[]") && map.name != "pools";
        for (field, ..) in map.value.fields.iter().filter(|(field, ..)| is_typed && !field.is_empty()) {
            assert!(told.contains(&format!("\"{field}\"")), "{field} in {line}:\n{told:.400}");
        }
        assert!(!told.trim().is_empty(), "{line}");
    }
}
