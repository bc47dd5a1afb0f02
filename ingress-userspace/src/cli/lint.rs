//! `portcullis lint [-f DIR|-A]`: whether each Ingress, annotation and ConfigMap key is supported, which surprises of
//! ingress-nginx it depends on, and what is wrong, as the controller would say it.
//!
//! Notes are printed and are no findings: exit code 0 with notes alone, 1 with a warning or an error.

mod quirks;
mod report;
mod sarif;

use std::io;

use super::objects::{self, ObjectsError};
use crate::args::objects::{LintArgs, LintFormat};
use crate::problem::{Problem, Severity};
use report::{IngressReport, Report, Setting, report};

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
    let objects = objects::read(&args.objects)?;
    let report = report(&objects);
    match args.output {
        LintFormat::Json => writeln!(out, "{:#}", serde_json::to_value(&report)?)?,
        LintFormat::Sarif => writeln!(out, "{:#}", sarif::log(&report))?,
        LintFormat::Table => {
            let served = objects.translation.ingresses.len();
            print_settings(out, &report)?;
            print_problems(
                out,
                &report.problems,
                served,
                objects.cluster.ingresses.len().saturating_sub(served),
            )?;
        }
    }
    let is_finding = |problem: &Problem| problem.severity > Severity::Note;
    Ok(if report.problems.iter().any(is_finding) { Verdict::Findings } else { Verdict::Clean })
}

/// A block per Ingress: its verdict, then its annotations and the surprises it depends on.
fn print_settings(out: &mut dyn io::Write, report: &Report) -> io::Result<()> {
    for IngressReport { object, is_served, verdict, settings, quirks } in &report.ingresses {
        let served = if *is_served { "" } else { " (another class; not served)" };
        writeln!(out, "{object}: {}{served}", verdict.name())?;
        print_rows(out, settings)?;
        for quirk in quirks {
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
fn print_problems(
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
        writeln!(out, "         {message} [{}]", code.name())?;
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
    fn json_has_verdicts_and_problems() {
        let (_, text) = lint("json", INGRESS, &["-o", "json"]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["problems"][0]["code"], "BackendMissing");
        assert_eq!(value["problems"][0]["object"]["name"], "web");
        assert_eq!(value["ingresses"][0]["verdict"], "refused");
        let setting = &value["ingresses"][0]["settings"][0];
        assert_eq!(setting["key"], "nginx.ingress.kubernetes.io/rewrit-target");
        assert_eq!(setting["verdict"], "ignored");
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

    #[test]
    fn what_is_switched_off_or_gone_from_ingress_nginx_is_not_refused() {
        let annotations = [
            ("server-snippet: \"\"", "supported"),
            ("enable-modsecurity: \"false\"", "supported"),
            ("enable-modsecurity: \"true\"", "refused"),
            ("secure-backends: \"true\"", "ignored"),
        ];
        for (annotation, expected) in annotations {
            let text = INGRESS.replace("rewrit-target: /x", annotation);
            let (_, text) = lint("off", &text, &["-o", "json"]);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["ingresses"][0]["settings"][0]["verdict"], expected, "{annotation}");
        }
    }

    #[test]
    fn every_annotation_has_a_verdict_and_quirks_are_named() {
        let web = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  annotations:\n    \
                   nginx.ingress.kubernetes.io/rewrite-target: /$1\n    nginx.ingress.kubernetes.io/ssl-redirect: \"false\"\n    \
                   alb.ingress.kubernetes.io/scheme: internal\nspec:\n  rules:\n  - host: a.example\n    http: {paths: \
                   [{path: /x/(.*), pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}]}\n";
        let other = web
            .replace("name: web\n  annotations", "name: other\n  annotations")
            .replace("rewrite-target: /$1", "proxy-body-size: 8m")
            .replace("/x/(.*)", "/dir/");
        let (_, text) = lint("verdicts", &format!("{web}---\n{other}"), &[]);
        for expected in [
            "Ingress default/web: refused",
            "supported  nginx.ingress.kubernetes.io/ssl-redirect: false",
            "different  nginx.ingress.kubernetes.io/rewrite-target: /$1",
            "ignored    alb.ingress.kubernetes.io/scheme: internal",
            "rewrite-implies-regex on /x/(.*)",
            "regex-spreads-over-host on /dir/",
        ] {
            assert!(text.contains(expected), "{expected}\n---\n{text}");
        }
        assert!(!text.contains("trailing-slash-redirect"), "an expression redirects nothing: {text}");
    }

    #[test]
    fn quirks_are_those_of_what_is_served() {
        let ingress = |name: &str, annotation: &str, path: &str| {
            format!(
                "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: \
                 {{{annotation}}}\nspec:\n  rules:\n  - host: {name}.example\n    http: {{paths: [{{path: \"{path}\", \
                 pathType: ImplementationSpecific, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
            )
        };
        let prefix = "nginx.ingress.kubernetes.io";
        let text = ingress("slash", "", "/dir/")
            + &ingress("strict", "portcullis.dev/strict: \"true\"", "/dir/")
            + &ingress("same", &format!("{prefix}/rewrite-target: /a"), "/a")
            + &ingress("short", &format!("{prefix}/use-regex: t"), "/a+");
        let (_, loose) = lint("quirks", &text, &[]);
        for expected in ["trailing-slash-redirect on /dir/", "regex-is-case-insensitive-prefix on /a+"] {
            assert_eq!(loose.matches(expected).count(), 1, "{expected}\n---\n{loose}");
        }
        assert!(
            !loose.contains("rewrite-implies-regex"),
            "a target that equals its path does nothing: {loose}"
        );
        let config =
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {strict: \"true\"}\n";
        let (_, strict) = lint("strict", &format!("{text}{config}"), &["--configmap", "default/settings"]);
        assert!(!strict.contains("quirk "), "{strict}");
    }

    #[test]
    fn sarif_names_rule_level_and_object() {
        let (_, text) = lint("sarif", INGRESS, &["-o", "sarif"]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], "2.1.0");
        let results = value["runs"][0]["results"].as_array().unwrap();
        let missing = results.iter().find(|result| result["ruleId"] == "BackendMissing").unwrap();
        assert_eq!(missing["level"], "error");
        assert!(missing["message"]["text"].as_str().unwrap().contains("default/web"));
    }
}
