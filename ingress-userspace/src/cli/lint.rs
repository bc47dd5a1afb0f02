//! `portcullis lint [-f DIR|-A]`: whether each Ingress, annotation and ConfigMap key is supported, which surprises of
//! ingress-nginx it depends on, and what is wrong, as the controller would say it.
//!
//! Notes are printed and are no findings: exit code 0 with notes alone, 1 with a warning or an error.

mod places;
mod quirks;
mod report;
mod sarif;

use std::io;

use super::objects::{self, ObjectsError};
use crate::args::objects::{LintArgs, LintFormat};
use crate::problem::{Problem, Severity};
use places::Location;
use report::{Finding, IngressReport, IngressVerdict, QuirkReport, Report, Setting, Summary, report};

/// What lint has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but notes: exit code 0.
    Clean,
    /// Warnings or errors: exit code 1.
    Findings,
}

/// Runs the command.
pub fn run(args: &LintArgs, out: &mut dyn io::Write) -> Result<Verdict, ObjectsError> {
    let objects = objects::look(&args.objects)?;
    let report = report(&objects);
    match args.output {
        LintFormat::Json => writeln!(out, "{:#}", serde_json::to_value(&report)?)?,
        LintFormat::Sarif => writeln!(out, "{:#}", sarif::log(&report))?,
        LintFormat::Table => {
            print_settings(out, &report)?;
            print_problems(out, &report.problems)?;
            print_summary(out, &report.summary)?;
            objects::explain_emptiness(&objects, out)?;
        }
    }
    let is_clean = report.summary.errors == 0 && report.summary.warnings == 0;
    Ok(if is_clean { Verdict::Clean } else { Verdict::Findings })
}

/// A block per Ingress: its verdict, then its annotations and the surprises it depends on.
fn print_settings(out: &mut dyn io::Write, report: &Report) -> io::Result<()> {
    for IngressReport { object, verdict, settings, quirks, location, .. } in &report.ingresses {
        let verdict = verdict.map_or("not served (another class)", IngressVerdict::name);
        let place = location.as_ref().map(|at| format!("  ({}:{})", at.file, at.line)).unwrap_or_default();
        writeln!(out, "{object}: {verdict}{place}")?;
        print_rows(out, settings)?;
        for QuirkReport { quirk, .. } in quirks {
            writeln!(out, "  quirk      {} on {}\n             {}", quirk.name, quirk.path, quirk.message)?;
        }
    }
    if !report.config.is_empty() {
        writeln!(out, "ConfigMap:")?;
        print_rows(out, &report.config)?;
    }
    if !report.ingresses.is_empty() || !report.config.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}

fn print_rows(out: &mut dyn io::Write, settings: &[Setting]) -> io::Result<()> {
    for Setting { key, value, verdict, message, .. } in settings {
        writeln!(out, "  {:<10} {key}: {}", verdict.name(), crate::problem::shorten(value).escape_debug())?;
        if !message.is_empty() {
            writeln!(out, "             {message}")?;
        }
    }
    Ok(())
}

/// Messages are sentences, so each Problem is a paragraph and not a row.
fn print_problems(out: &mut dyn io::Write, problems: &[Finding]) -> io::Result<()> {
    for Finding { problem, location } in problems {
        let Problem { object, code, severity, field, value, message } = problem;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(out, "{severity:<8} {object}")?;
        match (field.is_empty(), value.is_empty()) {
            (true, _) => writeln!(out)?,
            (false, true) => writeln!(out, "  {field}")?,
            (false, false) => writeln!(out, "  {field} = {value:?}")?,
        }
        writeln!(out, "         {message} [{}]", code.name())?;
        if let Some(Location { file, line, column, .. }) = location {
            writeln!(out, "         at {file}:{line}:{column}")?;
        }
    }
    if !problems.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}

fn print_summary(out: &mut dyn io::Write, summary: &Summary) -> io::Result<()> {
    let Summary { supported, different, partly_ignored, refused, not_served, .. } = summary;
    let plural = |count: usize, word: &str, more: &str| {
        format!("{count} {word}{}", if count == 1 { "" } else { more })
    };
    let counts = [supported, different, partly_ignored, refused];
    let served: usize = counts.into_iter().sum();
    let verdicts = IngressVerdict::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
    let verdicts: Vec<String> =
        verdicts.map(|(verdict, count)| format!("{count} {}", verdict.name())).collect();
    write!(
        out,
        "{}, {}, {}; {} served",
        plural(summary.errors, "error", "s"),
        plural(summary.warnings, "warning", "s"),
        plural(summary.notes, "note", "s"),
        plural(served, "Ingress", "es"),
    )?;
    if !verdicts.is_empty() {
        write!(out, ": {}", verdicts.join(", "))?;
    }
    if *not_served > 0 {
        write!(out, "; {not_served} of other classes")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests;
