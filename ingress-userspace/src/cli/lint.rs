//! `portcullis lint -f DIR`: what is wrong in manifests, as the controller would say it. Needs no cluster.
//!
//! Notes are printed and are no findings: exit code 0 with notes alone, 1 with a warning or an error.

use std::collections::HashSet;
use std::io;

use crate::app::world::{SettingsError, settings};
use crate::args::{LintArgs, OutputFormat, PortArgs};
use crate::k8s::folder::Folder;
use crate::problem::{Code, Problem, Severity};
use crate::translate::{Settings, translate};

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// The folder is not there.
    #[error("cannot read {path}")]
    Folder {
        /// The folder or file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A flag.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// JSON.
    #[error("cannot encode the findings")]
    Encode(#[from] serde_json::Error),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// What lint has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but notes: exit code 0.
    Clean,
    /// Warnings or errors: exit code 1.
    Findings,
}

/// Runs the command.
pub fn run(args: &LintArgs, out: &mut dyn io::Write) -> Result<Verdict, LintError> {
    let unreadable = |source| LintError::Folder { path: args.filename.display().to_string(), source };
    if std::fs::metadata(&args.filename).map_err(unreadable)?.is_dir() {
        std::fs::read_dir(&args.filename).map_err(unreadable)?;
    }
    let mut folder = Folder::new(&args.filename);
    folder.scan(&HashSet::new());
    let ports = PortArgs { http_port: 80, https_port: 443 };
    let settings = Settings { is_serving: false, ..settings(&args.rules, &ports)? };
    let cluster = folder.cluster();
    let translation = translate(&cluster, &settings);
    let mut problems = translation.problems;
    problems.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    match args.output {
        OutputFormat::Json => writeln!(out, "{:#}", serde_json::to_value(&problems)?)?,
        OutputFormat::Table => {
            let served = translation.ingresses.len();
            print_text(out, &problems, served, cluster.ingresses.len().saturating_sub(served))?;
        }
    }
    let is_finding = |problem: &Problem| problem.severity > Severity::Note;
    Ok(if problems.iter().any(is_finding) { Verdict::Findings } else { Verdict::Clean })
}

/// Messages are sentences, so each Problem is a paragraph and not a row.
fn print_text(
    out: &mut dyn io::Write,
    problems: &[Problem],
    served: usize,
    foreign: usize,
) -> io::Result<()> {
    for problem in problems {
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
        writeln!(out, "         {message} [{}]", name(*code))?;
    }
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings, notes) =
        (plural(errors, "error"), plural(warnings, "warning"), plural(notes, "note"));
    let served = if served == 1 { "1 Ingress".to_owned() } else { format!("{served} Ingresses") };
    write!(out, "{errors}, {warnings}, {notes}; {served} served")?;
    if foreign > 0 {
        write!(out, ", {foreign} not")?;
    }
    writeln!(out)
}

fn name(code: Code) -> String {
    format!("{code:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    fn lint(name: &str, text: &str, more: &[&str]) -> (Verdict, String) {
        let dir = std::env::temp_dir().join(format!("portcullis-lint-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.yaml"), text).unwrap();
        let dir_text = dir.display().to_string();
        let cli = Cli::parse_from(["portcullis", "lint", "-f", &dir_text].iter().chain(more));
        let Command::Lint(args) = cli.command else { panic!("not lint") };
        let mut out = Vec::new();
        let verdict = run(&args, &mut out).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        (verdict, String::from_utf8(out).unwrap())
    }

    const INGRESS: &str = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  annotations:\n    nginx.ingress.kubernetes.io/rewrit-target: /x\nspec:\n  defaultBackend: {service: {name: gone, port: {number: 80}}}\n";

    #[test]
    fn findings_name_object_field_value_and_fix() {
        let (verdict, text) = lint("findings", INGRESS, &[]);
        assert_eq!(verdict, Verdict::Findings);
        for expected in [
            "error    Ingress default/web  spec.defaultBackend.service.name = \"gone\"",
            "there is no Service default/gone",
            "metadata.annotations[nginx.ingress.kubernetes.io/rewrit-target] = \"/x\"",
            "did you mean rewrite-target?",
            "1 error, 1 warning, 0 notes; 1 Ingress served",
        ] {
            assert!(text.contains(expected), "{expected}\n---\n{text}");
        }
    }

    #[test]
    fn json_is_a_list_of_problems() {
        let (_, text) = lint("json", INGRESS, &["-o", "json"]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["code"], "BackendMissing");
        assert_eq!(value[0]["object"]["name"], "web");
    }

    #[test]
    fn cluster_wide_settings_are_read_as_by_the_roles() {
        let text =
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {proxy-body-size: 20MB}\n";
        let (verdict, text) = lint("configmap", text, &["--configmap", "default/settings"]);
        assert_eq!(verdict, Verdict::Findings, "{text}");
        assert!(text.contains("data[proxy-body-size] = \"20MB\""), "{text}");
    }

    #[test]
    fn notes_alone_are_no_findings() {
        let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
        let (verdict, text) = lint("notes", deployment, &[]);
        assert_eq!(verdict, Verdict::Clean, "{text}");
    }
}
