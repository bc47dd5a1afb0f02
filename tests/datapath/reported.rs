//! Each mode is told alike in the log, the metrics and both forms of `portcullis status`, and it is what the kernel does.

use aya::programs::{SchedClassifier, TcAttachType};
use ingress_tests::node::Node;
use ingress_tests::release::tc_means;
use serde_json::Value;

/// A mode, and what the kernel has on the interface then.
struct Case {
    mode: &'static str,
    /// 0: no program at XDP, 1: in the driver, 2: the generic one.
    xdp: u64,
    /// Programs at TC on the way in, and on the way out.
    tc: [usize; 2],
}

const CASES: &[Case] = &[
    Case { mode: "xdp-native", xdp: 1, tc: [0, 1] },
    Case { mode: "xdp-generic", xdp: 2, tc: [0, 1] },
    Case { mode: "tc", xdp: 0, tc: [1, 1] },
    Case { mode: "userspace", xdp: 0, tc: [0, 0] },
];

#[test]
fn each_mode_is_told_alike_everywhere_and_the_kernel_agrees() {
    let node = Node::new().unwrap();
    for case in CASES {
        let mode = case.mode;
        let process = node.run(mode, &["--mode", mode]).unwrap();
        node.wait_for("the mode", || Ok(node.status().is_ok_and(|status| status["mode"] == mode))).unwrap();
        node.wait_served().unwrap();
        assert_is_the_kernels(&node, case);
        assert_is_in_status(&node, mode);

        let log = process.log();
        let up: Vec<&str> = log.lines().filter(|line| line.contains("data plane is up")).collect();
        assert!(matches!(up[..], [line] if line.contains(&format!("mode=\"{mode}\""))), "{mode}: {log}");
        assert!(!log.contains("stepping down"), "{mode}: {log}");

        let metrics = node.admin(mode, "/metrics").unwrap();
        let told: Vec<&str> =
            metrics.lines().filter(|line| line.starts_with("portcullis_dataplane_mode{")).collect();
        let interface = if mode == "userspace" { "" } else { "eth0" };
        assert_eq!(
            told,
            [format!("portcullis_dataplane_mode{{interface=\"{interface}\",mode=\"{mode}\"}} 1")],
            "{mode}"
        );
        assert!(process.stop().unwrap().success(), "{mode}");
    }
}

fn assert_is_in_status(node: &Node, mode: &str) {
    let status = node.status().unwrap();
    let interfaces = status["interfaces"].as_array().unwrap();
    let text = node.tool(&["status"]).unwrap();
    assert!(text.starts_with(&format!("mode: {mode}")), "{text}");
    if mode == "userspace" {
        assert!(interfaces.is_empty(), "{status:#}");
        return;
    }
    let means = tc_means().unwrap();
    assert_eq!(interfaces.len(), 1, "{status:#}");
    let interface = &interfaces[0];
    assert_eq!((&interface["name"], &interface["mode"]), (&"eth0".into(), &mode.into()), "{status:#}");
    assert_eq!(interface["egress"]["by"], means, "{status:#}");
    // Filters have no link.
    assert_eq!(interface["link_id"].is_null(), mode == "tc" && means == "clsact", "{status:#}");
    let row = text.lines().find(|line| line.starts_with("eth0")).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((words[1], words[4]), (mode, means), "{row}");
}

fn assert_is_the_kernels(node: &Node, case: &Case) {
    let mode = case.mode;
    let text = node.node.run("ip -json -details link show dev eth0").unwrap();
    let links: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(links[0]["xdp"]["mode"].as_u64().unwrap_or(0), case.xdp, "{mode}: {text}");
    for (direction, expected) in ["ingress", "egress"].into_iter().zip(case.tc) {
        let means = tc_means().unwrap();
        let (links, filters) = (of_tcx(node, direction), of_clsact(node, direction));
        let expected = if means == "tcx" { (expected, 0) } else { (0, expected) };
        assert_eq!((links, filters), expected, "{mode}: links and filters, {direction}");
    }
}

fn of_tcx(node: &Node, direction: &str) -> usize {
    if tc_means().unwrap() != "tcx" {
        return 0;
    }
    let attach = if direction == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
    let query = || SchedClassifier::query_tcx("eth0", attach).map(|(_, programs)| programs.len());
    node.node.enter(query).unwrap().unwrap()
}

fn of_clsact(node: &Node, direction: &str) -> usize {
    let text = node.node.run(&format!("tc -json filter show dev eth0 {direction}")).unwrap();
    let filters: Value = serde_json::from_str(&text).unwrap();
    filters.as_array().unwrap().iter().filter(|filter| filter["options"]["prog"].is_object()).count()
}
