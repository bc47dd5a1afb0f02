//! A fleet that changes under load: a node drains, one joins, packets begin to arrive elsewhere, the programs are replaced
//! across map layouts, and one node dies. Only the connections of the dead node may break.
//!
//! `INGRESS_TEST_CONNECTIONS` and `INGRESS_TEST_SWAPS` say how many connections are open, and how often the programs are
//! replaced in each direction.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ingress_tests::fleet::Fleet;
use ingress_tests::http::Outcome;
use ingress_tests::node::{Process, VIP, VIP6, binary};

/// A connection that gets no answer for so long is broken.
const PATIENCE: Duration = Duration::from_secs(15);
/// Connections of one thread.
const SHARE: usize = 50;
/// Pause between two rounds over the connections of a thread.
const PAUSE: Duration = Duration::from_millis(100);

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// A connection that is kept open, and the node that it is with.
struct Open {
    stream: TcpStream,
    owner: String,
}

impl Open {
    fn to(vip: &str) -> std::io::Result<Self> {
        let address = SocketAddr::new(vip.parse::<IpAddr>().unwrap(), 80);
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut open = Self { stream, owner: String::new() };
        open.owner = open.ask()?;
        Ok(open)
    }

    /// One request; who answered.
    fn ask(&mut self) -> std::io::Result<String> {
        self.stream.write_all(b"GET / HTTP/1.1\r\nHost: x.example.test\r\n\r\n")?;
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 1024];
            match self.stream.read(&mut part)? {
                0 => return Err(std::io::Error::other("closed")),
                read => answer.extend_from_slice(&part[..read]),
            }
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() >= "node-1".len()
            {
                let is_fine = head.starts_with("HTTP/1.1 200") && !head.contains("connection: close");
                return if is_fine {
                    Ok(body.to_owned())
                } else {
                    Err(std::io::Error::other(head.to_owned()))
                };
            }
        }
    }
}

/// Connections last as long as the run, however many requests that are.
const SETTINGS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default}
data: {keep-alive-requests: "1000000"}
"#;

fn agent(fleet: &Fleet, node: usize, name: &str, binary: &Path) -> Process {
    fleet.agent(node, name, binary, &["--configmap", "default/settings"]).unwrap()
}

/// What runs on a node.
struct Running {
    agent: Process,
    proxy: Process,
}

fn start(fleet: &Fleet, node: usize) -> Running {
    fleet.join(node, "active").unwrap();
    let agent = agent(fleet, node, &format!("agent-{node}"), &binary().unwrap());
    Running { agent, proxy: fleet.proxy(node, &format!("proxy-{node}")).unwrap() }
}

/// Which nodes take new connections.
fn owners(fleet: &Fleet) -> BTreeSet<String> {
    let answers = (0..40).map(|nth| fleet.get(if nth % 2 == 0 { VIP } else { VIP6 }).unwrap());
    answers
        .map(|answer| match answer {
            Outcome::Answered(200, body) => body,
            other => format!("{other:?}"),
        })
        .collect()
}

fn wait_for_owners(fleet: &Fleet, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    fleet.wait_for(&format!("new connections at {expected:?}"), || Ok(owners(fleet) == expected)).unwrap();
}

fn next_layout() -> PathBuf {
    let next = binary().unwrap().with_file_name("portcullis-next-layout");
    assert!(next.exists(), "{} is not built; `cargo xtask test` builds it", next.display());
    next
}

/// Replaces the agent of a node by this binary, which puts its own programs and maps in place.
fn swap(fleet: &Fleet, node: usize, running: &mut Running, name: &str, binary: &Path) {
    let program = |status: &serde_json::Value| status["interfaces"][0]["program_id"].clone();
    let is_up = |status: &serde_json::Value| status["agent"]["is_running"] != false;
    let before = [fleet.status(node), fleet.status_of(node, &next_layout())]
        .into_iter()
        .flatten()
        .map(|status| program(&status))
        .collect::<Vec<_>>();
    let next = agent(fleet, node, name, binary);
    fleet
        .wait_for("programs of the next agent", || {
            let Ok(status) = fleet.status_of(node, binary) else { return Ok(false) };
            let now = program(&status);
            Ok(!now.is_null() && !before.contains(&now) && is_up(&status))
        })
        .unwrap();
    std::mem::replace(&mut running.agent, next).stop().unwrap();
}

