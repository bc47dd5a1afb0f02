//! `cargo xtask gen`: reference pages and CRDs, written by the program that they describe.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::shell;

/// Page of `portcullis reference` → file.
const PAGES: &[(&str, &str)] = &[
    ("annotations", "docs/reference/annotations.md"),
    ("configmap", "docs/reference/configmap.md"),
    ("metrics", "docs/reference/metrics.md"),
    ("bpf-maps", "docs/reference/bpf-maps.md"),
    ("cli", "docs/reference/cli.md"),
    ("problems", "docs/reference/problems.md"),
    ("objects", "docs/reference/objects.md"),
    ("crds", "charts/portcullis/crds/portcullis.dev.yaml"),
];

/// Writes every page, or with `check` fails when one differs.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["build", "--quiet", "--package", "ingress-userspace"]))?;
    let binary = binary("debug");
    let mut stale = Vec::new();
    for (page, file) in PAGES {
        let text = shell::output(std::process::Command::new(&binary).args(["reference", page]))?;
        let path = shell::root().join(file);
        if std::fs::read(&path).ok().as_ref() == Some(&text) {
            continue;
        }
        if check {
            stale.push(*file);
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {file}"))?;
        println!("wrote {file}");
    }
    if !stale.is_empty() {
        bail!("not as the code says: {}; run `cargo xtask gen`", stale.join(", "));
    }
    Ok(())
}

/// The `portcullis` binary of a profile's folder.
pub(crate) fn binary(profile: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from);
    target.join(profile).join("portcullis")
}
