//! Upgrade and downgrade between versions whose kernel maps differ: `portcullis-next-layout` is this program with maps of
//! the next layout, of which one has another size.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, CLIENT6, Node, OTHER, Process, VIP, VIP6, policy, run};
use serde_json::Value;

use crate::bans::{flood, terms};

const SILENCE: Duration = Duration::from_millis(1500);

/// Which binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    This,
    Next,
}

impl Layout {
    fn binary(self) -> PathBuf {
        let this = ingress_tests::node::binary().unwrap();
        if self == Self::This {
            return this;
        }
        let next = this.with_file_name("portcullis-next-layout");
        assert!(next.exists(), "{} is not built; `cargo xtask test` builds it", next.display());
        next
    }

    fn folder(self, node: &Node) -> PathBuf {
        node.bpffs().join("portcullis").join(if self == Self::This { "v2" } else { "v3" })
    }

    fn start(self, node: &Node, name: &str) -> Process {
        let mut command = node.node.command(self.binary());
        command.arg("run").arg("--manifests").arg(node.folder.join("manifests"));
        command.arg("--admin-socket").arg(node.folder.join(format!("{name}.sock")));
        command.args(["--healthz-port", "0", "--workers", "2", "--drain-timeout", "10"]);
        command.arg("--bpffs").arg(node.bpffs()).args(["--mode", "xdp-native"]);
        node.start(name, &mut command).unwrap()
    }

    fn tool(self, node: &Node, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = node.node.command(self.binary());
        let command = command.args(arguments).args(["--output", "json"]).arg("--bpffs").arg(node.bpffs());
        Ok(serde_json::from_str(&run(command)?)?)
    }

    /// Whether new connections go to sockets of this process, in the maps of this layout. While they are being made or
    /// removed they cannot be read.
    fn is_served_by(self, node: &Node, pid: u32) -> anyhow::Result<bool> {
        Ok(self.serving(node).is_ok_and(|pids| pids == [u64::from(pid)])
            && self.is_in_use(node).unwrap_or(false))
    }

    /// The processes whose sockets new connections to the VIP go to.
    fn serving(self, node: &Node) -> anyhow::Result<Vec<u64>> {
        let listen = self.tool(node, &["maps", "listen"])?;
        let entry = listen.as_array().unwrap().iter().find(|e| e["address"] == VIP && e["port"] == 80);
        let Some(entry) = entry else { return Ok(Vec::new()) };
        let first = entry["first_slot"].as_u64().unwrap();
        let range = first..first + entry["slots"].as_u64().unwrap();
        let slots = self.tool(node, &["maps", "slots"])?;
        let members =
            slots.as_array().unwrap().iter().filter(|s| range.contains(&s["slot"].as_u64().unwrap()));
        let mut pids: Vec<u64> = members.map(|slot| slot["pid"].as_u64().unwrap()).collect();
        pids.dedup();
        Ok(pids)
    }

    /// Whether the program at SK_LOOKUP uses the maps of this layout.
    fn is_in_use(self, node: &Node) -> anyhow::Result<bool> {
        let show = |words: &[&str]| -> anyhow::Result<Value> {
            Ok(serde_json::from_str(&run(Command::new("bpftool").arg("--json").args(words))?)?)
        };
        let pinned = self.folder(node).join("listen");
        let map = show(&["map", "show", "pinned", &pinned.display().to_string()])?["id"].clone();
        let link = node.bpffs().join("portcullis/links/sk_lookup");
        let program = show(&["link", "show", "pinned", &link.display().to_string()])?["prog_id"].clone();
        let program = show(&["prog", "show", "id", &program.to_string()])?;
        Ok(program["map_ids"].as_array().is_some_and(|ids| ids.contains(&map)))
    }
}

