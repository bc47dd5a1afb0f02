//! Each interface gets the best hook that it takes; others' programs stay; interfaces come and go.

use std::process::Command;
use std::time::Duration;

use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode, tc::TcAttachOptions};
use ingress_tests::http::Outcome;
use ingress_tests::netns;
use ingress_tests::node::{CLIENT, CLIENT6, NODE, Node, OTHER, Process, VIP, VIP6, policy, pool, run};
use ingress_tests::release::tc_means;
use ingress_userspace::bpf::object::OBJECT;
use serde_json::Value;

const SILENCE: Duration = Duration::from_millis(1500);
/// Of a second network between client and node.
const NODE_B: &str = "198.18.1.1";
const CLIENT_B: &str = "198.18.1.10";

/// A node that denies `OTHER`, served with these flags.
fn served(flags: &[&str]) -> (Node, Process) {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32]"))).unwrap();
    let process = node.run("run", flags).unwrap();
    node.wait_served().unwrap();
    (node, process)
}

fn interface(node: &Node, name: &str) -> Value {
    let status = node.status().unwrap();
    let all = status["interfaces"].as_array().unwrap();
    all.iter().find(|interface| interface["name"] == name).cloned().unwrap_or_default()
}

fn mode(node: &Node, name: &str) -> String {
    interface(node, name)["mode"].as_str().unwrap_or("none").to_owned()
}

fn assert_lists_hold(node: &Node) {
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut, "denied");
    assert!(node.packets(VIP, "denied").unwrap() > 0);
    for (source, address) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        assert!(node.get(source, address, 80).unwrap().is_ok(), "{address}");
    }
    assert!(node.packets(VIP, "sent").unwrap() > 0, "what leaves is counted");
    assert!(node.packets(VIP6, "sent").unwrap() > 0);
}

fn foreign() -> aya::Ebpf {
    aya::Ebpf::load(OBJECT.expect("built with the kernel half")).unwrap()
}

/// A program that passes everything, attached as someone else might have done it.
fn foreign_xdp(node: &Node, interface: &str) -> aya::Ebpf {
    let mut foreign = foreign();
    let program: &mut Xdp = foreign.program_mut("portcullis_null").unwrap().try_into().unwrap();
    program.load().unwrap();
    node.node.enter(|| program.attach(interface, XdpMode::Driver)).unwrap().unwrap();
    foreign
}

/// The same at TC; with maps of its own, so that nothing is ours to it.
fn foreign_tcx(node: &Node, attach: TcAttachType) -> aya::Ebpf {
    let mut foreign = foreign();
    let program: &mut SchedClassifier = foreign.program_mut("portcullis_tc").unwrap().try_into().unwrap();
    program.load().unwrap();
    let last = TcAttachOptions::TcxOrder(LinkOrder::default());
    node.node.enter(|| program.attach_with_options("eth0", attach, last)).unwrap().unwrap();
    foreign
}

fn xdp_program(node: &Node, interface: &str) -> u64 {
    let text = node.node.run(&format!("ip -json -details link show dev {interface}")).unwrap();
    let links: Value = serde_json::from_str(&text).unwrap();
    links[0]["xdp"]["prog"]["id"].as_u64().unwrap_or(0)
}

/// Numbers of the programs at TC of eth0, in the order in which they run.
fn tc_programs(node: &Node, direction: &str) -> Vec<u64> {
    let attach = if direction == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
    let query = || SchedClassifier::query_tcx("eth0", attach).map(|(_, programs)| programs);
    let links = match tc_means().unwrap() {
        "tcx" => node.node.enter(query).unwrap().unwrap(),
        _ => Vec::new(),
    };
    let text = node.node.run(&format!("tc -json filter show dev eth0 {direction}")).unwrap();
    let filters: Value = serde_json::from_str(&text).unwrap();
    let of_filters =
        filters.as_array().unwrap().iter().filter_map(|filter| filter["options"]["prog"]["id"].as_u64());
    links.iter().map(|program| u64::from(program.id())).chain(of_filters).collect()
}

fn second_network(node: &Node) {
    netns::veth(&node.client, "eth1", &node.node, "eth1").unwrap();
    netns::addresses(&node.client, "eth1", &[&format!("{CLIENT_B}/24")]).unwrap();
    netns::addresses(&node.node, "eth1", &[&format!("{NODE_B}/24")]).unwrap();
}

