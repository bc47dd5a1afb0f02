//! What the tiers `chart` and `cluster` run: helm, the chart, and a rig with a real API server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

/// Where `cargo xtask setup` puts what no package brings.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    std::env::var_os("PORTCULLIS_CACHE").map_or_else(|| home().join(".cache/portcullis"), PathBuf::from)
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The folder of the chart.
pub fn chart() -> PathBuf {
    root().join("charts/portcullis")
}

/// A call of helm that reads nothing of the user's.
pub fn helm() -> anyhow::Result<Command> {
    let helm = cache().join("helm/helm");
    ensure!(helm.is_file(), "{} is missing: run `cargo xtask setup`", helm.display());
    let mut command = Command::new(helm);
    let home = std::env::temp_dir().join("portcullis-helm");
    for (name, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(name, home.join(folder));
    }
    Ok(command)
}
