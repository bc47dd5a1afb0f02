//! What nobody should ask for, and somebody does: each has a result that is defined, and a message that names the fix.

use std::process::Command;
use std::time::Duration;

use ingress_tests::http::Outcome;
use ingress_tests::netns;
use ingress_tests::node::{CLIENT, CLIENT6, NODE, NODE6, Node, OTHER, Process, VIP, VIP6, policy, run};
use serde_json::Value;

use crate::takeover::serving_pids;

const SILENCE: Duration = Duration::from_millis(1500);

fn served(node: &Node, name: &str, flags: &[&str]) -> Process {
    let process = node.run(name, &[&["--mode", "xdp-native"], flags].concat()).unwrap();
    node.wait_served().unwrap();
    process
}

fn pool(name: &str, blocks: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: AddressPool\nmetadata: {{name: {name}}}\nspec: {{blocks: [{blocks}]}}\n"
    )
}

fn edge_policy(name: &str, pools: &[String], spec: &str) -> String {
    let targets: Vec<String> =
        pools.iter().map(|pool| format!("{{kind: AddressPool, name: {pool}}}")).collect();
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: EdgePolicy\nmetadata: {{name: {name}}}\n\
         spec: {{targetRefs: [{}], {spec}}}\n",
        targets.join(", ")
    )
}

/// Whether the node says this of what it does not do.
fn says(node: &Node, name: &str, parts: &[&str]) -> anyhow::Result<bool> {
    let degraded = node.admin(name, "/degraded")?;
    Ok(parts.iter().all(|part| degraded.contains(part)))
}

fn entries(node: &Node, map: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_json::from_str(&node.tool(&["maps", map, "--output", "json"])?)?)
}

#[test]
fn an_address_of_the_node_that_lies_in_a_pool_stays_the_nodes_also_before_a_proxy_is_there() {
    let node = Node::new().unwrap();
    node.write(
        "pool.yaml",
        &pool("edge", &format!("{{cidr: {VIP}/32}}, {{cidr: {NODE}/32}}, {{cidr: \"{NODE6}/128\"}}")),
    )
    .unwrap();
    let echo = node.node.enter(|| std::net::TcpListener::bind((NODE, 22))).unwrap().unwrap();
    ingress_tests::http::serve(echo, "shell");
    let agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    node.wait_for("the programs to be in place", || Ok(agent.log().contains("data plane is up"))).unwrap();
    // Asked anew: nobody remembers who has the address.
    node.client.run("ip neigh flush dev eth0").unwrap();
    let shell = node.get(CLIENT, NODE, 22).unwrap();
    assert_eq!(shell, Outcome::Answered(200, "shell".to_owned()), "another port of the node");
    assert_eq!(node.get(CLIENT6, NODE6, 80).unwrap(), Outcome::Refused, "nobody listens yet");
    let said = format!("AddressPool edge: {NODE} is an address of this node");
    let log = agent.log();
    assert_eq!(log.matches(&said).count(), 1, "{log}");
    assert!(log.contains("leave it out of spec.blocks"), "{log}");

    let _proxy = node.proxy("proxy").unwrap();
    node.wait_served().unwrap();
    for (source, address) in [(CLIENT, NODE), (CLIENT6, NODE6)] {
        node.wait_for("the node's own address to be served", || Ok(node.get(source, address, 80)?.is_ok()))
            .unwrap();
    }
    assert!(node.get(CLIENT, NODE, 22).unwrap().is_ok());
    // The address of a node is nobody else's to announce.
    assert!(!agent.log().contains(&format!("addresses={{{NODE}")), "{}", agent.log());
}

