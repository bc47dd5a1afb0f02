//! What an operator sees of a node, without reading documentation.

use std::time::{Duration, Instant};

use ingress_tests::fleet::Fleet;
use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, CLIENT6, NODE, Node, OTHER, Process, VIP, VIP6, policy};

/// Long enough for an answer, short enough for a test of silence.
const SILENCE: Duration = Duration::from_millis(300);

fn denying() -> (Node, Process) {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32]"))).unwrap();
    let process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    (node, process)
}

#[test]
fn a_denied_source_appears_in_drops_within_a_second() {
    let (node, process) = denying();
    let before = node.drops("run", &["--source", OTHER]).unwrap();
    assert!(before.is_empty(), "nothing of it was dropped yet: {before:?}");
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    let sent = Instant::now();
    let told = loop {
        let drops = node.drops("run", &["--source", OTHER, "--vip", VIP]).unwrap();
        if let Some(told) = drops.first() {
            break told.clone();
        }
        assert!(sent.elapsed() < Duration::from_secs(1), "not told within a second");
    };
    let expected = serde_json::json!({
        "reason": "denied", "address": VIP, "source": OTHER, "port": 80, "protocol": "tcp", "interface": "eth0",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&told[field], value, "{told}");
    }
    // Who came before a proxy was ready may have been put off, but nobody else is denied.
    let of_client = node.drops("run", &["--source", CLIENT]).unwrap();
    assert!(of_client.iter().all(|drop| drop["reason"] == "paused"), "{of_client:?}");
    assert!(node.drops("run", &["--since", "0"]).unwrap().is_empty(), "nothing is dropped now");

    // Who asks later is told the same.
    let socket = node.folder.join("run.sock");
    let table = node.tool(&["drops", "--once", "--admin-socket", socket.to_str().unwrap()]).unwrap();
    let line = table.lines().find(|line| line.contains("denied")).unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains(OTHER) && line.contains(&format!("{VIP}:80/tcp")), "{line}");

    // Without an agent the kernel goes on telling, and the command reads by itself.
    process.stop().unwrap();
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    let alone = node.tool(&["drops", "--once", "--admin-socket", "/does/not/exist"]).unwrap();
    assert!(alone.contains("no agent answers") && alone.contains("denied"), "{alone}");
    assert!(alone.contains(&format!("{VIP}:80/tcp")), "{alone}");
}

#[test]
fn a_flood_of_drops_is_told_of_in_part_and_counted_in_full() {
    const PACKETS: u64 = 4_000;
    let (node, _process) = denying();
    let begun = Instant::now();
    node.client
        .enter(|| {
            let socket = std::net::UdpSocket::bind((OTHER, 0)).unwrap();
            for _ in 0..PACKETS {
                socket.send_to(b"flood", (VIP, 80)).unwrap();
            }
        })
        .unwrap();
    node.wait_for("all to be counted", || Ok(node.packets(VIP, "denied")? >= PACKETS)).unwrap();
    node.wait_for("some to be told of", || Ok(!node.drops("run", &[])?.is_empty())).unwrap();
    let took = begun.elapsed().as_secs_f64();
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    let told = node.drops("run", &["--source", OTHER]).unwrap().len() as f64;
    assert!(told <= cpus * (200.0 + 100.0 * took + 2.0), "{told} told of within {took} s on {cpus} CPUs");
    let rate = node.tool(&["maps", "event_rate", "--output", "json"]).unwrap();
    let rate: serde_json::Value = serde_json::from_str(&rate).unwrap();
    let sum =
        |field: &str| rate.as_array().unwrap().iter().filter_map(|cpu| cpu[field].as_u64()).sum::<u64>();
    let paused = node.packets(VIP, "paused").unwrap();
    assert_eq!(sum("told") + sum("untold_ever"), node.packets(VIP, "denied").unwrap() + paused, "{rate}");
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn preflight_judges_the_node_that_it_runs_on() {
    let node = Node::new().unwrap();
    let preflight = |ports: &str| {
        let mut command = node.portcullis("preflight").unwrap();
        command
            .args(["--output", "json", "--https-port", ports, "--http-port", "80", "--bpffs"])
            .arg(node.bpffs());
        let output = command.output().unwrap();
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), findings)
    };
    let level = |findings: &serde_json::Value, check: &str| {
        let finding =
            findings.as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap().clone();
        finding["level"].as_str().unwrap().to_owned()
    };
    let (code, findings) = preflight("443");
    assert_eq!(level(&findings, "bpffs"), "ok", "{findings}");
    assert_eq!(level(&findings, "tunnel port"), "ok", "{findings}");
    assert_eq!(level(&findings, "hostPort"), "ok", "{findings}");
    assert!(code < 2, "nothing stands in the way: {findings}");

    node.node.run("nft add table ip other").unwrap();
    node.node.run("nft add chain ip other pre { type nat hook prerouting priority -100 ; }").unwrap();
    node.node.run("nft add rule ip other pre tcp dport 8443 dnat to 198.18.0.9:443").unwrap();
    let _tunnel = node.node.enter(|| std::net::UdpSocket::bind(("0.0.0.0", 7447))).unwrap().unwrap();
    let (code, findings) = preflight("8443");
    assert_eq!(code, 2);
    assert_eq!(level(&findings, "hostPort"), "fail", "{findings}");
    assert_eq!(level(&findings, "tunnel port"), "fail", "{findings}");
}

