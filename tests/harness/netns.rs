//! Network namespaces that vanish: named after this process, deleted on drop, and swept by the next run when this one
//! was killed.

use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

const PREFIX: &str = "pcl";

/// A network namespace of this process, with loopback up. Deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace; `label` makes its name readable. Needs CAP_SYS_ADMIN.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a function on a thread inside; sockets that it opens stay inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let file = std::fs::File::open(std::path::Path::new("/run/netns").join(&self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(file.as_fd(), kind)?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A command that will run inside. It ends with the thread that starts it, however that one ends.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Runs a command line (split at spaces, no quoting) inside and returns its standard output.
    pub fn run(&self, line: &str) -> anyhow::Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        run(self.command(program).args(words))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Joins two namespaces by a veth pair, brings both ends up, and turns checksum offload off on both: packets that an XDP
/// program passes or sends on must carry whole checksums, as on a wire.
pub fn veth(a: &Namespace, a_interface: &str, b: &Namespace, b_interface: &str) -> anyhow::Result<()> {
    a.run(&format!("ip link add {a_interface} type veth peer name {b_interface} netns {}", b.name()))?;
    for (namespace, interface) in [(a, a_interface), (b, b_interface)] {
        namespace.run(&format!("ip link set {interface} up"))?;
        namespace.run(&format!("ethtool -K {interface} tx off"))?;
    }
    Ok(())
}

/// Adds addresses (`198.18.0.1/24`, `2001:db8::1/64`) to an interface; IPv6 ones are usable at once.
pub fn addresses(namespace: &Namespace, interface: &str, addresses: &[&str]) -> anyhow::Result<()> {
    for address in addresses {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        namespace.run(&format!("ip addr add {address} dev {interface}{nodad}"))?;
    }
    Ok(())
}

/// Deletes namespaces of processes that no longer run.
pub fn sweep() {
    let Ok(list) = run(Command::new("ip").args(["netns", "list"])) else { return };
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        let dead = pid.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(pid).exists();
        if dead {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
