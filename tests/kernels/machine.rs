//! A virtual machine, without hardware support, and what it prints on its serial line.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::image::find;

/// A running machine. Killed when dropped.
pub(crate) struct Machine {
    process: Child,
    lines: Receiver<String>,
}

impl Machine {
    /// Starts a kernel with a file system; `more` are arguments of qemu.
    pub(crate) fn start(kernel: &Path, archive: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let qemu = find("qemu-system-x86_64").context("no qemu: install the package qemu-system-x86")?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"]);
        command.args(["-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"]).args(more);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(archive);
        command.args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start qemu")?;
        let output = process.stdout.take().context("the output of qemu")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                let line = plain(&String::from_utf8_lossy(&line));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, lines })
    }

    /// Everything that it prints until it switches itself off.
    pub(crate) fn lines_to_the_end(
        &mut self,
        patience: Duration,
        mut show: impl FnMut(&str),
    ) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + patience;
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    show(&line);
                    lines.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("the machine still ran after {patience:?}"),
            }
        }
        self.process.wait()?;
        Ok(lines)
    }
}

/// Without what steers a terminal.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut parts = line.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        // A sequence ends with its first letter.
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain.push_str(part.get(end..).unwrap_or_default());
    }
    plain.trim_end().to_owned()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