/// Numbers of all pinned links.
fn links(node: &Node) -> Vec<Value> {
    let folder = node.bpffs().join("portcullis/links");
    let mut links: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| {
            let text =
                run(Command::new("bpftool").args(["--json", "link", "show", "pinned"]).arg(entry.path()))
                    .unwrap();
            (entry.file_name(), serde_json::from_str::<Value>(&text).unwrap()["id"].clone())
        })
        .collect();
    links.sort_by(|a, b| a.0.cmp(&b.0));
    links.into_iter().map(|(_, id)| id).collect()
}

/// Runs `change` under load of both families and asserts that no request failed.
fn without_a_failed_request(node: &Node, change: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = [(CLIENT, VIP), (CLIENT6, VIP6), (CLIENT, VIP)];
        let stop = &stop;
        let loads = ends.map(|(source, address)| {
            scope.spawn(move || {
                let (mut sent, mut failed) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let outcome = node.get(source, address, 80).unwrap();
                    if !outcome.is_ok() {
                        failed.push(outcome);
                    }
                    sent += 1;
                }
                (sent, failed)
            })
        });
        // Also when the change fails: else nobody would hear of it.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(change));
        stop.store(true, Ordering::Relaxed);
        if let Err(failure) = outcome {
            std::panic::resume_unwind(failure);
        }
        for thread in loads {
            let (sent, failed) = thread.join().unwrap();
            assert_eq!(failed, [], "of {sent} requests");
            assert!(sent > 20, "only {sent} requests");
        }
    });
}

#[test]
fn up_and_down_between_layouts_costs_no_request_and_forgets_no_source() {
    let node = Node::new().unwrap();
    let limits =
        format!("deny: [{OTHER}/32], limits: [{{per: Source, connectionsPerSecond: 10000, burst: 10000}}]");
    node.write("policy.yaml", &policy(&limits)).unwrap();
    let mut running = Layout::This.start(&node, "run-0");
    node.wait_served().unwrap();
    // A source that has used up a limit, as the program would have noted it.
    let buckets = Layout::This.folder(&node).join("buckets");
    let (key, value) = ("0 0 0 0 0 0 0 0 0 0 255 255 203 0 113 9 7 0 0 0", "1 2 3 4 5 6 7 8");
    let mut update = Command::new("bpftool");
    update.args(["map", "update", "pinned"]).arg(buckets).arg("key").args(key.split(' '));
    run(update.arg("value").args(value.split(' '))).unwrap();
    let before = links(&node);
    without_a_failed_request(&node, || {
        for (round, layout) in
            [Layout::Next, Layout::This, Layout::Next, Layout::This].into_iter().enumerate()
        {
            let next = layout.start(&node, &format!("run-{}", round + 1));
            let pid = next.id();
            node.wait_for("new connections to go to the new process", || layout.is_served_by(&node, pid))
                .unwrap();
            let other = if layout == Layout::This { Layout::Next } else { Layout::This };
            node.wait_for("the old maps to go", || Ok(!other.folder(&node).exists())).unwrap();
            assert_eq!(links(&node), before, "round {round}: the links were never detached");
            let buckets = layout.tool(&node, &["maps", "buckets"]).unwrap();
            assert!(
                buckets.as_array().unwrap().iter().any(|bucket| bucket["source"] == "203.0.113.9"),
                "round {round}: {buckets}"
            );
            let epoch = layout.tool(&node, &["status"]).unwrap()["agent"]["epoch"].clone();
            assert_eq!(epoch, round + 2, "epochs go on");
            std::mem::replace(&mut running, next).stop().unwrap();
        }
    });
    assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut, "still denied");
}