#[test]
fn beside_a_foreign_xdp_program_the_interface_is_served_at_tc() {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32]"))).unwrap();
    let foreign = foreign_xdp(&node, "eth0");
    let theirs = xdp_program(&node, "eth0");
    let process = node.run("run", &[]).unwrap();
    node.wait_served().unwrap();
    let status = node.status().unwrap();
    assert_eq!((&status["mode"], &status["interfaces"][0]["mode"]), (&"tc".into(), &"tc".into()));
    let log = process.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("stepping down to tc")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("eth0") && lines[0].contains(&format!("id {theirs}")), "{log}");
    assert_lists_hold(&node);
    assert_eq!(xdp_program(&node, "eth0"), theirs, "still there");
    let metrics = node.admin("run", "/metrics").unwrap();
    assert!(metrics.contains("portcullis_dataplane_mode{interface=\"eth0\",mode=\"tc\"} 1"), "{metrics}");
    assert!(node.admin("run", "/degraded").unwrap().contains("foreign XDP program"));

    // It goes: the better hook is taken, and the other one left.
    drop(foreign);
    node.node.run("ip link set dev eth0 xdp off").unwrap();
    node.wait_for("XDP to be taken", || Ok(mode(&node, "eth0") == "xdp-native")).unwrap();
    node.wait_for("TC to be left", || Ok(tc_programs(&node, "ingress").is_empty())).unwrap();
    assert_lists_hold(&node);
}

#[test]
fn tc_can_be_asked_for_and_left_again() {
    let (node, process) = served(&["--mode", "tc"]);
    assert_eq!(mode(&node, "eth0"), "tc");
    assert_eq!(xdp_program(&node, "eth0"), 0);
    assert_eq!(interface(&node, "eth0")["egress"]["by"], tc_means().unwrap());
    assert!(!process.log().contains("stepping down"), "{}", process.log());
    assert_lists_hold(&node);
    let egress = interface(&node, "eth0")["egress"]["link_id"].clone();
    process.kill();
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut, "still denied");

    let native = node.run("native", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    assert_eq!(mode(&node, "eth0"), "xdp-native");
    assert_eq!(tc_programs(&node, "ingress"), Vec::<u64>::new());
    assert_eq!(interface(&node, "eth0")["egress"]["link_id"], egress, "the link was never detached");
    assert_lists_hold(&node);
    native.kill();

    let _tc = node.run("tc", &["--mode", "tc"]).unwrap();
    node.wait_served().unwrap();
    assert_eq!((mode(&node, "eth0").as_str(), xdp_program(&node, "eth0")), ("tc", 0));
    assert_lists_hold(&node);
}

#[test]
fn kernels_without_tcx_are_served_by_filters() {
    let flags = ["--mode", "tc", "--without-tcx"];
    let (node, process) = served(&flags);
    assert_eq!(mode(&node, "eth0"), "tc");
    assert_eq!(interface(&node, "eth0")["egress"]["by"], "clsact");
    assert_lists_hold(&node);
    let program = interface(&node, "eth0")["program_id"].clone();
    process.kill();
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut, "still denied");

    let second = node.run("second", &flags).unwrap();
    node.wait_served().unwrap();
    node.wait_for("the filter's new program", || Ok(interface(&node, "eth0")["program_id"] != program))
        .unwrap();
    assert_eq!(tc_programs(&node, "ingress").len(), 1, "replaced, not added");
    assert_lists_hold(&node);
    second.kill();

    // And from filters to links.
    let third = node.run("third", &["--mode", "tc"]).unwrap();
    node.wait_for("links", || Ok(interface(&node, "eth0")["egress"]["by"] == "tcx")).unwrap();
    assert_eq!(tc_programs(&node, "ingress").len(), 1);
    let qdisc = || node.node.run("tc qdisc show dev eth0").unwrap();
    node.wait_for("the qdisc to go", || Ok(!qdisc().contains("clsact"))).unwrap();
    third.kill();

    let fourth = node.run("fourth", &flags).unwrap();
    node.wait_for("filters", || Ok(interface(&node, "eth0")["egress"]["by"] == "clsact")).unwrap();
    fourth.kill();
    let printed = node.tool(&["cleanup"]).unwrap();
    for part in ["filter in", "filter out", "qdisc clsact"] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
    assert!(!qdisc().contains("clsact"), "{}", qdisc());
    assert!(!node.bpffs().join("portcullis").exists());
}

#[test]
fn a_filter_of_others_stays_with_its_qdisc() {
    let node = Node::new().unwrap();
    node.node.run("tc qdisc add dev eth0 clsact").unwrap();
    let mut foreign = foreign();
    let program: &mut SchedClassifier = foreign.program_mut("portcullis_tc").unwrap().try_into().unwrap();
    program.load().unwrap();
    let pin = node.bpffs().join("theirs");
    program.pin(&pin).unwrap();
    let add = format!("tc filter add dev eth0 egress pref 7 bpf da object-pinned {}", pin.display());
    node.node.run(&add).unwrap();
    let process = node.run("run", &["--mode", "tc", "--without-tcx"]).unwrap();
    node.wait_served().unwrap();
    process.kill();
    let printed = node.tool(&["cleanup"]).unwrap();
    assert!(printed.contains("filter out") && !printed.contains("qdisc"), "{printed}");
    let left = node.node.run("tc filter show dev eth0 egress").unwrap();
    assert!(left.contains("pref 7") && !left.contains("portcullis_out"), "{left}");
}

