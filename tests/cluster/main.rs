//! The chart on a real API server with two nodes: each scenario goes on where the one before ended.
//!
//! Started by `cargo xtask test cluster`. This program starts itself again inside of a rig
//! (`control-plane/rig.sh`), which ends with it; it needs root.

#![expect(clippy::indexing_slicing, reason = "JSON without the key is null, not a panic")]
#![expect(clippy::print_stdout, reason = "a test runner of its own talks to its user")]

mod absence;
mod addresses;
mod admission;
mod certificates;
mod conformance;
mod edit;
mod faults;
mod install;
mod platform;
mod problems;
mod rights;
mod scope;
mod suite;

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use ingress_tests::cluster::Rig;
use ingress_tests::kernel::EMPTY_PROGRAM;
use ingress_userspace::bpf::object::OBJECT;

/// What a scenario works with.
pub(crate) struct Context {
    pub(crate) rig: Rig,
    /// Keeps the programs at the switch's ends of the nodes' links.
    _passing: Ebpf,
}

/// An empty program at the other end of each node's link, without which a veth loses what XDP sends back by it.
fn passing() -> anyhow::Result<Ebpf> {
    let object = OBJECT.context("the tests were built without the kernel half")?;
    let mut passing = Ebpf::load(object)?;
    let program: &mut Xdp = passing.program_mut(EMPTY_PROGRAM).context("the empty program")?.try_into()?;
    program.load()?;
    for port in ["node-0", "node-1"] {
        program.attach(port, XdpMode::Driver)?;
    }
    Ok(passing)
}

/// The first VIP is routed to node 0, the second to node 1: so a test knows which node answered.
pub(crate) const VIPS: [&str; 2] = ["198.18.100.1", "198.18.100.2"];
pub(crate) const VIPS_V6: [&str; 2] = ["2001:db8:100::1", "2001:db8:100::2"];
pub(crate) const NODES: [&str; 2] = ["198.18.0.10", "198.18.0.11"];
/// A second client address on the switch.
pub(crate) const OTHER_CLIENT: &str = "198.18.0.200";
pub(crate) const HOST: &str = "shop.example.test";

/// A VIP or node address with the HTTP port.
#[expect(clippy::expect_used, reason = "only constants of this file come here")]
pub(crate) fn http(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), 80)
}

type Scenario = fn(&Context) -> anyhow::Result<()>;

