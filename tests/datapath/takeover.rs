//! Processes come and go; what the kernel enforces and what clients see does not.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, NODE, Node, OTHER, VIP, policy};

const SILENCE: Duration = Duration::from_millis(1500);

/// Sends requests one after the other until told to stop, at least `least`; returns how many, and those that failed.
fn load(node: &Node, least: usize, stop: &AtomicBool) -> (usize, Vec<Outcome>) {
    let (mut sent, mut failed) = (0, Vec::new());
    while sent < least || !stop.load(Ordering::Relaxed) {
        let outcome = node.get(CLIENT, VIP, 80).unwrap();
        if !outcome.is_ok() {
            failed.push(outcome);
        }
        sent += 1;
    }
    (sent, failed)
}

/// Runs `change` under load and asserts that no request failed.
fn without_a_failed_request(node: &Node, change: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..3).map(|_| scope.spawn(|| load(node, 120, &stop))).collect();
        change();
        stop.store(true, Ordering::Relaxed);
        let mut all = 0;
        for thread in loads {
            let (sent, failed) = thread.join().unwrap();
            assert_eq!(failed, [], "of {sent} requests");
            all += sent;
        }
        assert!(all >= 300, "only {all} requests");
    });
}

fn link_ids(node: &Node) -> Vec<u64> {
    let status = node.status().unwrap();
    [&status["sk_lookup"]["link_id"], &status["interfaces"][0]["link_id"]]
        .map(|id| id.as_u64().unwrap_or_else(|| panic!("no link in {status:#}")))
        .to_vec()
}

#[test]
fn lists_and_limits_outlive_sigkill_and_the_next_process_takes_over() {
    let node = Node::new().unwrap();
    let limits = "limits: [{per: Source, connectionsPerSecond: 1, burst: 5}]";
    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32], {limits}"))).unwrap();
    let first = node.run("first", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let links = link_ids(&node);
    first.kill();

    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut, "still denied");
    let before = node.packets(VIP, "over-limit").unwrap();
    let outcomes: Vec<_> =
        (0..20).map(|_| node.get_within(CLIENT, VIP, 80, Duration::from_millis(100)).unwrap()).collect();
    assert!(node.packets(VIP, "over-limit").unwrap() > before, "still limited: {outcomes:?}");

    node.write("policy.yaml", &policy(&format!("deny: [{OTHER}/32]"))).unwrap();
    let _second = node.run("second", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    assert_eq!(link_ids(&node), links, "the links were never detached");
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    assert_eq!(node.status().unwrap()["agent"]["epoch"], 2);
}

#[test]
fn a_restarted_agent_costs_no_request() {
    let node = Node::new().unwrap();
    let agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let _proxy = node.proxy("proxy").unwrap();
    node.wait_served().unwrap();
    let links = link_ids(&node);
    without_a_failed_request(&node, || {
        agent.kill();
        let next = node.agent("next", &["--mode", "xdp-native"]).unwrap();
        node.wait_for("the next agent to take over", || Ok(node.status()?["agent"]["epoch"] == 2)).unwrap();
        node.wait_for("its proxy to come back", || Ok(next.log().contains("proxy joined"))).unwrap();
        std::mem::forget(next);
    });
    assert_eq!(link_ids(&node), links);
}

#[test]
fn an_upgrade_of_the_proxy_costs_no_request() {
    let node = Node::new().unwrap();
    let _agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let old = node.proxy("old").unwrap();
    node.wait_served().unwrap();
    let _new = {
        let mut new = None;
        without_a_failed_request(&node, || {
            let process = node.proxy("new").unwrap();
            let pid = u64::from(process.id());
            // The surge: the new one serves beside the old one before the old one is told to go.
            node.wait_for("new connections to go to the new proxy", || Ok(serving_pids(&node)? == [pid]))
                .unwrap();
            old.stop().unwrap();
            new = Some(process);
        });
        new
    };
}

