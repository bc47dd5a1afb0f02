//! `cargo xtask demo`: builds what the demo needs and runs it. The script itself is `tests/demo/main.rs`.

use std::process::Command;

use clap::Args;

use crate::setup::{Part, setup};
use crate::{build_ebpf, shell};

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Leave everything running afterwards and print commands to try; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
}

/// Builds the binary and the demo, then runs the demo.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    if shell::is_root() {
        setup(&[Part::Kernel, Part::Network])?;
        build_ebpf::run(&build_ebpf::BuildArgs::default())?;
    } else {
        println!("not root: the demo shows the userspace half only, and installs nothing");
    }
    shell::run(shell::cargo().args([
        "build",
        "--quiet",
        "--package",
        "ingress-userspace",
        "--package",
        "ingress-tests",
    ]))?;
    let demo = crate::generate::binary("debug").with_file_name("portcullis-demo");
    shell::run(Command::new(demo).args(args.keep.then_some("--keep")))
}
