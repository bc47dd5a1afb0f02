//! What an operator sees of a node, without reading documentation.

use std::time::{Duration, Instant};

use ingress_tests::fleet::Fleet;
use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, Node, OTHER, Process, VIP, policy};

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