#[test]
fn an_upgrade_of_the_whole_process_costs_no_request() {
    let node = Node::new().unwrap();
    let old = node.run("old", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let links = link_ids(&node);
    let mut new = None;
    without_a_failed_request(&node, || {
        let process = node.run("new", &["--mode", "xdp-native"]).unwrap();
        let pid = u64::from(process.id());
        node.wait_for("new connections to go to the new process", || Ok(serving_pids(&node)? == [pid]))
            .unwrap();
        old.stop().unwrap();
        new = Some(process);
    });
    assert_eq!(link_ids(&node), links);
    // The old process has left nothing that would take the new one's connections away.
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn a_killed_proxy_hands_over_to_the_one_beside_it() {
    let node = Node::new().unwrap();
    let _agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let first = node.proxy("first").unwrap();
    node.wait_served().unwrap();
    let second = node.proxy("second").unwrap();
    let (of_first, of_second) = (u64::from(first.id()), u64::from(second.id()));
    node.wait_for("the newer proxy to serve", || Ok(serving_pids(&node)? == [of_second])).unwrap();
    second.kill();
    node.wait_for("the older proxy to serve again", || Ok(serving_pids(&node)? == [of_first])).unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    first.kill();
    node.wait_for("the sockets to be forgotten", || Ok(serving_pids(&node)?.is_empty())).unwrap();
    // Clients of the VIP wait instead of being refused; the node's own ports are free for someone else.
    assert_eq!(node.get_within(CLIENT, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut);
    assert_eq!(node.get(CLIENT, NODE, 80).unwrap(), Outcome::Refused);
    let _third = node.proxy("third").unwrap();
    node.wait_served().unwrap();
}

#[test]
fn who_comes_before_the_first_proxy_listens_is_never_refused() {
    /// Each SYN has a new chance to come in the moment between.
    const CLIENTS: usize = 8;
    const PATIENCE: Duration = Duration::from_millis(10);
    let node = Node::new().unwrap();
    let _agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let ask = || node.get_within(CLIENT, VIP, 80, PATIENCE).unwrap();
    for round in 0..5 {
        node.wait_for("the VIP to be paused", || Ok(ask() == Outcome::TimedOut)).unwrap();
        std::thread::scope(|scope| {
            let until_answered = || {
                let deadline = Instant::now() + Duration::from_secs(20);
                let mut outcome = ask();
                while !outcome.is_ok() && outcome != Outcome::Refused && Instant::now() < deadline {
                    outcome = ask();
                }
                outcome
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(until_answered)).collect();
            let proxy = node.proxy(&format!("proxy-{round}")).unwrap();
            for client in clients {
                let outcome = client.join().unwrap();
                assert!(outcome.is_ok(), "round {round}: {outcome:?}");
            }
            assert!(proxy.stop().unwrap().success());
        });
    }
}

#[test]
fn a_proxy_that_drains_alone_lets_new_clients_wait() {
    let node = Node::new().unwrap();
    // A backend that never answers keeps a request open, and the drain with it.
    let silent = node.node.enter(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    silent.set_nonblocking(true).unwrap();
    let address = silent.local_addr().unwrap();
    let slow = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: slow, annotations: {{portcullis.dev/endpoints: \"{address}\"}}}}\n\
         spec: {{ports: [{{port: 80}}]}}\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: slow}}\n\
         spec: {{ingressClassName: portcullis, rules: [{{host: slow.example.test, http: {{paths: [\
         {{path: /, pathType: Prefix, backend: {{service: {{name: slow, port: {{number: 80}}}}}}}}]}}}}]}}\n"
    );
    node.write("slow.yaml", &slow).unwrap();
    let _agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let mut first = node.proxy("first").unwrap();
    node.wait_served().unwrap();
    let url = format!("http://{VIP}/");
    let mut open = node.client.command("curl");
    let mut open = open.args(["--silent", "--header", "Host: slow.example.test", &url]).spawn().unwrap();
    let mut taken = None;
    node.wait_for("the request to reach its backend", || {
        taken = silent.accept().ok();
        Ok(taken.is_some())
    })
    .unwrap();
    first.terminate().unwrap();
    node.wait_for("the sockets to be closed", || Ok(serving_pids(&node)?.is_empty())).unwrap();
    for _ in 0..3 {
        assert_eq!(node.get_within(CLIENT, VIP, 80, Duration::from_millis(400)).unwrap(), Outcome::TimedOut);
    }
    assert!(first.is_running(), "it drains still: {}", first.log());
    let _second = node.proxy("second").unwrap();
    node.wait_served().unwrap();
    open.kill().unwrap();
    open.wait().unwrap();
}

#[test]
fn a_proxy_finds_the_agent_again_after_another_one_came_and_went() {
    let node = Node::new().unwrap();
    let first = node.agent("first", &["--mode", "xdp-native"]).unwrap();
    let proxy = node.proxy("proxy").unwrap();
    node.wait_served().unwrap();
    let second = node.agent("second", &["--mode", "xdp-native"]).unwrap();
    node.wait_for("the first one to step back", || Ok(first.log().contains("a newer agent has taken over")))
        .unwrap();
    second.kill();
    node.wait_for("the first one to listen", || Ok(first.log().contains("listening for proxies again")))
        .unwrap();
    proxy.kill();
    let next = node.proxy("next").unwrap();
    node.wait_for("the next proxy to serve", || Ok(serving_pids(&node)? == [u64::from(next.id())])).unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn an_upgrade_that_dies_is_taken_back_by_the_process_beside_it() {
    let node = Node::new().unwrap();
    let old = node.run("old", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let of_old = u64::from(old.id());
    let new = node.run("new", &["--mode", "xdp-native"]).unwrap();
    let of_new = u64::from(new.id());
    node.wait_for("the new process to serve", || Ok(serving_pids(&node)? == [of_new])).unwrap();
    node.wait_for("the old one to step back", || Ok(old.log().contains("a newer agent has taken over")))
        .unwrap();
    new.kill();
    node.wait_for("the old one to take over again", || Ok(serving_pids(&node)? == [of_old])).unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    assert_eq!(node.status().unwrap()["agent"]["epoch"], 3);
}

#[test]
fn a_process_that_ends_in_order_says_so_and_the_one_beside_it_serves_at_once() {
    let node = Node::new().unwrap();
    let old = node.run("old", &["--mode", "xdp-native"]).unwrap();
    node.wait_served().unwrap();
    let of_old = u64::from(old.id());
    let new = node.run("new", &["--mode", "xdp-native"]).unwrap();
    let of_new = u64::from(new.id());
    node.wait_for("the new process to serve", || Ok(serving_pids(&node)? == [of_new])).unwrap();
    node.wait_for("the old one to step back", || Ok(old.log().contains("a newer agent has taken over")))
        .unwrap();
    assert!(new.stop().unwrap().success());
    let since = Instant::now();
    node.wait_for("the old one to take over again", || Ok(serving_pids(&node)? == [of_old])).unwrap();
    assert!(since.elapsed() < Duration::from_secs(5), "it need not wait for silence: {:?}", since.elapsed());
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    assert!(old.stop().unwrap().success());
    assert!(node.tool(&["status"]).unwrap().contains("agent: ended"));
}

/// The processes whose sockets new connections to the VIP's port 80 go to.
pub(crate) fn serving_pids(node: &Node) -> anyhow::Result<Vec<u64>> {
    let read = |map: &str| -> anyhow::Result<Vec<serde_json::Value>> {
        Ok(serde_json::from_str(&node.tool(&["maps", map, "--output", "json"])?)?)
    };
    let listen = read("listen")?;
    let Some(entry) = listen.iter().find(|entry| entry["address"] == VIP && entry["port"] == 80) else {
        return Ok(Vec::new());
    };
    let first = entry["first_slot"].as_u64().unwrap();
    let range = first..first + entry["slots"].as_u64().unwrap();
    let mut pids: Vec<u64> = read("slots")?
        .iter()
        .filter(|slot| range.contains(&slot["slot"].as_u64().unwrap()))
        .map(|slot| slot["pid"].as_u64().unwrap())
        .collect();
    pids.dedup();
    Ok(pids)
}
