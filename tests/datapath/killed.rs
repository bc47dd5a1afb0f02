//! SIGKILL at random moments, while lists, limits and pools change and clients are at work.
//!
//! Whatever dies, and whenever: a source that every policy denies never gets in, the next start needs no help, and what
//! lies in the kernel afterwards is what a node without an accident would have. While only the agent dies no client notices.
//! The seed is part of each failure; `INGRESS_TEST_SEED` runs it again.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, CLIENT6, NODE, Node, OTHER, Process, VIP, VIP6, policy, run};
use serde_json::Value;

use crate::restarts::{End, fresh, kept};

/// For how long processes are killed.
const STORM: Duration = Duration::from_secs(6);
/// Of a client that nobody shall answer.
const PATIENCE: Duration = Duration::from_millis(100);
/// A VIP that comes and goes.
const LATER: &str = "198.18.100.11";

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("INGRESS_TEST_SEED").ok();
        let seed = given.map_or_else(
            || u64::from(SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()),
            |text| text.parse().expect("INGRESS_TEST_SEED is a number"),
        );
        Self(seed | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Which processes are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Agent,
    Proxy,
    /// Agent and proxy in one process.
    Both,
}

/// A policy that always denies the same source, and is different each time.
fn any_policy(random: &mut Random) -> String {
    let mut denied = vec![format!("{OTHER}/32")];
    denied.extend((0..random.below(300)).map(|_| {
        let bits = random.below(1 << 16);
        format!("203.0.{}.{}/32", bits >> 8, bits & 255)
    }));
    // Wider and longer prefixes around the one that counts: what covers it comes and goes.
    denied.extend((random.below(2) == 0).then(|| "198.18.0.64/29".to_owned()));
    let limit = ["connections", "packets"][random.below(2) as usize];
    let limits = (0..random.below(4))
        .map(|nth| format!("{{per: Source, {limit}PerSecond: {0}, burst: {0}}}", 100_000 + nth))
        .collect::<Vec<_>>();
    let exempt = if random.below(2) == 0 { "198.18.0.0/24" } else { "192.0.2.0/24" };
    policy(&format!("deny: [{}], limits: [{}], exempt: [\"{exempt}\"]", denied.join(", "), limits.join(", ")))
}

/// Changes the manifests until told to stop; the last policy.
fn keep_changing(node: &Node, random: &mut Random, stop: &AtomicBool) -> String {
    let pool = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: AddressPool\nmetadata: {{name: later}}\n\
         spec: {{blocks: [{{cidr: {LATER}/32}}]}}\n"
    );
    loop {
        let policy = any_policy(random);
        node.write("policy.yaml", &policy).unwrap();
        match random.below(3) {
            0 => node.write("later.yaml", &pool).unwrap(),
            1 => drop(std::fs::remove_file(node.folder.join("manifests/later.yaml"))),
            _ => {}
        }
        if stop.load(Ordering::Relaxed) {
            return policy;
        }
        std::thread::sleep(Duration::from_millis(random.below(250)));
    }
}

/// Asks as the denied source, over and over: how often, and what was ever answered.
fn keep_trying(node: &Node, stop: &AtomicBool) -> (usize, Vec<Outcome>) {
    let (mut tried, mut heard) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let outcome = node.get_within(OTHER, VIP, 80, PATIENCE).unwrap();
        if outcome != Outcome::TimedOut {
            heard.push(outcome);
        }
        tried += 1;
    }
    (tried, heard)
}

/// Starts what is to be killed.
fn start(node: &Node, victim: Victim, name: &str) -> Process {
    match victim {
        Victim::Agent => node.agent(name, &["--mode", "xdp-native"]),
        Victim::Proxy => node.proxy(name),
        Victim::Both => node.run(name, &["--mode", "xdp-native"]),
    }
    .unwrap()
}

/// Kills and starts again for a while; the last one lives. A life is twice as long at most as it took the first to serve.
fn storm(
    node: &Node,
    victim: Victim,
    (first, took): (Process, Duration),
    random: &mut Random,
) -> (Process, usize) {
    let life = u64::try_from(2 * took.as_millis()).unwrap().clamp(1, 3000);
    let end = Instant::now() + STORM;
    let (mut running, mut killed) = (first, 0);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(random.below(life)));
        running.kill();
        killed += 1;
        running = start(node, victim, &format!("again-{}", killed % 4));
    }
    (running, killed)
}

