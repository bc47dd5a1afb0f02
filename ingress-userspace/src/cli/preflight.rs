//! `portcullis preflight`: what of this node stands in the way of the kernel half, and of addresses that nodes share; one
//! line for each thing, with its fix. Reads only; changes nothing.

mod firewall;
mod kernel;
mod network;

use std::io;
use std::path::Path;

use serde::Serialize;

use super::text_table;
use crate::args::tools::{OutputFormat, PreflightArgs};
use crate::bpf::interfaces::interfaces;
use crate::bpf::netlink::NetlinkError;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but less well, or could not be looked at.
    Warn,
    /// Does not work.
    Fail,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty: nothing.
    pub fix: String,
}

impl Finding {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Ok, found: found.into(), fix: String::new() }
    }

    fn warn(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Warn, found: found.into(), fix: fix.into() }
    }

    fn fail(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Fail, found: found.into(), fix: fix.into() }
    }
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Interfaces.
    #[error(transparent)]
    Interfaces(#[from] NetlinkError),
    /// JSON.
    #[error("cannot encode the findings")]
    Encode(#[from] serde_json::Error),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Runs the command; the worst of what was found.
pub async fn run(args: &PreflightArgs, out: &mut (dyn io::Write + Send)) -> Result<Level, PreflightError> {
    let all = interfaces().await?;
    let mut findings = kernel::findings(&args.bpffs);
    findings.extend(network::findings(&all, &args.interface, &[args.http_port, args.https_port]));
    findings.extend(firewall::findings(&args.vip, &[args.http_port, args.https_port]).await);
    match args.output {
        OutputFormat::Json => writeln!(out, "{:#}", serde_json::to_value(&findings)?)?,
        OutputFormat::Table => print(&findings, out)?,
    }
    Ok(findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok))
}

fn print(findings: &[Finding], out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    let mut rows = Vec::new();
    for finding in findings {
        rows.push(vec![finding.level.name().to_owned(), finding.check.clone(), finding.found.clone()]);
        if !finding.fix.is_empty() {
            rows.push(vec![String::new(), String::new(), format!("→ {}", finding.fix)]);
        }
    }
    text_table::print(out, &["", "check", "found"], &rows)?;
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    writeln!(
        out,
        "\n{} ok, {} warnings, {} failures",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    )
}

/// The content of a file of the kernel, without the end of its line; `None`: there is none, or it may not be read.
fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_each_fix_stands_under_it() {
        let findings = [
            Finding::ok("kernel", "6.18"),
            Finding::fail("bpffs", "not mounted", "mount it"),
            Finding::warn("a", "b", "c"),
        ];
        let mut out = Vec::new();
        print(&findings, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1..4], ["ok kernel 6.18", "FAIL bpffs not mounted", "→ mount it"]);
        assert_eq!(lines.last().unwrap(), "1 ok, 1 warnings, 1 failures");
    }
}