#[test]
fn at_tc_ours_go_behind_those_of_others() {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32]"))).unwrap();
    let _foreign = [foreign_tcx(&node, TcAttachType::Ingress), foreign_tcx(&node, TcAttachType::Egress)];
    let theirs = [tc_programs(&node, "ingress"), tc_programs(&node, "egress")];
    assert!(theirs.iter().all(|programs| programs.len() == 1), "{theirs:?}");
    let _process = node.run("run", &["--mode", "tc"]).unwrap();
    node.wait_served().unwrap();
    for (direction, theirs) in ["ingress", "egress"].into_iter().zip(theirs) {
        let all = tc_programs(&node, direction);
        assert_eq!((all.len(), all[0]), (2, theirs[0]), "{direction}");
    }
    assert_lists_hold(&node);
}

#[test]
fn each_interface_gets_what_it_takes_and_new_ones_within_seconds() {
    let node = Node::new().unwrap();
    second_network(&node);
    let _foreign = foreign_xdp(&node, "eth1");
    let process = node.run("run", &[]).unwrap();
    node.wait_served().unwrap();
    assert_eq!((mode(&node, "eth0").as_str(), mode(&node, "eth1").as_str()), ("xdp-native", "tc"));
    assert_eq!(node.status().unwrap()["mode"], "tc", "the node's mode is the slowest");
    assert_eq!(process.log().matches("stepping down").count(), 1, "{}", process.log());

    netns::veth(&node.client, "eth2", &node.node, "eth2").unwrap();
    netns::addresses(&node.node, "eth2", &["198.18.2.1/24"]).unwrap();
    node.wait_for("programs on the new interface", || Ok(mode(&node, "eth2") == "xdp-native")).unwrap();
    assert!(node.node.run("ip link show dev eth2").unwrap().contains("xdp"));

    let pins = || std::fs::read_dir(node.bpffs().join("portcullis/links")).unwrap().count();
    let with_three = pins();
    node.node.run("ip link delete eth2").unwrap();
    node.wait_for("the pins of the gone interface to go", || Ok(pins() == with_three - 2)).unwrap();
    assert_eq!(mode(&node, "eth2"), "none");
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    let ifaces: Value =
        serde_json::from_str(&node.tool(&["maps", "ifaces", "--output", "json"]).unwrap()).unwrap();
    let addresses: Vec<_> = ifaces.as_array().unwrap().iter().map(|iface| iface["address"].clone()).collect();
    assert_eq!(addresses, [Value::from(NODE), Value::from(NODE_B)]);
}

#[test]
fn an_interface_that_takes_nothing_is_told_of_and_no_reason_for_userspace_mode() {
    let (node, process) = served(&["--interface", "eth0", "--interface", "eth7"]);
    assert_eq!(node.status().unwrap()["mode"], "xdp-native");
    let degraded = node.admin("run", "/degraded").unwrap();
    assert!(degraded.contains("eth7") && degraded.contains("--interface"), "{degraded}\n{}", process.log());
    netns::veth(&node.client, "eth7", &node.node, "eth7").unwrap();
    node.wait_for("the named interface to be served once it is there", || {
        Ok(mode(&node, "eth7") == "xdp-native")
    })
    .unwrap();
    node.wait_for("nothing to be told any more", || Ok(!node.admin("run", "/degraded")?.contains("eth7")))
        .unwrap();
}

#[test]
fn a_link_that_somebody_detached_is_attached_again() {
    let (node, _process) = served(&["--mode", "xdp-native"]);
    let links = std::fs::read_dir(node.bpffs().join("portcullis/links")).unwrap();
    for link in links.flatten().filter(|link| link.file_name() != "sk_lookup") {
        run(Command::new("bpftool").args(["link", "detach", "pinned"]).arg(link.path())).unwrap();
    }
    assert_eq!(xdp_program(&node, "eth0"), 0);
    node.wait_for("the programs to be back", || {
        Ok(mode(&node, "eth0") == "xdp-native" && interface(&node, "eth0")["egress"]["by"] == "tcx")
    })
    .unwrap();
    assert_lists_hold(&node);
}

#[test]
fn no_neighbour_learns_from_this_node_where_a_vip_is() {
    for (flags, learns) in [(&["--mode", "userspace"][..], true), (&["--mode", "xdp-native"], false)] {
        let node = Node::new().unwrap();
        // A node that announces the VIP may well say so.
        node.write("pool.yaml", &pool("announce: None")).unwrap();
        let _process = node.run("run", flags).unwrap();
        node.wait_served().unwrap();
        // The client asks nothing; the answer's first packet makes the node ask who has it, in the name of the VIP.
        let link: Value =
            serde_json::from_str(&node.node.run("ip -json link show dev eth0").unwrap()).unwrap();
        let mac = link[0]["address"].as_str().unwrap();
        node.client.run(&format!("ip neigh replace {NODE} lladdr {mac} nud permanent dev eth0")).unwrap();
        node.client.run("ip neigh flush dev eth0").unwrap();
        node.node.run("ip neigh flush dev eth0").unwrap();
        assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
        let learned = node.client.run("ip neigh show dev eth0").unwrap();
        assert_eq!(learned.contains(VIP), learns, "{flags:?}: {learned}");
    }
}