/// The names of pins below a folder.
fn pins(node: &Node, folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(node.bpffs().join("portcullis").join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The prefixes that a map of lists holds.
fn listed(node: &Node) -> anyhow::Result<BTreeSet<String>> {
    let text = node.tool(&["maps", "acl4", "--output", "json"])?;
    let entries: Vec<Value> = serde_json::from_str(&text)?;
    Ok(entries.iter().map(|entry| entry["prefix"].as_str().unwrap_or_default().to_owned()).collect())
}

/// The prefixes that a policy of [`any_policy`] names.
fn named(policy: &str) -> BTreeSet<String> {
    let words = policy.split(['[', ']', ',', ' ', '"']);
    words
        .filter(|word| word.contains('/') && word.contains('.') && !word.contains("portcullis"))
        .map(str::to_owned)
        .collect()
}

/// What a node without an accident would have, and nothing else; at last nothing at all.
fn assert_consistent(node: &Node, last_policy: &str, processes: Vec<Process>) {
    node.wait_served().unwrap();
    node.wait_for("the lists of the last policy", || Ok(listed(node)? == named(last_policy))).unwrap();
    let status = node.status().unwrap();
    assert_eq!(status["mode"], "xdp-native", "{status:#}");
    assert!(node.tool(&["status"]).unwrap().contains("agent: running"));
    let interface = &status["interfaces"][0];
    let expected: BTreeSet<String> = ["sk_lookup".to_owned()]
        .into_iter()
        .chain(pins(node, "links").into_iter().filter(|pin| pin.ends_with("-2")))
        .collect();
    assert_eq!(pins(node, "links"), expected, "{interface:#}");
    assert_eq!(expected.len(), 3, "one link at SK_LOOKUP, one at XDP, one at TC: {expected:?}");
    assert_eq!(pins(node, ""), ["links", "v2"].map(str::to_owned).into(), "no other pins");
    let has_later = node.folder.join("manifests/later.yaml").exists();
    node.wait_for("the routes of the pools", || {
        let way = node.node.run(&format!("ip route get {LATER}")).unwrap_or_default();
        Ok(way.starts_with("local") == has_later)
    })
    .unwrap();
    assert_eq!(node.get_within(OTHER, VIP, 80, PATIENCE).unwrap(), Outcome::TimedOut);
    processes.into_iter().for_each(Process::kill);
    node.tool(&["cleanup"]).unwrap();
    assert!(!node.bpffs().join("portcullis").exists());
    let link = run(Command::new("ip").args([
        "netns",
        "exec",
        node.node.name(),
        "ip",
        "link",
        "show",
        "dev",
        "eth0",
    ]))
    .unwrap();
    assert!(!link.contains("xdp"), "{link}");
    assert_eq!(node.node.run("ip route show table local proto 74").unwrap(), "");
}

fn killed_at_random(victim: Victim) {
    let mut random = Random::new();
    let seed = random.0;
    let node = Node::new().unwrap();
    node.client.run(&format!("ip route add {LATER} via {NODE}")).unwrap();
    node.write("policy.yaml", &any_policy(&mut random)).unwrap();
    let mut processes = Vec::new();
    match victim {
        Victim::Agent => processes.push(start(&node, Victim::Proxy, "proxy")),
        Victim::Proxy => processes.push(start(&node, Victim::Agent, "agent")),
        Victim::Both => {}
    }
    let since = Instant::now();
    let first = start(&node, victim, "first");
    node.wait_served().unwrap();
    let took = since.elapsed();
    let stop = AtomicBool::new(false);
    let last_policy = std::thread::scope(|scope| {
        let (node, stop) = (&node, &stop);
        let mut of_changes = Random(random.below(u64::MAX) | 1);
        let denied = scope.spawn(move || keep_trying(node, stop));
        let changes = scope.spawn(move || keep_changing(node, &mut of_changes, stop));
        let loads = [
            scope.spawn(move || kept(node, VIP, stop)),
            scope.spawn(move || kept(node, VIP6, stop)),
            scope.spawn(move || fresh(node, (CLIENT, VIP), stop)),
            scope.spawn(move || fresh(node, (CLIENT6, VIP6), stop)),
        ];
        let end = End(stop);
        let (last, killed) = storm(node, victim, (first, took), &mut random);
        processes.push(last);
        node.wait_served().unwrap();
        drop(end);
        let about = format!("seed {seed}, {killed} kills");
        let (tried, heard) = denied.join().unwrap();
        assert!(tried > 10, "{about}: only {tried} attempts");
        assert_eq!(heard, [], "{about}: of {tried} attempts of a denied source");
        for load in loads {
            let (sent, failed) = load.join().unwrap();
            assert!(sent > 5, "{about}: only {sent} requests");
            if victim == Victim::Agent {
                assert_eq!(failed, Vec::<String>::new(), "{about}: of {sent} requests");
            }
        }
        changes.join().unwrap()
    });
    assert_consistent(&node, &last_policy, processes);
}

#[test]
fn an_agent_killed_at_any_moment_costs_no_client_anything() {
    killed_at_random(Victim::Agent);
}

#[test]
fn a_proxy_killed_at_any_moment_lets_no_denied_source_in() {
    killed_at_random(Victim::Proxy);
}

#[test]
fn agent_and_proxy_killed_together_at_any_moment_recover_by_themselves() {
    killed_at_random(Victim::Both);
}
