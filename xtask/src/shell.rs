//! Running other programs: every command is printed before it runs, and a failure names it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// The root of the workspace. Asked at run time: checkouts that share a target directory may share this binary.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo as it was called, so that a `+toolchain` is kept; in the workspace root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Prints and runs a command; an exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = describe(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Prints and runs a command whose output (both streams, in order) is shown as it comes; of a failure, the last
/// `kept` lines are returned.
pub(crate) fn run_and_keep(command: &mut Command, kept: usize) -> anyhow::Result<Option<Vec<String>>> {
    let line = describe(command);
    println!("$ {line}");
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut child = command
        .stdout(writer.try_clone().context("cannot share a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // The command holds both ends for writing until they are replaced; then the reader ends with the child.
    command.stdout(std::process::Stdio::inherit()).stderr(std::process::Stdio::inherit());
    let mut last = VecDeque::with_capacity(kept);
    for line in BufReader::new(reader).split(b'\n') {
        let line =
            String::from_utf8_lossy(&line.context("cannot read what the command prints")?).into_owned();
        println!("{line}");
        if last.len() == kept {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    Ok((!status.success()).then(|| last.into()))
}

/// Runs a command and returns what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let line = describe(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
