//! `portcullis status`: mode per interface, links, versions, heartbeat and counters. Reads the pins; needs no agent.

use std::io;

use super::text_table;
use crate::args::tools::{OutputFormat, StatusArgs};
use crate::bpf::report::{self, Report, ReportError};

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
    match (args.output, report) {
        (OutputFormat::Json, report) => {
            let none = serde_json::json!({"mode": "userspace", "interfaces": [], "counters": []});
            let value = report.map_or(Ok(none), serde_json::to_value)?;
            writeln!(out, "{value:#}")?;
        }
        (OutputFormat::Table, None) => writeln!(
            out,
            "mode: userspace (no kernel half under {}; an agent in a kernel mode would pin it there)",
            args.bpffs.join("portcullis").display()
        )?,
        (OutputFormat::Table, Some(report)) => print_table(&report, out)?,
    }
    Ok(())
}

fn print_table(report: &Report, out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    writeln!(out, "mode: {}", report.mode)?;
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
        "listening: {} addresses and ports; connections handed over {}, missed {}, refused {}\n",
        report.listening, lookups.handed_over, lookups.missed, lookups.refused
    )?;
    let interfaces: Vec<_> = report
        .interfaces
        .iter()
        .map(|i| {
            vec![i.name.clone(), i.mode.to_owned(), i.link.link_id.to_string(), i.link.program_id.to_string()]
        })
        .collect();
    text_table::print(out, &["interface", "mode", "link", "program"], &interfaces)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_without_a_kernel_half_says_so() {
        let args = StatusArgs { output: OutputFormat::Table, bpffs: "/does/not/exist".into() };
        let mut out = Vec::new();
        run(&args, &mut out).await.unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with("mode: userspace"), "the mode comes first");
    }
}
