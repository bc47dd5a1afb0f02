//! A place for pins that goes with the test.
#![expect(
    clippy::expect_used,
    reason = "a rig that cannot be set up fails its test at once, with the reason"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::run;

/// A BPF file system of its own, unmounted with all that is pinned in it.
pub struct Bpffs {
    /// Where it is mounted.
    pub path: PathBuf,
}

impl Bpffs {
    /// Mounts one; `name` tells it from others of this process.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path)).expect("mounting; needs root");
        Self { path }
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let path: &Path = &self.path;
        let _ = Command::new("umount").arg("--lazy").arg(path).output();
        let _ = std::fs::remove_dir(path);
    }
}
