//! What is missing is said once, the next mode is taken, and the service comes up.

use std::process::Command;

use ingress_tests::netns;
use ingress_tests::node::{CLIENT, NODE, Node, Process, VIP, run};

/// Starts `portcullis run` with these flags under `wrapper`, and waits until the VIP answers.
fn served(node: &Node, wrapper: &[&str], flags: &[&str]) -> Process {
    let mut command = match wrapper {
        [] => node.portcullis("run").unwrap(),
        [program, rest @ ..] => {
            let mut command = node.node.command(program);
            command.args(rest).arg(ingress_tests::node::binary().unwrap()).arg("run");
            command
        }
    };
    command.arg("--manifests").arg(node.folder.join("manifests"));
    command.args(["--healthz-port", "0", "--workers", "1"]);
    if !flags.contains(&"--bpffs") {
        command.arg("--bpffs").arg(node.bpffs());
    }
    let process = node.start("run", command.args(flags)).unwrap();
    node.wait_served().unwrap();
    process
}

/// What the log says where there is no kernel half.
const USERSPACE: &str = "data plane is up mode=\"userspace\"";

fn assert_said(process: &Process, once: &[&str]) {
    let log = process.log();
    for part in once {
        assert_eq!(log.lines().filter(|line| line.contains(part)).count(), 1, "{part:?} once in\n{log}");
    }
}

#[test]
fn a_step_down_blames_nobody_and_leaves_nothing_behind() {
    let node = Node::new().unwrap();
    let process = node.run("run", &["--interface", "nosuch"]).unwrap();
    node.wait_for("the data plane", || Ok(process.log().contains("data plane is up"))).unwrap();
    let log = process.log();
    assert!(log.contains("stepping down") && log.contains("interface nosuch does not exist"), "{log}");
    assert!(!log.contains("another agent"), "{log}");
    assert!(!node.bpffs().join("portcullis/v2").exists(), "its own maps are gone again");
}

#[test]
fn auto_takes_xdp_native_where_the_driver_has_it() {
    let node = Node::new().unwrap();
    let process = served(&node, &[], &[]);
    assert_eq!(node.status().unwrap()["mode"], "xdp-native");
    assert!(!process.log().contains("stepping down"), "{}", process.log());
}

/// What XDP in the driver sends by a veth is lost when the other end runs no program.
#[test]
fn a_node_that_sends_packets_on_takes_xdp_generic_on_a_veth_that_would_lose_them() {
    let node = Node::new().unwrap();
    for (name, address) in [("node-1", NODE), ("node-2", "198.18.0.11")] {
        let manifest = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n\
             status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
        );
        node.write(&format!("{name}.yaml"), &manifest).unwrap();
    }
    let process = node.run("run", &["--node-name", "node-1", "--mode", "xdp-native"]).unwrap();
    node.wait_for("the mode of a node that steers", || {
        Ok(node.status().is_ok_and(|status| status["interfaces"][0]["mode"] == "xdp-generic"))
    })
    .unwrap();
    let why = "the other end of this veth runs no XDP program";
    node.wait_for("a word of it", || Ok(node.admin("run", "/degraded")?.contains(why))).unwrap();
    assert_said(&process, &[why]);
}

#[test]
fn generic_mode_can_be_asked_for_and_left_again() {
    let node = Node::new().unwrap();
    let generic = served(&node, &[], &["--mode", "xdp-generic"]);
    assert_eq!(node.status().unwrap()["interfaces"][0]["mode"], "xdp-generic");
    generic.kill();
    let _native = served(&node, &[], &["--mode", "xdp-native"]);
    assert_eq!(node.status().unwrap()["interfaces"][0]["mode"], "xdp-native");
}

#[test]
fn an_interface_without_native_xdp_gets_generic() {
    for flags in [&[][..], &["--mode", "xdp-native"]] {
        steps_down_to_generic(flags);
    }
}

fn steps_down_to_generic(flags: &[&str]) {
    let node = Node::new().unwrap();
    // The driver of a macvlan has no XDP of its own.
    node.node.run("ip link add link eth0 name nic0 type macvlan mode private").unwrap();
    node.node.run("ip link set nic0 up").unwrap();
    node.node.run("ip addr flush dev eth0").unwrap();
    netns::addresses(&node.node, "nic0", &[&format!("{NODE}/24")]).unwrap();
    let process = served(&node, &[], flags);
    let status = node.status().unwrap();
    assert_eq!((&status["interfaces"][0]["name"], &status["mode"]), (&"nic0".into(), &"xdp-generic".into()));
    assert_said(&process, &["stepping down to xdp-generic"]);
}

