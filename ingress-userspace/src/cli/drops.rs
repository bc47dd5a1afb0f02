//! `portcullis drops`: which packets were dropped lately, from whom, for what address and why; goes on with what comes.
//!
//! The agent reads them from the kernel and keeps the newest. Without an agent the command reads them itself, after a
//! summary of the counters.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use tokio::net::UnixStream;

use super::{probe, text_table};
use crate::args::tools::{DropsArgs, OutputFormat};
use crate::bpf::bans;
use crate::bpf::counters::PacketCount;
use crate::bpf::events::{EventReader, EventsError};
use crate::bpf::maps::MapsError;
use crate::bpf::report::{self, ReportError};
use crate::telemetry::drops::{Dropped, Page};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(250);
/// An agent that does not answer within this time is not there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum DropsError {
    /// There is nothing to read.
    #[error(
        "no kernel half on this node, and no agent at {socket}: packets are dropped by nobody, or --bpffs names another file system"
    )]
    Nothing {
        /// Who was asked.
        socket: String,
    },
    /// Another reads and does not tell us.
    #[error(
        "another process reads the dropped packets; name the admin socket of the agent by --admin-socket"
    )]
    Taken,
    /// The pins.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Records.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// Counters.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// JSON.
    #[error("cannot encode a dropped packet")]
    Encode(#[from] serde_json::Error),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Runs the command: without `--once` until it is interrupted.
pub async fn run(args: &DropsArgs, out: &mut (dyn io::Write + Send)) -> Result<(), DropsError> {
    let mut printer = Printer { args, since: begin(args), has_head: false };
    if let Some(first) = ask(&args.admin_socket, 0).await {
        if args.output == OutputFormat::Table {
            // Whoever may ask the agent need not be able to read the pins.
            tell_of_bans(bans::list_pinned(&args.bpffs).unwrap_or_default(), out)?;
        }
        return of_agent(args, first, &mut printer, out).await;
    }
    let Some(report) = report::read(&args.bpffs).await? else {
        return Err(DropsError::Nothing { socket: args.admin_socket.display().to_string() });
    };
    if args.output == OutputFormat::Table {
        writeln!(out, "no agent answers at {}; dropped so far:", args.admin_socket.display())?;
        summary(&report.counters, args.vip, out)?;
        tell_of_bans(bans::list_pinned(&args.bpffs)?, out)?;
        writeln!(out)?;
    }
    let mut reader = EventReader::open(&args.bpffs)?.ok_or(DropsError::Taken)?;
    loop {
        let drops = reader.read().await?;
        let is_over = drops.is_empty() && args.once;
        printer.print(drops, out)?;
        if is_over {
            return Ok(());
        }
        if !args.once {
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Nothing that was dropped before this is shown.
fn begin(args: &DropsArgs) -> Timestamp {
    match args.since {
        None if args.once => Timestamp::MIN,
        None => Timestamp::now(),
        Some(age) => {
            let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
            Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN)
        }
    }
}

/// What the agent knows, and then what it hears.
async fn of_agent(
    args: &DropsArgs,
    mut page: Page,
    printer: &mut Printer<'_>,
    out: &mut (dyn io::Write + Send),
) -> Result<(), DropsError> {
    loop {
        let (newest, is_over) = (page.newest, page.drops.is_empty());
        printer.print(page.drops, out)?;
        if is_over {
            if args.once {
                return Ok(());
            }
            tokio::time::sleep(EVERY).await;
        }
        page = match ask(&args.admin_socket, newest).await {
            // A new agent counts anew, and what it knows happened since.
            Some(next) if next.newest < newest => {
                printer.since = Timestamp::now();
                Page { newest: 0, drops: next.drops }
            }
            Some(next) => next,
            // It may come back.
            None => Page { newest, drops: Vec::new() },
        };
    }
}

/// A page of the agent's log; `None` when there is none to ask.
async fn ask(socket: &Path, after: u64) -> Option<Page> {
    let answer =
        async { probe::ask(UnixStream::connect(socket).await?, &format!("/drops?after={after}")).await };
    let answer = tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Whose packets are dropped whatever they are.
fn tell_of_bans(bans: Option<Vec<bans::Banned>>, out: &mut (dyn io::Write + Send)) -> Result<(), DropsError> {
    let count = bans.map_or(0, |bans| bans.len());
    if count > 0 {
        writeln!(out, "{count} sources are banned; `portcullis bans` lists them")?;
    }
    Ok(())
}

/// Packets dropped by address and reason.
fn summary(
    counters: &[PacketCount],
    vip: Option<IpAddr>,
    out: &mut (dyn io::Write + Send),
) -> io::Result<()> {
    let dropped = counters.iter().filter(|count| count.action == "drop");
    let rows: Vec<Vec<String>> = dropped
        .filter(|count| vip.is_none() || count.address == vip)
        .map(|count| {
            let address = count.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            vec![address, count.reason.to_owned(), count.packets.to_string(), count.bytes.to_string()]
        })
        .collect();
    text_table::print(out, &["address", "reason", "packets", "bytes"], &rows)
}

struct Printer<'a> {
    args: &'a DropsArgs,
    since: Timestamp,
    has_head: bool,
}

impl Printer<'_> {
    fn print(&mut self, drops: Vec<Dropped>, out: &mut (dyn io::Write + Send)) -> Result<(), DropsError> {
        for dropped in drops {
            if dropped.time < self.since || !is_wanted(&dropped, self.args.vip, self.args.source) {
                continue;
            }
            match self.args.output {
                OutputFormat::Json => writeln!(out, "{}", serde_json::to_string(&dropped)?)?,
                OutputFormat::Table => {
                    if !std::mem::replace(&mut self.has_head, true) {
                        writeln!(out, "{}", line(["TIME", "REASON", "FROM", "TO", "INTERFACE", "BYTES"]))?;
                    }
                    writeln!(out, "{}", row(&dropped))?;
                }
            }
        }
        Ok(out.flush()?)
    }
}

fn is_wanted(dropped: &Dropped, vip: Option<IpAddr>, source: Option<IpNet>) -> bool {
    vip.is_none_or(|vip| dropped.address == Some(vip))
        && source.is_none_or(|net| net.contains(&dropped.source))
}

fn row(dropped: &Dropped) -> String {
    let time = dropped.time.round(jiff::Unit::Millisecond).unwrap_or(dropped.time).to_string();
    let from = place(Some(dropped.source), dropped.source_port);
    let protocol = dropped.protocol.as_ref().map_or_else(String::new, |protocol| format!("/{protocol}"));
    let to = format!("{}{protocol}", place(dropped.address, dropped.port));
    let bytes = dropped.bytes.to_string();
    let told = line([&time, &dropped.reason, &from, &to, &dropped.interface, &bytes]);
    match dropped.untold {
        0 => told,
        untold => format!("{told}  (and {untold} before it that are not shown)"),
    }
}

fn place(address: Option<IpAddr>, port: Option<u16>) -> String {
    match (address, port) {
        (None, _) => "-".to_owned(),
        (Some(address), None) => address.to_string(),
        (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
    }
}

/// Lines come one by one, so that the columns have a fixed width.
fn line([time, reason, from, to, interface, bytes]: [&str; 6]) -> String {
    format!("{time:<24}  {reason:<12}  {from:<22}  {to:<24}  {interface:<10}  {bytes}")
}

/// How many of the dropped packets that are remembered came from each source, and why; the most first.
pub(super) async fn by_source(socket: &Path) -> Option<Vec<(IpAddr, String, u64)>> {
    let mut counts: BTreeMap<(IpAddr, String), u64> = BTreeMap::new();
    let mut page = ask(socket, 0).await?;
    while !page.drops.is_empty() {
        for dropped in page.drops {
            *counts.entry((dropped.source, dropped.reason)).or_default() += 1;
        }
        page = ask(socket, page.newest).await?;
    }
    let mut counts: Vec<_> =
        counts.into_iter().map(|((source, reason), count)| (source, reason, count)).collect();
    counts.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped() -> Dropped {
        Dropped {
            time: "2026-01-01T00:00:08.25Z".parse().unwrap(),
            reason: "denied".to_owned(),
            address: Some(IpAddr::from([198, 18, 100, 10])),
            port: Some(80),
            protocol: Some("tcp".to_owned()),
            source: IpAddr::from([198, 18, 0, 66]),
            source_port: Some(40_000),
            interface: "eth0".to_owned(),
            bytes: 74,
            untold: 0,
        }
    }

    #[test]
    fn a_line_says_when_why_from_whom_and_to_whom() {
        let told = row(&dropped());
        assert_eq!(
            told.split_whitespace().collect::<Vec<_>>(),
            ["2026-01-01T00:00:08.25Z", "denied", "198.18.0.66:40000", "198.18.100.10:80/tcp", "eth0", "74"]
        );
        let flood = row(&Dropped { untold: 7, port: None, protocol: None, ..dropped() });
        assert!(
            flood.contains(" 198.18.100.10 ") && flood.ends_with("(and 7 before it that are not shown)"),
            "{flood}"
        );
    }

    #[test]
    fn only_the_wanted_address_and_sources_are_shown() {
        let drop = dropped();
        assert!(is_wanted(&drop, None, None));
        assert!(is_wanted(&drop, drop.address, Some("198.18.0.0/16".parse().unwrap())));
        assert!(!is_wanted(&drop, Some(IpAddr::from([198, 18, 100, 11])), None));
        assert!(!is_wanted(&drop, None, Some("198.18.0.67/32".parse().unwrap())));
    }

    #[test]
    fn without_an_agent_the_counters_say_what_was_dropped() {
        let count =
            |reason, action, packets| PacketCount { address: None, reason, action, packets, bytes: 60 };
        let mut out = Vec::new();
        summary(&[count("opened", "pass", 9), count("denied", "drop", 3)], None, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ADDRESS  REASON  PACKETS  BYTES\n-        denied  3        60\n"
        );
    }

    #[tokio::test]
    async fn a_node_without_anything_says_so() {
        let args = DropsArgs {
            since: None,
            once: true,
            vip: None,
            source: None,
            output: OutputFormat::Table,
            bpffs: "/does/not/exist".into(),
            admin_socket: "/does/not/exist".into(),
        };
        let error = run(&args, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(error.contains("no kernel half on this node"), "{error}");
    }
}