#[test]
fn top_names_the_client_that_is_sent_most() {
    let (node, _process) = denying();
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    let socket = node.folder.join("run.sock");
    let top = || {
        let socket = socket.to_str().unwrap();
        let text = node.tool(&["top", "sources", "--output", "json", "--admin-socket", socket])?;
        Ok::<serde_json::Value, anyhow::Error>(serde_json::from_str(&text)?)
    };
    // Who came before a proxy was ready may have been put off more often than the denied one was dropped.
    let denied = |drop: &serde_json::Value| drop["source"] == OTHER && drop["reason"] == "denied";
    let known = || Ok(top()?["drops"].as_array().is_some_and(|drops| drops.iter().any(denied)));
    node.wait_for("the drop to be known", known).unwrap();
    let sources = top().unwrap();
    let sent = &sources["sent"][0];
    assert_eq!((sent["client"].as_str(), sent["address"].as_str()), (Some(CLIENT), Some(VIP)), "{sources}");
    assert!(sent["bytes"].as_u64().unwrap() > 0, "{sources}");
}

#[test]
fn top_lists_names_the_entry_that_caught_a_packet_and_its_policy() {
    let (node, process) = denying();
    let socket = node.folder.join("run.sock");
    let socket = socket.to_str().unwrap();
    let none = node.tool(&["top", "lists", "--admin-socket", socket]).unwrap();
    assert!(none.contains("has caught anything"), "{none}");
    // The entry of everybody, IPv6 too, and the longer one of the source.
    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32, 198.18.0.64/26, \"{CLIENT6}/128\"]")))
        .unwrap();
    let is_denied = |source, vip| Ok(node.get_within(source, vip, 80, SILENCE)? == Outcome::TimedOut);
    node.wait_for("the policy", || is_denied(CLIENT6, VIP6)).unwrap();
    assert!(is_denied(OTHER, VIP).unwrap());
    let lists = |socket: &str| -> Vec<serde_json::Value> {
        let text = node.tool(&["top", "lists", "--output", "json", "--admin-socket", socket]).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let caught = lists(socket);
    let of = |prefix: &str| {
        caught.iter().find(|caught| caught["prefix"] == prefix).unwrap_or_else(|| panic!("{caught:?}"))
    };
    for prefix in [format!("{OTHER}/32"), format!("{CLIENT6}/128")] {
        let entry = of(&prefix);
        assert_eq!(entry["policy"], "edge", "{entry}");
        assert_eq!(entry["addresses"].as_array().unwrap().len(), 2, "both VIPs: {entry}");
    }
    assert_eq!(caught.len(), 2, "{caught:?}");
    // Every packet that was counted as denied was denied by an entry.
    let packets: u64 = caught.iter().filter_map(|caught| caught["packets"].as_u64()).sum();
    assert!(packets > 0);
    assert_eq!(packets, node.packets(VIP, "denied").unwrap() + node.packets(VIP6, "denied").unwrap());
    let metrics = node.admin("run", "/metrics").unwrap();
    let sample = format!("portcullis_denied_packets_total{{policy=\"edge\"}} {packets}");
    assert!(metrics.contains(&sample), "{sample} in {metrics}");

    let status = node.tool(&["status"]).unwrap();
    assert!(status.lines().any(|line| line.starts_with("denied most: ") && line.contains(OTHER)), "{status}");

    // Without an agent the kernel's counts remain, and nobody knows the policy.
    process.stop().unwrap();
    let table = node.tool(&["top", "lists", "--admin-socket", "/does/not/exist"]).unwrap();
    let line =
        table.lines().find(|line| line.contains(&format!("{OTHER}/32"))).unwrap_or_else(|| panic!("{table}"));
    assert!(line.split_whitespace().any(|word| word == "-") && line.contains("and 1 more"), "{line}");
}

#[test]
fn without_a_kernel_half_denied_connections_are_counted_at_accept() {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &everywhere(&format!("deny: [{OTHER}/32]"))).unwrap();
    let _process = node.run("run", &["--mode", "userspace"]).unwrap();
    node.wait_for("an answer from the node", || Ok(node.get(CLIENT, NODE, 80)?.is_ok())).unwrap();
    for _ in 0..3 {
        assert!(!node.get(OTHER, NODE, 80).unwrap().is_ok());
    }
    let metrics = node.admin("run", "/metrics").unwrap();
    assert!(metrics.contains("portcullis_denied_connections_total{policy=\"all\"} 3"), "{metrics}");
}

/// A policy for every served address.
fn everywhere(spec: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: EdgePolicy\nmetadata: {{name: all}}\nspec: {{scope: Cluster, {spec}}}\n"
    )
}

#[test]
fn status_shows_pools_their_nodes_and_who_listens() {
    let fleet = Fleet::new(2).unwrap();
    fleet.write("pool.yaml", &ingress_tests::fleet::pool("")).unwrap();
    for number in [1, 2] {
        fleet.join(number, "active").unwrap();
    }
    let start = |number: usize| fleet.start(number, &format!("node-{number}"), &["--mode", "xdp-native"]);
    let _processes = [start(1).unwrap(), start(2).unwrap()];
    let status = || fleet.status_text(1, "node-1");
    fleet
        .wait_for("both nodes to be up", || Ok(status().is_ok_and(|text| text.contains("2 of 2 up"))))
        .unwrap();
    fleet.wait_for("an answer", || Ok(fleet.get(VIP)?.is_ok())).unwrap();
    let text = status().unwrap();
    let line = |text: &str, words: &[&str]| {
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in\n{text}");
    };
    line(&text, &["edge", VIP, "(2)", "node-1", "2 of 2 up"]);
    line(&text, &["edge", "node-1", "active", "100", "this node"]);
    line(&text, &["edge", "node-2", "active", "ms ago"]);
    line(&text, &["80/tcp", VIP, "pid "]);
    fleet.node(2).unwrap().run("ip link set eth0 down").unwrap();
    fleet.wait_for("the other node to be down", || Ok(status()?.contains("1 of 2 up"))).unwrap();
    line(&status().unwrap(), &["edge", "node-2", "down", " s "]);
}
