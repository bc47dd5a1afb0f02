//! `cargo xtask tidy`: the rules that no compiler checks.
//!
//! - Layers: data flows one way, so each module of `ingress-userspace` may name only the modules listed here.
//! - Sizes: at most 400 lines outside of tests, 600 with them.
//! - Evidence: no setting is called supported without a test (`evidence`).
//! - Stems: a filter, its annotations and its proxy test carry one name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::{evidence, shell};

const MOST_LINES: usize = 600;
const MOST_LINES_BEFORE_TESTS: usize = 400;

/// Module of `ingress-userspace` → the modules of ours it may name. What is not listed may name everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("problem", &[]),
    ("error_chain", &[]),
    ("path_regex", &[]),
    ("model", &[]),
    ("args", &[]),
    ("k8s", &["problem", "error_chain"]),
    ("annotation", &["model", "problem", "path_regex"]),
    ("translate", &["k8s", "annotation", "model", "problem", "path_regex"]),
    ("link", &["model", "error_chain"]),
    ("snapshot", &["model", "filter", "upstream", "tls", "telemetry"]),
    ("compile", &["model", "path_regex", "snapshot", "filter", "upstream", "tls", "telemetry"]),
    ("bpf", &["model", "compile", "telemetry", "link", "error_chain"]),
    ("controller", &["problem", "translate", "model", "k8s", "error_chain"]),
    ("admission", &["k8s", "translate", "problem", "error_chain"]),
    ("telemetry", &["model", "args"]),
    ("tls", &["model", "snapshot", "telemetry"]),
    ("filter", &["model", "path_regex", "proxy", "telemetry", "snapshot", "upstream"]),
    ("upstream", &["model", "proxy", "telemetry", "tls", "snapshot"]),
    ("l4", &["model", "snapshot", "upstream", "proxy", "telemetry"]),
    ("listener", &["model", "link", "l4", "snapshot", "tls", "proxy", "telemetry", "compile"]),
    ("proxy", &["model", "snapshot", "filter", "upstream", "tls", "telemetry", "error_chain"]),
    ("admin", &["args", "model", "problem", "telemetry", "proxy", "snapshot", "listener"]),
];

/// External crate → the only modules that may name it.
const ONLY_IN: &[(&str, &[&str])] = &[("aya", &["bpf"]), ("kube", &["k8s", "controller", "app"])];

/// Runs every rule and reports all breaches at once.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = shell::root();
    let mut breaches = Vec::new();
    for folder in ["ingress-common", "ingress-ebpf", "ingress-userspace", "xtask", "tests"] {
        for file in rust_files(&root.join(folder))? {
            let text = fs::read_to_string(&file)?;
            let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
            breaches.extend(sizes(&name, &text));
            if let Ok(module) = file.strip_prefix(root.join("ingress-userspace/src")) {
                breaches.extend(layers(&name, &top_module(module), &text));
            }
        }
    }
    breaches.extend(stems(&root)?);
    breaches.extend(evidence::breaches(&root)?);
    if breaches.is_empty() {
        println!("tidy: clean");
        return Ok(());
    }
    bail!("tidy found:\n  {}", breaches.join("\n  "))
}

fn sizes(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    if lines > MOST_LINES {
        return Some(format!("{name}: {lines} lines, at most {MOST_LINES}: split it"));
    }
    let before_tests = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    (before_tests > MOST_LINES_BEFORE_TESTS && !text.starts_with("// tidy:")).then(|| {
        format!("{name}: {before_tests} lines before its tests, at most {MOST_LINES_BEFORE_TESTS}: split it")
    })
}

fn layers(name: &str, module: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    // Test modules may look anywhere: they wire a stage to the ones before it.
    let code: Vec<&str> = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
    let allowed = LAYERS.iter().find(|(layer, _)| *layer == module).map(|(_, allowed)| *allowed);
    for (number, line) in code.iter().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        for named in line.split("crate::").skip(1).map(leading_word) {
            if let Some(allowed) = allowed
                && named != module
                && !named.is_empty()
                && !allowed.contains(&named)
            {
                breaches.push(format!("{name}:{}: `{module}` may not name `{named}`", number + 1));
            }
        }
        for (krate, modules) in ONLY_IN {
            if names_crate(line, krate) && !modules.contains(&module) {
                breaches.push(format!("{name}:{}: only {modules:?} may name `{krate}`", number + 1));
            }
        }
    }
    breaches
}

/// A filter is found by its stem: `filter/x.rs` has `tests/proxy/x.rs`, and its settings are declared in
/// `annotation/x.rs` unless they belong to a neighbour listed here.
fn stems(root: &Path) -> anyhow::Result<Vec<String>> {
    const NO_ANNOTATION: &[&str] = &["answer", "auth_digest", "deny"];
    let mut breaches = Vec::new();
    for file in rust_files(&root.join("ingress-userspace/src/filter"))? {
        let Some(stem) = file.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let proxy_test = root.join(format!("tests/proxy/{stem}.rs"));
        if !proxy_test.exists() {
            breaches.push(format!("filter/{stem}.rs has no tests/proxy/{stem}.rs"));
        }
        let annotation = root.join(format!("ingress-userspace/src/annotation/{stem}.rs"));
        if !annotation.exists() && !NO_ANNOTATION.contains(&stem) {
            breaches.push(format!("filter/{stem}.rs has no annotation/{stem}.rs"));
        }
    }
    Ok(breaches)
}

fn names_crate(line: &str, krate: &str) -> bool {
    line.match_indices(krate).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + krate.len()..).unwrap_or_default();
        after.starts_with("::") && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

fn leading_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// The stage that a file belongs to: the first path component without its ending.
fn top_module(file: &Path) -> String {
    let first = file.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    first.unwrap_or_default().trim_end_matches(".rs").to_owned()
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(files) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_may_not_name_what_comes_after_it() {
        let breaches = layers("model.rs", "model", "use crate::proxy::gate;\nuse crate::model::host::Host;");
        assert_eq!(breaches, ["model.rs:1: `model` may not name `proxy`"]);
    }

    #[test]
    fn comments_and_tests_do_not_count() {
        let text = "// crate::proxy\n#[cfg(test)]\nmod tests { use crate::proxy; }";
        assert!(layers("model.rs", "model", text).is_empty());
    }

    #[test]
    fn only_one_stage_names_aya() {
        assert_eq!(layers("app.rs", "app", "use aya::Ebpf;").len(), 1);
        assert!(layers("bpf/load.rs", "bpf", "use aya::Ebpf;").is_empty());
        assert!(layers("app.rs", "app", "let x = portcullis_aya::Ebpf;").is_empty());
    }

    #[test]
    fn long_files_are_named() {
        assert!(sizes("a.rs", &"x\n".repeat(601)).is_some());
        assert!(
            sizes("a.rs", &format!("{}#[cfg(test)]\n{}", "x\n".repeat(390), "y\n".repeat(200))).is_none()
        );
    }
}