#[test]
fn only_the_connections_of_a_node_that_dies_break() {
    let (connections, swaps) = (number("INGRESS_TEST_CONNECTIONS", 200), number("INGRESS_TEST_SWAPS", 2));
    let fleet = Fleet::new(4).unwrap();
    fleet.write("pool.yaml", &ingress_tests::fleet::pool("")).unwrap();
    fleet.write("settings.yaml", SETTINGS).unwrap();
    let mut nodes: Vec<Running> = (1..=3).map(|node| start(&fleet, node)).collect();
    wait_for_owners(&fleet, &["node-1", "node-2", "node-3"]);

    let stop = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (fleet, stop, rounds) = (&fleet, &stop, &rounds);
        let threads = connections.div_ceil(SHARE);
        let loads: Vec<_> = (0..threads)
            .map(|thread| {
                let vip = if thread % 2 == 0 { VIP } else { VIP6 };
                let opened =
                    fleet.client.enter(|| (0..SHARE).map(|_| Open::to(vip)).collect::<Vec<_>>()).unwrap();
                let mut open: Vec<Open> = opened.into_iter().map(Result::unwrap).collect();
                scope.spawn(move || {
                    let mut broken = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        open.retain_mut(|one| match one.ask() {
                            Ok(owner) if owner == one.owner => true,
                            outcome => {
                                broken.push((one.owner.clone(), format!("{outcome:?}")));
                                false
                            }
                        });
                        rounds.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(PAUSE);
                    }
                    (open.len(), broken)
                })
            })
            .collect();
        let _end = End(stop);
        let all_worked = |fleet: &Fleet| {
            let since = rounds.load(Ordering::Relaxed);
            let enough = since + 2 * threads;
            fleet
                .wait_for("every connection to be used", || Ok(rounds.load(Ordering::Relaxed) > enough))
                .unwrap();
        };
        all_worked(fleet);

        fleet.join(3, "draining").unwrap();
        wait_for_owners(fleet, &["node-1", "node-2"]);
        all_worked(fleet);

        nodes.push(start(fleet, 4));
        wait_for_owners(fleet, &["node-1", "node-2", "node-4"]);
        all_worked(fleet);

        fleet.route_by(4).unwrap();
        wait_for_owners(fleet, &["node-1", "node-2", "node-4"]);
        all_worked(fleet);

        for nth in 0..swaps {
            for (direction, binary) in [("up", next_layout()), ("down", binary().unwrap())] {
                for (at, running) in nodes.iter_mut().enumerate() {
                    swap(fleet, at + 1, running, &format!("agent-{}-{direction}-{nth}", at + 1), &binary);
                }
                all_worked(fleet);
            }
        }

        let dead = nodes.remove(1);
        fleet.unplug(2).unwrap();
        dead.agent.kill();
        dead.proxy.kill();
        wait_for_owners(fleet, &["node-1", "node-4"]);
        all_worked(fleet);
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<_> = loads.into_iter().map(|load| load.join().unwrap()).collect();
        let broken: Vec<_> = ended.iter().flat_map(|(_, broken)| broken).collect();
        let (of_the_dead, others): (Vec<_>, Vec<_>) =
            broken.into_iter().partition(|(owner, _)| owner == "node-2");
        assert!(others.is_empty(), "{} broke: {:?}", others.len(), others.first());
        assert!(!of_the_dead.is_empty(), "the dead node had connections");
        let alive: usize = ended.iter().map(|(alive, _)| alive).sum();
        assert_eq!(alive + of_the_dead.len(), threads * SHARE);
    });
}

/// Ends the load also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