#[test]
fn lists_that_are_too_long_stay_as_they_were_in_the_kernel_and_hold_at_accept() {
    /// A policy with so many pools of different policies stands in as many scopes.
    const POOLS: usize = 60;
    let node = Node::new().unwrap();
    let mut pools = vec!["edge".to_owned()];
    for number in 0..POOLS {
        let name = format!("pool-{number:02}");
        node.write(&format!("{name}.yaml"), &pool(&name, &format!("{{cidr: 198.18.101.{number}/32}}")))
            .unwrap();
        let own =
            edge_policy(&format!("own-{number:02}"), std::slice::from_ref(&name), "exempt: [192.0.2.1/32]");
        node.write(&format!("own-{number:02}.yaml"), &own).unwrap();
        pools.push(name);
    }
    let small =
        |more: &str| edge_policy("small", &["edge".to_owned()], &format!("deny: [203.0.113.1/32{more}]"));
    node.write("small.yaml", &small("")).unwrap();
    node.write("big.yaml", &edge_policy("big", &pools, &format!("deny: [{OTHER}/32]"))).unwrap();
    let process = served(&node, "run", &[]);
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);

    // 61 scopes with 4,500 prefixes each are more than 262,144; the client itself is one of them, and OTHER is not.
    let far: Vec<String> = (0..4500).map(|n| format!("10.{}.{}.0/24", n / 250, n % 250)).collect();
    let long = format!("deny: [{CLIENT}/32, {}]", far.join(", "));
    node.write("big.yaml", &edge_policy("big", &pools, &long)).unwrap();
    let said = [
        "EdgePolicy big",
        "spec.deny: 4501 entries",
        "262144 prefixes",
        "stay in the kernel",
        "join neighbouring",
    ];
    node.wait_for("word of the list", || says(&node, "run", &said)).unwrap();
    assert_eq!(process.log().matches("EdgePolicy big: its lists are too long").count(), 1, "said once");
    assert!(node.admin("run", "/metrics").unwrap().contains("portcullis_dataplane_degraded 1"));
    let listed = entries(&node, "acl4").unwrap();
    let names = |prefix: &str| listed.iter().any(|entry| entry["prefix"] == prefix);
    assert!(
        names(&format!("{OTHER}/32")) && !names(&format!("{CLIENT}/32")) && !names("10.0.0.0/24"),
        "the old list"
    );
    assert_eq!(
        node.get_within(OTHER, VIP, 80, SILENCE).unwrap(),
        Outcome::TimedOut,
        "by the kernel's old list"
    );
    node.wait_for("the new list to hold at accept", || Ok(!node.get(CLIENT, VIP, 80)?.is_ok())).unwrap();
    // It takes nothing from others.
    node.write("small.yaml", &small(", 203.0.113.2/32")).unwrap();
    node.wait_for("another policy to change", || {
        Ok(entries(&node, "acl4")?.iter().any(|entry| entry["prefix"] == "203.0.113.2/32"))
    })
    .unwrap();

    node.write("big.yaml", &edge_policy("big", &pools, &format!("deny: [{OTHER}/32, 198.51.100.0/24]")))
        .unwrap();
    node.wait_for("the list that fits", || {
        Ok(entries(&node, "acl4")?.iter().any(|entry| entry["prefix"] == "198.51.100.0/24"))
    })
    .unwrap();
    node.wait_for("nothing to be told", || Ok(!says(&node, "run", &["EdgePolicy big"])?)).unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn a_pool_takes_the_place_of_another_that_leaves_no_room_beside_it() {
    let node = Node::new().unwrap();
    node.client.run(&format!("ip route add 198.19.0.0/16 via {NODE}")).unwrap();
    let block = |first: &str, last: &str| pool("large", &format!("{{start: {first}, stop: {last}}}"));
    node.write("large.yaml", &block("198.19.0.1", "198.19.2.254")).unwrap();
    let process = served(&node, "run", &[]);
    node.wait_for("the first block", || Ok(node.get(CLIENT, "198.19.2.254", 80)?.is_ok())).unwrap();
    node.write("large.yaml", &block("198.19.8.1", "198.19.10.254")).unwrap();
    for address in ["198.19.8.1", "198.19.10.254"] {
        node.wait_for("the second block", || Ok(node.get_within(CLIENT, address, 80, SILENCE)?.is_ok()))
            .unwrap();
    }
    let log = process.log();
    assert!(!log.contains("not served") && !log.contains("refused entries"), "{log}");
    assert!(!says(&node, "run", &["AddressPool"]).unwrap(), "{}", node.admin("run", "/degraded").unwrap());
}

