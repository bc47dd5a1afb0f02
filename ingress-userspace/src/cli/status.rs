//! `portcullis status`: mode per interface, links, versions, heartbeat and counters. Reads the pins; needs no agent, but
//! only an agent that runs knows whether its configuration is current.

mod pools;
mod sockets;

use std::io;
use std::path::Path;
use std::time::Duration;

use ingress_common::verdict::Reason;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{probe, text_table};
use crate::args::tools::{OutputFormat, StatusArgs};
use crate::bpf::counters::Node;
use crate::bpf::hits::Caught;
use crate::bpf::report::{self, Report, ReportError};

/// An agent that does not answer within this time is not asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The state cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// JSON.
    #[error("cannot encode the status")]
    Encode(#[from] serde_json::Error),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Runs the command.
pub async fn run(args: &StatusArgs, out: &mut (dyn io::Write + Send)) -> Result<(), StatusError> {
    let report = report::read(&args.bpffs).await?;
    let freshness = ask(&args.admin_socket, "/freshness").await;
    let degraded = ask(&args.admin_socket, "/degraded").await;
    let pools = ask(&args.admin_socket, "/pools").await;
    match (args.output, report) {
        (OutputFormat::Json, report) => {
            let other = report::other_layout(&args.bpffs);
            let none = serde_json::json!({
                "mode": other.map_or("userspace", |_| "unknown"), "interfaces": [], "counters": [], "other_layout": other,
            });
            let mut value = report.map_or(Ok(none), serde_json::to_value)?;
            if let Some(map) = value.as_object_mut() {
                map.insert("configuration".to_owned(), freshness.unwrap_or_default());
                map.insert("degraded".to_owned(), degraded.unwrap_or_default());
                map.insert("pools".to_owned(), pools.unwrap_or_default());
            }
            writeln!(out, "{value:#}")?;
        }
        (OutputFormat::Table, None) => {
            match report::other_layout(&args.bpffs) {
                Some(layout) => writeln!(
                    out,
                    "mode: unknown (the kernel half is that of another version, with maps of layout v{layout}; ask its \
                     `portcullis status`)"
                )?,
                None => writeln!(
                    out,
                    "mode: userspace (no kernel half under {}; an agent in a kernel mode would pin it there)",
                    args.bpffs.join("portcullis").display()
                )?,
            }
            print_degraded(degraded.as_ref(), out)?;
            print_freshness(freshness.as_ref(), out)?;
            print_pools(pools.as_ref(), &[], out)?;
        }
        (OutputFormat::Table, Some(report)) => {
            print_table(&report, (degraded.as_ref(), freshness.as_ref(), pools.as_ref()), out)?
        }
    }
    Ok(())
}

/// What the agent says of its configuration or its mode; `None` when there is none to ask.
async fn ask(socket: &Path, path: &str) -> Option<Value> {
    let answer = async { probe::ask(UnixStream::connect(socket).await?, path).await };
    let answer = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

fn print_freshness(freshness: Option<&Value>, out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    let Some(freshness) = freshness else { return Ok(()) };
    let says = |name: &str| freshness.get(name).and_then(Value::as_bool).unwrap_or_default();
    let seconds = freshness.get("stale_seconds").and_then(Value::as_i64).unwrap_or_default();
    match (says("is_current"), says("is_last_model")) {
        (true, _) => writeln!(out, "configuration: current"),
        (false, false) => {
            writeln!(out, "configuration: as of {seconds} s ago; the API server cannot be followed")
        }
        (false, true) => writeln!(
            out,
            "configuration: as of {seconds} s ago, kept by an earlier agent; the API server was not reached yet"
        ),
    }
}

/// Why the node serves by a slower mode than was asked for.
fn print_degraded(degraded: Option<&Value>, out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    let reasons = degraded.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for reason in reasons {
        writeln!(out, "degraded: {reason}")?;
    }
    Ok(())
}

/// Who answers a flood of SYNs, and how often it was done.
fn print_cookies(report: &Report, out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    let cookies = &report.syn_cookies;
    let when = match cookies.setting {
        None | Some(0) => "off (net.ipv4.tcp_syncookies)",
        Some(1) => "while a queue is full",
        Some(_) => "for every connection",
    };
    let here = report.counters.iter().filter(|count| count.reason == Reason::CookieSent.name());
    writeln!(
        out,
        "syn cookies: {when}; sent by {} {}, by the stack {}; accepted {}, failed {}\n",
        report.mode,
        here.map(|count| count.packets).sum::<u64>(),
        cookies.sent_by_stack,
        cookies.received,
        cookies.failed
    )
}

fn print_table(
    report: &Report,
    (degraded, freshness, pools): (Option<&Value>, Option<&Value>, Option<&Value>),
    out: &mut (dyn io::Write + Send),
) -> io::Result<()> {
    writeln!(out, "mode: {}", report.mode)?;
    print_degraded(degraded, out)?;
    print_freshness(freshness, out)?;
    if let Some(agent) = &report.agent {
        let state = match agent.heartbeat_age_seconds {
            None => "ended; the kernel goes on enforcing without it".to_owned(),
            Some(age) if agent.is_running => format!("running, last sign of life {age:.1} s ago"),
            Some(age) => format!("silent for {age:.0} s; the kernel goes on enforcing without it"),
        };
        writeln!(
            out,
            "agent: {state}; version {}, layout v{}, epoch {}",
            agent.build, agent.layout, agent.epoch
        )?;
    }
    match &report.sk_lookup {
        Some(link) => writeln!(out, "sk_lookup: link {}, program {}", link.link_id, link.program_id)?,
        None => writeln!(out, "sk_lookup: not attached")?,
    }
    let lookups = &report.lookups;
    writeln!(
        out,
        "listening: {} addresses and ports; connections handed over {}, missed {}, refused {}, moved when a \
         proxy ended {}",
        report.listening, lookups.handed_over, lookups.missed, lookups.refused, lookups.moved
    )?;
    print_cookies(report, out)?;
    if !report.limits.is_empty() {
        writeln!(out, "limits: {}\n", report.limits.join(", "))?;
    }
    print_denied(&report.denied_most, out)?;
    if !print_pools(pools, &report.nodes, out)? && !report.nodes.is_empty() {
        print_nodes(&report.nodes, out)?;
        writeln!(out)?;
    }
    if !report.sockets.is_empty() {
        sockets::print(&report.sockets, out)?;
        writeln!(out)?;
    }
    let interfaces: Vec<_> = report
        .interfaces
        .iter()
        .map(|i| {
            let number =
                |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            let egress = i.egress.as_ref().map_or("-", |egress| egress.by);
            vec![
                i.name.clone(),
                i.mode.to_owned(),
                number(i.link_id),
                i.program_id.to_string(),
                egress.to_owned(),
                number(i.egress.as_ref().map(|egress| egress.program_id)),
            ]
        })
        .collect();
    text_table::print(
        out,
        &["interface", "mode", "link", "program", "egress", "egress program"],
        &interfaces,
    )?;
    writeln!(out)?;
    let counters: Vec<_> = report
        .counters
        .iter()
        .map(|count| {
            let address = count.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            let [reason, action] = [count.reason, count.action].map(str::to_owned);
            vec![address, reason, action, count.packets.to_string(), count.bytes.to_string()]
        })
        .collect();
    text_table::print(out, &["address", "reason", "action", "packets", "bytes"], &counters)
}

/// Which entries of deny lists dropped most.
fn print_denied(denied: &[Caught], out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    if denied.is_empty() {
        return Ok(());
    }
    let most = denied.iter().map(|caught| format!("{} ({} packets)", caught.prefix, caught.packets));
    writeln!(out, "denied most: {}; more by `portcullis top lists`\n", most.collect::<Vec<_>>().join(", "))
}

/// The pools, as the agent tells of them; whether it does.
fn print_pools(pools: Option<&Value>, probed: &[Node], out: &mut (dyn io::Write + Send)) -> io::Result<bool> {
    let pools = pools.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if pools.is_empty() {
        return Ok(false);
    }
    pools::print(pools, probed, jiff::Timestamp::now().as_second(), out)?;
    writeln!(out)?;
    Ok(true)
}

/// The other nodes, and whether they answer: what is known without an agent.
fn print_nodes(nodes: &[Node], out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    let row = |node: &Node| {
        let answered = node.answered_ms_ago.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms ago"));
        let (packets, bytes) = (node.packets.to_string(), node.bytes.to_string());
        vec![node.address.to_string(), node.state.to_owned(), answered, packets, bytes]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    text_table::print(out, &["node", "state", "answered a probe", "packets sent on", "bytes"], &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_node_without_a_kernel_half_says_so() {
        let args = StatusArgs {
            output: OutputFormat::Table,
            bpffs: "/does/not/exist".into(),
            admin_socket: "/does/not/exist".into(),
        };
        let mut out = Vec::new();
        run(&args, &mut out).await.unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with("mode: userspace"), "the mode comes first");
    }

    #[test]
    fn a_node_that_is_down_is_told_from_one_that_answers() {
        let node = |state, answered_ms_ago| Node {
            number: 2,
            address: [198, 18, 0, 2].into(),
            state,
            answered_ms_ago,
            packets: 5,
            bytes: 500,
        };
        let mut out = Vec::new();
        print_nodes(&[node("up", Some(120)), node("down", None)], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("198.18.0.2  up     120 ms ago        5"), "{text}");
        assert!(text.contains("198.18.0.2  down   never             5"), "{text}");
    }

    #[test]
    fn what_deny_lists_dropped_most_is_told_in_a_line() {
        let caught = |prefix: &str, packets| Caught {
            prefix: prefix.parse().unwrap(),
            policy: None,
            addresses: None,
            packets,
            bytes: 60 * packets,
        };
        let mut out = Vec::new();
        print_denied(&[], &mut out).unwrap();
        print_denied(&[caught("203.0.113.0/24", 9), caught("::/0", 1)], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "denied most: 203.0.113.0/24 (9 packets), ::/0 (1 packets); more by `portcullis top lists`\n\n"
        );
    }

    #[test]
    fn why_a_slower_mode_is_used_is_said() {
        let mut out = Vec::new();
        print_degraded(Some(&json!(["no rights for eBPF"])), &mut out).unwrap();
        print_degraded(Some(&json!([])), &mut out).unwrap();
        print_degraded(None, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "degraded: no rights for eBPF\n");
    }

    #[test]
    fn the_age_of_the_configuration_is_said() {
        for (is_current, is_kept, expected) in [
            (true, false, "configuration: current\n"),
            (false, false, "configuration: as of 90 s ago; the API server cannot be followed\n"),
            (
                false,
                true,
                "configuration: as of 90 s ago, kept by an earlier agent; the API server was not reached yet\n",
            ),
        ] {
            let says = json!({"is_current": is_current, "stale_seconds": 90, "is_last_model": is_kept});
            let mut out = Vec::new();
            print_freshness(Some(&says), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