/// How many of the first scenarios all others need.
const FOUNDATIONS: usize = 2;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("helm installs the chart and every pod becomes ready", install::chart),
    ("an Ingress answers on every VIP and node address", install::first_ingress),
    ("TLS is terminated with the certificate of the Secret", install::tls),
    ("ADDRESS is filled in with the VIPs", install::address),
    ("the kernel half is native XDP with its links pinned on each node", install::kernel_half),
    ("addresses: Services get, keep and give back addresses of a pool", addresses::services),
    ("addresses: nodes of pools are listed, and one of them announces", addresses::nodes),
    ("the proxy has no capability, no token and a read-only root", rights::proxy),
    ("the agent keeps three capabilities and may read only", rights::agent),
    ("the controller may write status and Events and nothing else", rights::controller),
    ("the webhook may read Ingresses and no Secret", rights::webhook),
    ("the webhook warns of what is ignored and denies what ingress-nginx denies", admission::webhook),
    ("webhook: denials and warnings are those of ingress-nginx", admission::verdicts),
    ("webhook: without it objects are stored, and its certificate is made again", admission::absent),
    ("copies follow their Secrets and go with them", admission::copies),
    ("hosts and paths match as the Ingress API says", conformance::rules),
    ("a default backend takes what no rule takes", conformance::default_backend),
    ("a challenge of cert-manager is answered before its host has a certificate", conformance::challenge),
    ("cert-manager issues and renews certificates", certificates::issued_and_renewed),
    ("conformance: the backends and Ingresses of the suite get an address", suite::deploy),
    ("conformance: path rules", suite::path_rules),
    ("conformance: host rules", suite::host_rules),
    ("conformance: default backend", suite::default_backend),
    ("conformance: load balancing", suite::load_balancing),
    ("conformance: ingress class", suite::ingress_class),
    ("an edited Ingress takes effect on both nodes", edit::path),
    ("a scaled Deployment gets traffic on all pods", edit::scale),
    ("an Ingress of another class gets no traffic and no status", edit::wrong_class),
    ("an Ingress that leaves the class loses traffic and status", edit::leaves_class),
    ("Events on bad objects name field, value and fix", edit::events),
    ("kubectl describe shows every kind of mistake within two seconds", problems::each_code),
    ("a storm of mistakes floods nobody and hides no other mistake", problems::storm),
    ("platform: what settings and Ingresses name reaches the agents as copies", platform::references),
    ("platform: bodies beyond memory have their room on disk, and no more", platform::bodies),
    ("platform: the status follows a published Service of every kind", platform::balancer),
    ("platform: an upgrade takes it all back", platform::restore),
    ("scope: one namespace, and rights nowhere else", scope::one_namespace),
    ("scope: namespaces by label", scope::labelled_namespaces),
    ("an EdgePolicy drops a source in the kernel", edit::edge_policy),
    ("an EdgePolicy bans a source, and an Event says whom", edit::ban),
    ("requests succeed while the API server is down, then changes apply", faults::api_server),
    ("absence: killed agents and proxies serve the last model without the API server", absence::start),
    ("absence: watches whose history is gone list again and fail no request", absence::gone),
    ("absence: a long one fails no request and no status is written after it", absence::long),
    ("absence: the Lease changes hands after it and no status flaps", absence::leader),
    ("a killed agent is started again without a failed request", faults::agent_killed),
    ("a killed leader is followed by the other replica", faults::leader_killed),
    ("a rolling update of the DaemonSet fails no request", faults::rolling_update),
    ("an update to an agent without rights stops at its first node, unnoticed", faults::broken_update),
    ("absence: an etcd restored from an older copy takes and brings back routes", absence::restored),
    ("without kernel programs the nodes' own addresses are served", install::userspace),
    ("a deleted Ingress answers 404", edit::delete),
];

fn main() -> anyhow::Result<()> {
    // `cargo test` passes its own flags; words are filters: the scenarios up to the last that matches one are run,
    // with `--only` those that match and the first ones, which all others build on.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let matches = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let is_only = std::env::args().any(|argument| argument == "--only");
    let Some(last) = SCENARIOS.iter().rposition(|(name, _)| matches(name)) else {
        println!("no scenario of the tier cluster matches {words:?}");
        return Ok(());
    };
    let Some(rig) = Rig::here() else { return Rig::enter() };
    let context = Context { rig, _passing: passing()? };
    let chosen = SCENARIOS.iter().enumerate().take(last + 1);
    let chosen = chosen.filter(|(at, (name, _))| !is_only || *at < FOUNDATIONS || matches(name));
    let chosen: Vec<&(&str, Scenario)> = chosen.map(|(_, scenario)| scenario).collect();
    println!("\nrunning {} scenarios", chosen.len());
    let begun = Instant::now();
    for (name, scenario) in chosen {
        let started = Instant::now();
        let outcome = scenario(&context);
        println!(
            "{} {name} ({:.1} s)",
            if outcome.is_ok() { "ok    " } else { "FAILED" },
            started.elapsed().as_secs_f64()
        );
        if let Err(error) = outcome {
            // Later scenarios build on this one. The reason stands last, where a long log is read from.
            println!("{}\n\nFAILED {name}\n{error:#}", context.rig.logs());
            std::process::exit(1);
        }
    }
    println!("all scenarios passed in {:.0} s\n", begun.elapsed().as_secs_f64());
    Ok(())
}
