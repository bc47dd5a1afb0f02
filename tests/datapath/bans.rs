//! Bans on a node: entered by the agent, kept by the kernel, seen and lifted by an operator.

use std::time::{Duration, Instant};

use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, CLIENT6, Node, OTHER, Process, VIP, VIP6, policy};
use serde_json::Value;

/// Long enough for an answer, short enough for a test of silence.
const SILENCE: Duration = Duration::from_millis(300);

/// Twenty packets a second, forty at once; the twentieth refused one leads to a ban.
fn banning(lasts: &str, max: u32) -> (Node, Process) {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &terms(lasts, max)).unwrap();
    let process = node.run("run", &["--mode", "xdp-native"]).unwrap();
    node.wait_for("an answer to an exempt client", || Ok(node.get(CLIENT, VIP, 80)?.is_ok())).unwrap();
    (node, process)
}

/// See [`banning`].
pub(crate) fn terms(lasts: &str, max: u32) -> String {
    policy(&format!(
        "exempt: [{CLIENT}/32], limits: [{{per: Source, packetsPerSecond: 20, burst: 40}}], \
         ban: {{after: 20, within: 1m, for: {lasts}, max: {max}}}"
    ))
}

/// Many packets at once.
pub(crate) fn flood(node: &Node, source: &str, to: &str) {
    let (source, to): (std::net::IpAddr, std::net::IpAddr) = (source.parse().unwrap(), to.parse().unwrap());
    node.client
        .enter(|| {
            let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
            for _ in 0..200 {
                socket.send_to(b"flood", (to, 80)).unwrap();
            }
        })
        .unwrap();
}

fn bans(node: &Node) -> anyhow::Result<Vec<Value>> {
    let bans: Value = serde_json::from_str(&node.tool(&["bans", "--output", "json"])?)?;
    Ok(bans.as_array().cloned().unwrap_or_default())
}

fn is_banned(node: &Node, source: &str) -> anyhow::Result<bool> {
    Ok(bans(node)?.iter().any(|ban| ban["source"] == source))
}

#[test]
fn a_source_that_floods_is_banned_until_its_time_is_over_and_an_exempt_one_never() {
    let (node, process) = banning("8s", 100);
    for (source, counted, to) in [(OTHER, "198.18.0.66/32", VIP), (CLIENT6, "2001:db8::/64", VIP6)] {
        flood(&node, CLIENT, VIP);
        flood(&node, source, to);
        node.wait_for("the ban", || is_banned(&node, counted)).unwrap();
        let begun = Instant::now();
        let ban = bans(&node).unwrap().into_iter().find(|ban| ban["source"] == counted).unwrap();
        assert_eq!((&ban["policy"], &ban["too_many"]), (&"edge".into(), &"packets".into()), "{ban}");
        let before = node.packets(to, "banned").unwrap();
        assert_eq!(node.get_within(source, to, 80, SILENCE).unwrap(), Outcome::TimedOut);
        assert!(node.packets(to, "banned").unwrap() > before, "dropped for the ban");
        let socket = node.folder.join("run.sock");
        let drops = node.tool(&["drops", "--once", "--admin-socket", socket.to_str().unwrap()]).unwrap();
        assert!(drops.contains("sources are banned"), "{drops}");
        let metrics = node.admin("run", "/metrics").unwrap();
        assert!(metrics.contains("portcullis_bans{policy=\"edge\"} 1"), "{metrics}");

        node.wait_for("the end of the ban", || Ok(node.get_within(source, to, 80, SILENCE)?.is_ok()))
            .unwrap();
        assert!(begun.elapsed() > Duration::from_secs(4), "it ended early");
        assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok(), "exempt");
    }
    assert!(!is_banned(&node, "198.18.0.10/32").unwrap());
    let metrics = node.admin("run", "/metrics").unwrap();
    assert!(metrics.contains("portcullis_bans_total{policy=\"edge\"} 2"), "{metrics}");
    process.stop().unwrap();
}

#[test]
fn a_ban_outlives_the_agent_is_capped_and_can_be_lifted() {
    let (node, process) = banning("10m", 1);
    flood(&node, OTHER, VIP);
    node.wait_for("the ban", || is_banned(&node, "198.18.0.66/32")).unwrap();
    process.kill();
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);

    let next = node.run("next", &["--mode", "xdp-native"]).unwrap();
    node.wait_for("an answer", || Ok(node.get(CLIENT, VIP, 80)?.is_ok())).unwrap();
    assert!(is_banned(&node, "198.18.0.66/32").unwrap());
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);

    // One is the most: the next is limited, not banned.
    flood(&node, CLIENT6, VIP6);
    let refused = "portcullis_bans_refused_total{policy=\"edge\"}";
    node.wait_for("the refusal", || Ok(node.admin("next", "/metrics")?.contains(refused))).unwrap();
    assert_eq!(bans(&node).unwrap().len(), 1);

    let lifted = node.tool(&["bans", "--lift", OTHER]).unwrap();
    assert!(lifted.contains("198.18.0.66/32"), "{lifted}");
    let error = node.tool(&["bans", "--lift", OTHER]).unwrap_err().to_string();
    assert!(error.contains("nobody in 198.18.0.66/32 is banned"), "{error}");
    assert_eq!(bans(&node).unwrap(), Vec::<Value>::new());
    node.wait_for("an answer", || Ok(node.get_within(OTHER, VIP, 80, SILENCE)?.is_ok())).unwrap();

    // Without a policy that bans, nobody is banned.
    flood(&node, OTHER, VIP);
    node.wait_for("the ban", || is_banned(&node, "198.18.0.66/32")).unwrap();
    node.write("policy.yaml", &policy("deny: [203.0.113.0/24]")).unwrap();
    node.wait_for("an answer", || Ok(node.get_within(OTHER, VIP, 80, SILENCE)?.is_ok())).unwrap();
    next.stop().unwrap();
}