#[test]
fn pinned_maps_of_another_size_are_replaced_and_named() {
    let node = Node::new().unwrap();
    let folder = node.bpffs().join("portcullis/v2");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, kind, key, value) in [
        ("vips", "hash", "20", "40"),
        ("bans", "hash", "4", "4"),
        ("buckets", "lru_hash", "20", "8"),
        ("stats", "array", "4", "16"),
    ] {
        let mut command = Command::new("bpftool");
        command.args(["map", "create"]).arg(folder.join(name));
        run(command.args(["type", kind, "key", key, "value", value, "entries", "7", "name", "strange"]))
            .unwrap();
    }
    let process = served(&node, "run", &[]);
    let log = process.log();
    for name in ["vips", "bans", "buckets", "stats"] {
        let line = log
            .lines()
            .find(|line| line.contains("pinned map replaced") && line.contains(&format!("\"{name}\"")));
        assert!(
            line.is_some_and(|line| line.contains("WARN") && line.contains("expected")),
            "{name} in {log}"
        );
    }
    assert_eq!(node.status().unwrap()["mode"], "xdp-native");
    assert!(node.get(CLIENT6, VIP6, 80).unwrap().is_ok());
}

#[test]
fn a_second_agent_with_pins_of_its_own_leaves_the_first_ones_programs() {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32]"))).unwrap();
    let _first = served(&node, "first", &[]);
    let of_first = node.status().unwrap()["interfaces"][0]["program_id"].clone();
    let other = node.folder.join("other");
    std::fs::create_dir(&other).unwrap();
    run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&other)).unwrap();
    let path = other.to_str().unwrap().to_owned();
    let second = node.run("second", &["--bpffs", &path]).unwrap();
    node.wait_for("the second to say what it met", || Ok(second.log().contains("foreign XDP program")))
        .unwrap();
    node.wait_for("the second to be up", || Ok(second.log().contains("data plane is up"))).unwrap();
    let log = second.log();
    assert!(log.contains(&format!("id {of_first}")) && log.contains("--interface"), "{log}");
    for _ in 0..20 {
        assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    }
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    assert_eq!(node.status().unwrap()["interfaces"][0]["program_id"], of_first, "still the first one's");

    second.kill();
    let mut cleanup = node.portcullis("cleanup").unwrap();
    run(cleanup.arg("--bpffs").arg(&other)).unwrap();
    run(Command::new("umount").arg("--lazy").arg(&other)).unwrap();
    node.wait_served().unwrap();
    assert_eq!(node.status().unwrap()["interfaces"][0]["program_id"], of_first);
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
}

#[test]
fn pins_of_another_network_namespace_are_left_alone_and_named() {
    let node = Node::new().unwrap();
    let first = served(&node, "first", &[]);
    let before = node.status().unwrap();
    let elsewhere = Node::new().unwrap();
    let path = node.bpffs();
    let flags = ["--bpffs", path.to_str().unwrap()];
    let second = elsewhere.run("second", &flags).unwrap();
    elsewhere.wait_served().unwrap();
    let log = second.log();
    let line = log.lines().find(|line| line.contains("another network namespace"));
    assert!(line.is_some_and(|line| line.contains("--bpffs") && line.contains("portcullis")), "{log}");
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    second.kill();
    // Nor does one that asks for no kernel half take away what serves elsewhere.
    let third = elsewhere.run("third", &[&["--mode", "userspace"], &flags[..]].concat()).unwrap();
    elsewhere.wait_served().unwrap();
    third.kill();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    let after = node.status().unwrap();
    assert_eq!(
        (&after["interfaces"], &after["agent"]["epoch"]),
        (&before["interfaces"], &before["agent"]["epoch"])
    );
    assert!(first.stop().unwrap().success());
}

