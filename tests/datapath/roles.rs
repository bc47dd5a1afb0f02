//! Agent and proxy as two processes, as in the two containers of a pod.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use ingress_tests::node::{CLIENT, CLIENT6, Node, Process, VIP, VIP6, run};

/// A folder as a pod volume with `fsGroup` is: set-group-id, so that the socket in it belongs to the proxy's group.
fn shared_folder(node: &Node) -> std::path::PathBuf {
    let folder = node.folder.join("shared");
    std::fs::create_dir(&folder).unwrap();
    run(Command::new("chgrp").arg("65534").arg(&folder)).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o2770)).unwrap();
    std::fs::set_permissions(&node.folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A proxy as uid 65534 without a single capability.
fn proxy_without_rights(node: &Node, link: &std::path::Path) -> Process {
    let mut command = node.node.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"]);
    command.args(["--inh-caps", "-all", "--no-new-privs"]).arg(ingress_tests::node::binary().unwrap());
    command.arg("proxy").arg("--link-socket").arg(link).args(["--healthz-port", "0", "--workers", "2"]);
    node.start("proxy", &mut command).unwrap()
}

#[test]
fn a_proxy_without_any_capability_serves_every_address() {
    let node = Node::new().unwrap();
    let link = shared_folder(&node).join("agent.sock");
    let agent = node.agent("agent", &["--mode", "xdp-native", "--link-socket", link.to_str().unwrap()]);
    let agent = agent.unwrap();
    let proxy = proxy_without_rights(&node, &link);
    node.wait_served().unwrap();
    assert!(node.get(CLIENT6, VIP6, 80).unwrap().is_ok());
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    for line in ["Uid:\t65534", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(status.contains(line), "{line} in\n{status}");
    }
    // The proxy serves on while there is no agent.
    agent.kill();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn an_agent_with_three_capabilities_has_all_it_needs() {
    let node = Node::new().unwrap();
    let mut command = node.node.command("setpriv");
    command.args(["--bounding-set", "-all,+bpf,+net_admin,+perfmon", "--inh-caps", "-all", "--no-new-privs"]);
    command.arg(ingress_tests::node::binary().unwrap()).arg("agent");
    command.arg("--manifests").arg(node.folder.join("manifests")).arg("--bpffs").arg(node.bpffs());
    command.arg("--link-socket").arg(node.link_socket()).args([
        "--healthz-port",
        "0",
        "--mode",
        "xdp-native",
    ]);
    let agent = node.start("agent", &mut command).unwrap();
    let _proxy = node.proxy("proxy").unwrap();
    node.wait_served().unwrap();
    assert_eq!(node.status().unwrap()["mode"], "xdp-native");
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let bits = (1_u64 << 12) | (1 << 38) | (1 << 39);
    assert!(status.contains(&format!("CapEff:\t{bits:016x}")), "{status}");
}

#[test]
fn in_userspace_mode_the_proxy_binds_the_ports_itself() {
    let node = Node::new().unwrap();
    let _agent = node.agent("agent", &["--mode", "userspace"]).unwrap();
    let _proxy = node.proxy("proxy").unwrap();
    node.wait_served().unwrap();
    assert!(node.get(CLIENT6, VIP6, 80).unwrap().is_ok());
    assert!(!node.bpffs().join("portcullis").exists(), "nothing in the kernel");
}
