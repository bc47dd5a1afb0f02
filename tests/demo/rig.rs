//! Where the demo runs: network namespaces with the kernel half, or loopback without it.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ingress_tests::netns::{self, Namespace};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A virtual address that no interface carries (see `manifests/edge.yaml`).
pub(crate) const VIP: &str = "198.18.100.10";
/// The same for IPv6.
pub(crate) const VIP6: &str = "2001:db8:100::10";
/// Source that the demo's ordinary requests come from.
pub(crate) const CLIENT: &str = "198.18.0.10";
/// Source that the policy denies.
pub(crate) const DENIED: &str = "198.18.0.66";
/// Source that runs into the connection limit.
pub(crate) const GREEDY: &str = "198.18.0.77";

/// Namespaces client ─ node ─ two backends, joined by veth.
struct Network {
    client: Namespace,
    node: Namespace,
    backends: [Namespace; 2],
}

/// The place, its files and its processes. Everything ends with it.
pub(crate) struct Rig {
    network: Option<Network>,
    /// Manifests, sockets, logs and, with the kernel half, the BPF file system.
    pub(crate) folder: PathBuf,
    processes: Vec<(String, Child)>,
    /// Where clients send HTTP.
    pub(crate) http: SocketAddr,
    /// Where clients send HTTPS.
    pub(crate) https: SocketAddr,
}

impl Rig {
    /// With `kernel`: namespaces, and a BPF file system of its own. Without: loopback and free ports.
    pub(crate) fn new(kernel: bool) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("portcullis-demo-{}", std::process::id()));
        sweep(&std::env::temp_dir());
        fs::create_dir_all(folder.join("manifests"))?;
        if !kernel {
            let (http, https) = (free_address()?, free_address()?);
            return Ok(Self { network: None, folder, processes: Vec::new(), http, https });
        }
        let bpffs = folder.join("bpf");
        fs::create_dir_all(&bpffs)?;
        let made = std::process::Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpffs).output()?;
        if !made.status.success() {
            bail!("cannot mount a BPF file system: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        let vip: IpAddr = VIP.parse()?;
        let (http, https) = (SocketAddr::new(vip, 80), SocketAddr::new(vip, 443));
        Ok(Self { network: Some(Network::new()?), folder, processes: Vec::new(), http, https })
    }

    /// A program on the client's side.
    pub(crate) fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.command(self.network.as_ref().map(|network| &network.client), program)
    }

    /// A program on the node.
    pub(crate) fn node(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.command(self.network.as_ref().map(|network| &network.node), program)
    }

    fn command(&self, namespace: Option<&Namespace>, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command: Command = match namespace {
            Some(namespace) => namespace.command(program).into(),
            None => {
                // Ends with the demo, however that ends.
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
        };
        command.kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// Starts a backend and returns where it listens.
    pub(crate) async fn start_backend(&mut self, name: &str, host: usize) -> anyhow::Result<SocketAddr> {
        let address: IpAddr = match (&self.network, host) {
            (None, _) => "127.0.0.1".parse()?,
            (Some(_), 0) => "198.18.1.2".parse()?,
            (Some(_), _) => "198.18.2.2".parse()?,
        };
        let namespace = self.network.as_ref().and_then(|network| network.backends.get(host));
        let mut command = self.command(namespace, std::env::current_exe()?);
        command.args(["backend", name, &SocketAddr::new(address, 0).to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("the backend has no standard output")?;
        let line = BufReader::new(output).lines().next_line().await?.context("the backend ended at once")?;
        self.processes.push((name.to_owned(), child));
        Ok(line.parse()?)
    }

    /// Starts a role of `portcullis` on the node; its log goes to `NAME.log` in the rig's folder.
    pub(crate) fn start(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        let log = fs::File::create(self.log(name))?;
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.processes.push((name.to_owned(), child));
        Ok(())
    }

    /// The log of a process started by [`Rig::start`].
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Sends SIGTERM to a process and waits for its end.
    pub(crate) async fn stop(&mut self, name: &str) -> anyhow::Result<std::process::ExitStatus> {
        let at = self.processes.iter().position(|(known, _)| known == name).context("no such process")?;
        let (_, mut child) = self.processes.remove(at);
        let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?));
        rustix::process::kill_process(pid.context("it has ended already")?, rustix::process::Signal::TERM)?;
        let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
        Ok(ended.with_context(|| format!("{name} did not end within 20 s of SIGTERM"))??)
    }

    /// Waits until `portcullis probe` says ready, or fails with the end of the log.
    pub(crate) async fn ready(&mut self, name: &str, socket: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let binary = portcullis()?;
        while Instant::now() < deadline {
            let mut probe = self.node(&binary);
            probe
                .args(["probe", "/readyz", "--socket"])
                .arg(socket)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if probe.status().await?.success() {
                return Ok(());
            }
            let (_, child) =
                self.processes.iter_mut().find(|(known, _)| known == name).context("no such process")?;
            if child.try_wait()?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let end: Vec<_> = log.lines().rev().take(15).collect();
        bail!(
            "{name} did not become ready; its log ends:\n{}",
            end.into_iter().rev().collect::<Vec<_>>().join("\n")
        )
    }

    /// Name of the node's namespace, for hints.
    pub(crate) fn node_name(&self) -> Option<&str> {
        self.network.as_ref().map(|network| network.node.name())
    }

    /// Name of the client's namespace, for hints.
    pub(crate) fn client_name(&self) -> Option<&str> {
        self.network.as_ref().map(|network| network.client.name())
    }
}

impl Network {
    fn new() -> anyhow::Result<Self> {
        let (client, node) = (Namespace::new("client")?, Namespace::new("node")?);
        let backends = [Namespace::new("web")?, Namespace::new("api")?];
        netns::veth(&client, "eth0", &node, "eth0")?;
        let sources = [CLIENT, DENIED, GREEDY].map(|source| format!("{source}/24"));
        let mut of_client: Vec<&str> = sources.iter().map(String::as_str).collect();
        of_client.push("2001:db8::10/64");
        netns::addresses(&client, "eth0", &of_client)?;
        netns::addresses(&node, "eth0", &["198.18.0.1/24", "2001:db8::1/64"])?;
        client.run(&format!("ip route add {VIP} via 198.18.0.1"))?;
        client.run(&format!("ip route add {VIP6} via 2001:db8::1"))?;
        for (number, backend) in backends.iter().enumerate() {
            let (interface, net) = (format!("pod{number}"), format!("198.18.{}", number + 1));
            netns::veth(&node, &interface, backend, "eth0")?;
            netns::addresses(&node, &interface, &[&format!("{net}.1/24")])?;
            netns::addresses(backend, "eth0", &[&format!("{net}.2/24")])?;
        }
        Ok(Self { client, node, backends })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Processes first (dropping a child kills it), then their namespaces, then their files.
        self.processes.clear();
        self.network = None;
        remove(&self.folder);
    }
}

/// The binary beside this one.
pub(crate) fn portcullis() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("portcullis");
    if !binary.exists() {
        bail!("{} is not built; run `cargo xtask demo`", binary.display());
    }
    Ok(binary)
}

/// Removes what a demo that was killed has left.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("portcullis-demo-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    let bpffs = folder.join("bpf");
    if bpffs.exists() {
        let _ = std::process::Command::new("umount").arg(&bpffs).output();
    }
    let _ = fs::remove_dir_all(folder);
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