#[test]
fn an_interface_that_disappears_while_it_announces_is_served_and_announced_again_when_it_is_back() {
    let node = Node::new().unwrap();
    // Both ask who has the VIP.
    node.client.run(&format!("ip route replace {VIP} dev eth0")).unwrap();
    let process = served(&node, "run", &[]);
    for (round, gone) in
        [("deleted", "ip link delete eth0"), ("down", "ip link set eth0 down")].into_iter().enumerate()
    {
        let told = process.log().matches("neighbours are told").count();
        node.node.run(gone.1).unwrap();
        node.wait_for("its programs to go", || {
            Ok(node.status().is_ok_and(|status| status["interfaces"].as_array().is_some_and(Vec::is_empty)))
        })
        .unwrap();
        node.wait_for("a word of it", || says(&node, "run", &["interface"])).unwrap();
        if round == 0 {
            netns::veth(&node.client, "eth0", &node.node, "eth0").unwrap();
            netns::addresses(&node.client, "eth0", &[&format!("{CLIENT}/24"), &format!("{CLIENT6}/64")])
                .unwrap();
            netns::addresses(&node.node, "eth0", &[&format!("{NODE}/24"), &format!("{NODE6}/64")]).unwrap();
        } else {
            node.node.run("ip link set eth0 up").unwrap();
            netns::addresses(&node.node, "eth0", &[&format!("{NODE6}/64")]).unwrap();
        }
        node.client.run(&format!("ip route replace {VIP} dev eth0")).unwrap();
        node.client.run(&format!("ip route replace {VIP6} via {NODE6}")).unwrap();
        node.wait_for("its programs to be back", || {
            Ok(node.status().is_ok_and(|status| status["interfaces"][0]["mode"] == "xdp-native"))
        })
        .unwrap();
        node.client.run("ip neigh flush dev eth0").unwrap();
        for (source, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
            node.wait_for("the VIP to answer again", || {
                Ok(node.get_within(source, vip, 80, SILENCE)?.is_ok())
            })
            .unwrap();
        }
        node.wait_for("neighbours to be told again", || {
            Ok(process.log().matches("neighbours are told").count() > told)
        })
        .unwrap();
        let pins = std::fs::read_dir(node.bpffs().join("portcullis/links")).unwrap().count();
        assert_eq!(pins, 3, "no pin of what was {}", gone.0);
    }
}

#[test]
fn an_agent_whose_clock_is_a_day_ahead_of_the_kernels_is_alive_to_all() {
    let node = Node::new().unwrap();
    node.client.run(&format!("ip route replace {VIP} dev eth0")).unwrap();
    let mut command = node.node.command("unshare");
    command.args(["--time", "--monotonic", "86400", "--fork", "--kill-child"]);
    command.arg(ingress_tests::node::binary().unwrap()).arg("run");
    command.arg("--manifests").arg(node.folder.join("manifests")).arg("--bpffs").arg(node.bpffs());
    command.args(["--healthz-port", "0", "--workers", "1", "--mode", "xdp-native"]);
    let process = node.start("run", &mut command).unwrap();
    node.wait_served().unwrap();
    let log = process.log();
    assert_eq!(log.matches("time namespace").count(), 1, "{log}");
    // Read here, by the kernel's clock.
    let status = node.tool(&["status"]).unwrap();
    assert!(status.contains("agent: running"), "{status}");
    let meta = entries(&node, "meta").unwrap();
    let now = ingress_userspace::bpf::clock::now_ns();
    let heartbeat = meta[0]["heartbeat_ns"].as_u64().unwrap_or_else(|| panic!("{meta:?}"));
    assert!(now.abs_diff(heartbeat) < 5_000_000_000, "{now} {meta:?}");
}

#[test]
fn a_proxy_for_whose_sockets_there_are_no_slots_is_refused_and_the_one_beside_it_serves() {
    let node = Node::new().unwrap();
    let socket = node.folder.join("agent-admin.sock");
    let agent =
        node.agent("agent", &["--mode", "xdp-native", "--admin-socket", socket.to_str().unwrap()]).unwrap();
    let _proxy = node.proxy("proxy").unwrap();
    node.wait_served().unwrap();
    // Four sockets for each worker: one such proxy has room among 1024, two have not.
    let wide = |name: &str| {
        let mut command = node.portcullis("proxy").unwrap();
        command.arg("--link-socket").arg(node.link_socket()).args([
            "--healthz-port",
            "0",
            "--workers",
            "140",
        ]);
        node.start(name, &mut command).unwrap()
    };
    let first = wide("first");
    let of_first = u64::from(first.id());
    node.wait_for("the first to serve", || Ok(serving_pids(&node)? == [of_first])).unwrap();
    let second = wide("second");
    let parts = ["are refused", "no 140 free slots in a row", "1024 exist in all", "use fewer --workers"];
    node.wait_for("word of it", || says(&node, "agent-admin", &parts)).unwrap();
    assert_eq!(serving_pids(&node).unwrap(), [of_first]);
    for _ in 0..10 {
        assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok(), "{}", agent.log());
    }
    second.kill();
    node.wait_for("nothing to be told", || Ok(!says(&node, "agent-admin", &["are refused"])?)).unwrap();
    // What both had taken is free again.
    first.kill();
    let last = wide("last");
    let of_last = u64::from(last.id());
    node.wait_for("the last to serve", || Ok(serving_pids(&node)? == [of_last])).unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}