#[test]
fn a_ban_outlives_an_upgrade_and_a_downgrade() {
    let node = Node::new().unwrap();
    node.write("policy.yaml", &terms("10m", 100)).unwrap();
    let mut running = Layout::This.start(&node, "run-0");
    node.wait_for("an answer to an exempt client", || Ok(node.get(CLIENT, VIP, 80)?.is_ok())).unwrap();
    flood(&node, OTHER, VIP);
    let is_banned = |layout: Layout| {
        let bans = layout.tool(&node, &["bans"])?;
        Ok(bans.as_array().unwrap().iter().any(|ban| ban["source"] == format!("{OTHER}/32")))
    };
    node.wait_for("the ban", || is_banned(Layout::This)).unwrap();
    for (layout, name) in [(Layout::Next, "run-1"), (Layout::This, "run-2")] {
        let next = layout.start(&node, name);
        let pid = next.id();
        node.wait_for("new connections to go to the new process", || layout.is_served_by(&node, pid))
            .unwrap();
        assert!(is_banned(layout).unwrap(), "{layout:?}");
        assert_eq!(node.get_within(OTHER, VIP, 80, SILENCE).unwrap(), Outcome::TimedOut, "{layout:?}");
        assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok(), "exempt");
        std::mem::replace(&mut running, next).stop().unwrap();
    }
}

#[test]
fn an_agent_alone_takes_the_sockets_of_a_living_proxy_along() {
    let node = Node::new().unwrap();
    let agent = |layout: Layout, name: &str| {
        let mut command = node.node.command(layout.binary());
        command.arg("agent").arg("--manifests").arg(node.folder.join("manifests"));
        command.arg("--bpffs").arg(node.bpffs()).args(["--healthz-port", "0", "--mode", "xdp-native"]);
        // Another socket: the proxy never meets this agent, and serves all the same.
        command.arg("--link-socket").arg(node.folder.join(format!("{name}-link.sock")));
        node.start(name, &mut command).unwrap()
    };
    let first = node.agent("first", &["--mode", "xdp-native"]).unwrap();
    let proxy = node.proxy("proxy").unwrap();
    node.wait_served().unwrap();
    let pid = proxy.id();
    let mut running = first;
    without_a_failed_request(&node, || {
        for (layout, name) in [(Layout::Next, "second"), (Layout::This, "third")] {
            running.terminate().unwrap();
            let next = agent(layout, name);
            node.wait_for("the new maps to serve with the old proxy's sockets", || {
                layout.is_served_by(&node, pid)
            })
            .unwrap();
            running = next;
        }
    });
}

#[test]
fn an_upgrade_to_another_layout_that_dies_is_taken_back() {
    let node = Node::new().unwrap();
    let old = Layout::This.start(&node, "old");
    node.wait_served().unwrap();
    let new = Layout::Next.start(&node, "new");
    let (of_old, of_new) = (old.id(), new.id());
    node.wait_for("the new process to serve", || Layout::Next.is_served_by(&node, of_new)).unwrap();
    node.wait_for("the old one to step back", || Ok(old.log().contains("a newer agent has taken over")))
        .unwrap();
    assert!(!old.log().contains("was removed"), "{}", old.log());
    let status = node.tool(&["status"]).unwrap();
    assert!(status.contains("another version") && status.contains("layout v3"), "{status}");
    new.kill();
    node.wait_for("the old one to take over again", || Layout::This.is_served_by(&node, of_old)).unwrap();
    node.wait_for("the other maps to go", || Ok(!Layout::Next.folder(&node).exists())).unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}

#[test]
fn unknown_maps_in_the_folder_of_the_pins_are_no_obstacle() {
    let node = Node::new().unwrap();
    let strange = node.bpffs().join("portcullis/v99");
    std::fs::create_dir_all(&strange).unwrap();
    let make = |name: &str, kind: &str, key: &str, value: &str| {
        let mut command = Command::new("bpftool");
        command.args(["map", "create"]).arg(strange.join(name));
        command.args(["type", kind, "key", key, "value", value, "entries", "7", "name", "strange"]);
        run(&mut command).unwrap();
    };
    make("meta", "array", "4", "8");
    make("buckets", "hash", "3", "5");
    make("socks", "array", "4", "4");
    make("nobody", "hash", "4", "4");
    let process = Layout::This.start(&node, "run");
    node.wait_served().unwrap();
    let log = process.log();
    let line = log.lines().find(|line| line.contains("not taken over") && line.contains("buckets"));
    assert!(line.is_some_and(|line| line.contains("WARN")), "{log}");
    assert!(!strange.exists(), "it is gone once nothing uses it");
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
}