#[test]
fn a_bpffs_is_mounted_where_only_that_is_missing() {
    let node = Node::new().unwrap();
    let plain = node.folder.join("plain");
    std::fs::create_dir(&plain).unwrap();
    let process = served(&node, &[], &["--bpffs", plain.to_str().unwrap()]);
    assert_said(&process, &["no bpffs was mounted, mounted one"]);
    assert!(process.log().contains("xdp-native"), "{}", process.log());

    // `ip netns exec` gave the process mounts of its own; cleanup must look where it was mounted.
    let mounts = || std::fs::read_to_string(format!("/proc/{}/mounts", process.id())).unwrap();
    assert!(mounts().contains(plain.to_str().unwrap()));
    let mut cleanup = node.node.command("nsenter");
    cleanup.arg(format!("--mount=/proc/{}/ns/mnt", process.id())).arg(ingress_tests::node::binary().unwrap());
    let printed = run(cleanup.arg("cleanup").arg("--bpffs").arg(&plain)).unwrap();
    assert!(printed.contains("removed mount"), "{printed}");
    assert!(!mounts().contains(plain.to_str().unwrap()), "{}", mounts());
}

#[test]
fn without_a_bpffs_the_node_serves_in_userspace_mode() {
    let node = Node::new().unwrap();
    let process = served(&node, &[], &["--bpffs", "/does/not/exist"]);
    assert_said(
        &process,
        &["stepping down to userspace mode", "mount -t bpf bpf /does/not/exist", USERSPACE],
    );
}

#[test]
fn without_btf_the_node_serves_in_userspace_mode() {
    let node = Node::new().unwrap();
    let wrapper =
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh"];
    let process = served(&node, &wrapper, &[]);
    assert_said(&process, &["stepping down to userspace mode", "CONFIG_DEBUG_INFO_BTF", USERSPACE]);
}

#[test]
fn without_rights_the_node_serves_in_userspace_mode() {
    let node = Node::new().unwrap();
    // What the rights for routes and low ports would have done; without them the message names it.
    node.node.run("ip route add local 198.18.100.10 dev lo").unwrap();
    node.node.run("sysctl -qw net.ipv4.ip_unprivileged_port_start=0").unwrap();
    let wrapper = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "-all"];
    for path in [node.folder.clone(), node.folder.join("manifests")] {
        run(Command::new("chmod").arg("755").arg(path)).unwrap();
    }
    let process = served(&node, &wrapper, &[]);
    assert_said(
        &process,
        &["stepping down to userspace mode", "CAP_BPF", "VIPs are not reachable", USERSPACE],
    );
}

#[test]
fn a_forced_mode_that_cannot_be_had_is_an_error_in_the_log_and_no_outage() {
    let node = Node::new().unwrap();
    let process = served(&node, &[], &["--mode", "xdp-native", "--interface", "eth7"]);
    let log = process.log();
    let line = log.lines().find(|line| line.contains("eth7")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("ERROR") && line.contains("--interface"), "{line}");
}

#[test]
fn userspace_mode_removes_the_kernel_half_of_an_earlier_process() {
    let node = Node::new().unwrap();
    served(&node, &[], &["--mode", "xdp-native"]).kill();
    let _process = served(&node, &[], &["--mode", "userspace"]);
    assert_eq!(node.status().unwrap()["mode"], "userspace");
    assert_eq!(xdp_program(&node), 0);
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn a_process_on_loopback_leaves_the_node_as_it_is() {
    let node = Node::new().unwrap();
    let serving = served(&node, &[], &["--mode", "xdp-native"]);
    let (program, routes) = (xdp_program(&node), vip_routes(&node));
    assert!(program != 0 && !routes.is_empty());
    let trial =
        ["--mode", "userspace", "--bind-address", "127.0.0.1", "--http-port", "0", "--https-port", "0"];
    let trial = node.run("trial", &trial).unwrap();
    node.wait_for("the trial process serves", || Ok(trial.log().contains("listener=\"https\""))).unwrap();
    assert!(trial.stop().unwrap().success());
    assert_eq!((xdp_program(&node), vip_routes(&node)), (program, routes));
    drop(serving);
}

#[test]
fn a_second_process_without_kernel_half_leaves_the_routes_of_the_first() {
    let node = Node::new().unwrap();
    let _first = served(&node, &[], &["--mode", "xdp-native"]);
    let routes = vip_routes(&node);
    let second = node.run("second", &["--bpffs", "/does/not/exist"]).unwrap();
    node.wait_for("the second to serve", || Ok(second.log().contains("listener=\"https\""))).unwrap();
    assert!(second.stop().unwrap().success());
    assert_eq!(vip_routes(&node), routes);
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn userspace_mode_takes_its_routes_with_it() {
    let node = Node::new().unwrap();
    let serving = served(&node, &[], &["--mode", "userspace"]);
    assert!(!vip_routes(&node).is_empty());
    assert!(serving.stop().unwrap().success());
    assert_eq!(vip_routes(&node), "");
}

/// Local routes of VIPs, by the protocol number that marks them.
fn vip_routes(node: &Node) -> String {
    ["-4", "-6"]
        .map(|family| node.node.run(&format!("ip {family} route show table local proto 74")).unwrap())
        .concat()
}

/// Number of the XDP program on the node's interface; 0: none.
fn xdp_program(node: &Node) -> u64 {
    let links: serde_json::Value =
        serde_json::from_str(&node.node.run("ip -json -details link show dev eth0").unwrap()).unwrap();
    links[0]["xdp"]["prog"]["id"].as_u64().unwrap_or(0)
}
