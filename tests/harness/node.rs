//! A node in a network namespace: a client before it, a BPF file system and a manifest folder of its own, and the real
//! `portcullis` binary in any role. Everything ends with it; what a killed run left is removed by the next.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::http::{self, Outcome};
use crate::netns::{self, Namespace};
use crate::patience;

/// A virtual address that no interface has.
pub const VIP: &str = "198.18.100.10";
/// The same for IPv6.
pub const VIP6: &str = "2001:db8:100::10";
/// The node's own address.
pub const NODE: &str = "198.18.0.1";
/// The same for IPv6.
pub const NODE6: &str = "2001:db8::1";
/// The client's ordinary address.
pub const CLIENT: &str = "198.18.0.10";
/// The same for IPv6.
pub const CLIENT6: &str = "2001:db8::10";
/// Another address of the client.
pub const OTHER: &str = "198.18.0.66";

const PREFIX: &str = "portcullis-node-";
/// How long anything may take that should come about.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client and a node, joined by a veth pair (`eth0` on both sides).
pub struct Node {
    /// Where clients are.
    pub client: Namespace,
    /// Where `portcullis` runs.
    pub node: Namespace,
    /// Manifests, sockets, logs and the BPF file system.
    pub folder: PathBuf,
}

impl Node {
    /// Builds it, with an Ingress for every host behind the VIPs, served by an origin on the node.
    pub fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("manifests"))?;
        fs::create_dir_all(folder.join("bpf"))?;
        let (client, node) = (Namespace::new("client")?, Namespace::new("node")?);
        let this = Self { client, node, folder };
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(this.bpffs()))?;
        netns::veth(&this.client, "eth0", &this.node, "eth0")?;
        netns::addresses(
            &this.client,
            "eth0",
            &[&format!("{CLIENT}/24"), &format!("{OTHER}/24"), &format!("{CLIENT6}/64")],
        )?;
        netns::addresses(&this.node, "eth0", &[&format!("{NODE}/24"), &format!("{NODE6}/64")])?;
        this.client.run(&format!("ip route add {VIP} via {NODE}"))?;
        this.client.run(&format!("ip route add {VIP6} via {NODE6}"))?;
        let origin = this.node.enter(|| TcpListener::bind("127.0.0.1:0"))??;
        let address = origin.local_addr()?;
        http::serve(origin, "origin");
        this.write("ingress.yaml", &ingress(address))?;
        this.write("pool.yaml", &pool("announce: L2"))?;
        Ok(this)
    }

    /// The BPF file system of this node.
    pub fn bpffs(&self) -> PathBuf {
        self.folder.join("bpf")
    }

    /// Writes a manifest in one step, as an editor does.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let temporary = self.folder.join(format!("{name}.new"));
        fs::write(&temporary, text)?;
        Ok(fs::rename(temporary, self.folder.join("manifests").join(name))?)
    }

    /// `portcullis ROLE` on the node, reading the manifests, without further flags.
    pub fn portcullis(&self, role: &str) -> anyhow::Result<Command> {
        let mut command = self.node.command(binary()?);
        command.arg(role);
        Ok(command)
    }

    /// `portcullis run` with the kernel half of this node, plus `more`.
    pub fn run(&self, name: &str, more: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.portcullis("run")?;
        command.arg("--manifests").arg(self.folder.join("manifests"));
        command.arg("--admin-socket").arg(self.folder.join(format!("{name}.sock")));
        command.args(["--healthz-port", "0", "--workers", "2", "--drain-timeout", "10"]);
        if !more.contains(&"--bpffs") {
            command.arg("--bpffs").arg(self.bpffs());
        }
        self.start(name, command.args(more))
    }

    /// `portcullis agent` with the kernel half of this node, plus `more`.
    pub fn agent(&self, name: &str, more: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.portcullis("agent")?;
        command.arg("--manifests").arg(self.folder.join("manifests"));
        command.arg("--bpffs").arg(self.bpffs()).args(["--healthz-port", "0"]);
        if !more.contains(&"--link-socket") {
            command.arg("--link-socket").arg(self.link_socket());
        }
        self.start(name, command.args(more))
    }

    /// `portcullis proxy` that connects to the agent of this node.
    pub fn proxy(&self, name: &str) -> anyhow::Result<Process> {
        let mut command = self.portcullis("proxy")?;
        command.arg("--link-socket").arg(self.link_socket());
        command.args(["--healthz-port", "0", "--workers", "2", "--drain-timeout", "10"]);
        self.start(name, &mut command)
    }

    /// Where agent and proxy meet.
    pub fn link_socket(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }

    /// Starts a process; its output goes to `NAME.log`.
    pub fn start(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        let log = self.folder.join(format!("{name}.log"));
        let output = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Process::spawn(command, log)
    }

    /// Runs a command of `portcullis` to its end on this node and returns what it printed.
    pub fn tool(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (name, rest) = arguments.split_first().context("a command")?;
        run(self.portcullis(name)?.args(rest).arg("--bpffs").arg(self.bpffs()))
    }

    /// What `portcullis drops` tells of the node where `portcullis run` was started under this name.
    pub fn drops(&self, name: &str, more: &[&str]) -> anyhow::Result<Vec<serde_json::Value>> {
        let socket = self.folder.join(format!("{name}.sock"));
        let mut arguments = vec!["drops", "--once", "--output", "json", "--admin-socket"];
        arguments.push(socket.to_str().context("a path")?);
        arguments.extend(more);
        self.tool(&arguments)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The state of the node as `portcullis status` prints it.
    pub fn status(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.tool(&["status", "--output", "json"])?)?)
    }

    /// Packets of an address that were counted under a reason so far.
    pub fn packets(&self, address: &str, reason: &str) -> anyhow::Result<u64> {
        let status = self.status()?;
        let rows = status.get("counters").and_then(serde_json::Value::as_array).context("counters")?;
        let mine = |row: &&serde_json::Value| {
            row.get("address").is_some_and(|own| own == address)
                && row.get("reason").is_some_and(|own| own == reason)
        };
        Ok(rows.iter().filter(mine).filter_map(|row| row.get("packets")?.as_u64()).sum())
    }

    /// What the admin socket of `portcullis run` (started under this name) answers for a path.
    pub fn admin(&self, name: &str, path: &str) -> anyhow::Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(self.folder.join(format!("{name}.sock")))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// One request of the client over a connection of its own.
    pub fn get(&self, source: &str, to: &str, port: u16) -> anyhow::Result<Outcome> {
        self.get_within(source, to, port, Duration::from_secs(5))
    }

    /// The same with its own patience.
    pub fn get_within(
        &self,
        source: &str,
        to: &str,
        port: u16,
        patience: Duration,
    ) -> anyhow::Result<Outcome> {
        let (source, to): (IpAddr, IpAddr) = (source.parse()?, to.parse()?);
        self.client.enter(|| http::get(Some(source), SocketAddr::new(to, port), "x.example.test", patience))
    }

    /// Waits until the VIP answers.
    pub fn wait_served(&self) -> anyhow::Result<()> {
        self.wait_for("an answer from the VIP", || Ok(self.get(CLIENT, VIP, 80)?.is_ok()))
    }

    /// Waits until something is true; the logs of this node explain why it is not.
    pub fn wait_for(&self, what: &str, is_true: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        patience::wait_for(what, &self.folder, is_true)
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        patience::ends_of_logs(&self.folder)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        patience::show_logs_of_a_failure(&self.folder);
        remove(&self.folder);
    }
}

/// A running process. Killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose output goes to this log.
    pub fn spawn(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(self) -> anyhow::Result<ExitStatus> {
        self.terminate()?;
        self.wait()
    }

    /// Waits for its end. (A second SIGTERM would mean at once.)
    pub fn wait(mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("did not end within {PATIENCE:?} of SIGTERM:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.id().cast_signed()).context("a process id")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `portcullis` binary that was built beside the tests; `PORTCULLIS_BINARY` names another.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTCULLIS_BINARY") {
        return Ok(path.into());
    }
    // target/debug/deps/TEST-… → target/debug/portcullis
    let test = std::env::current_exe()?;
    let binary = test.parent().and_then(Path::parent).context("the target folder")?.join("portcullis");
    if !binary.exists() {
        bail!("{} is not built; run `cargo xtask test`, which builds it", binary.display());
    }
    Ok(binary)
}

/// Runs a command to its end and returns its standard output.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{command:?}: {}\n{out}{err}", output.status);
    }
    Ok(out.into_owned())
}

/// An Ingress for every host, served by an origin.
pub fn ingress(origin: SocketAddr) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: IngressClass\n\
         metadata: {{name: portcullis}}\n\
         spec: {{controller: portcullis.dev/ingress-controller}}\n\
         ---\n\
         apiVersion: v1\n\
         kind: Service\n\
         metadata:\n\
         \x20 name: web\n\
         \x20 namespace: default\n\
         \x20 annotations: {{portcullis.dev/endpoints: \"{origin}\"}}\n\
         spec: {{ports: [{{port: 80}}]}}\n\
         ---\n\
         apiVersion: networking.k8s.io/v1\n\
         kind: Ingress\n\
         metadata: {{name: web, namespace: default}}\n\
         spec:\n\
         \x20 ingressClassName: portcullis\n\
         \x20 rules:\n\
         \x20   - http:\n\
         \x20       paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]\n"
    )
}

/// The AddressPool of a [`Node`]; `spec` is what follows `blocks`, in YAML flow style.
pub fn pool(spec: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: AddressPool\nmetadata: {{name: edge}}\n\
         spec: {{blocks: [{{cidr: {VIP}/32}}, {{cidr: \"{VIP6}/128\"}}], {spec}}}\n"
    )
}

/// An EdgePolicy for the pool of a [`Node`]; `spec` is what follows `targetRefs`, in YAML flow style.
pub fn policy(spec: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: EdgePolicy\nmetadata: {{name: edge}}\n\
         spec: {{targetRefs: [{{kind: AddressPool, name: edge}}], {spec}}}\n"
    )
}

/// Removes what a run that was killed has left.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    // Lazily: a process that has just been killed may still hold it.
    let _ = Command::new("umount").args(["--lazy"]).arg(folder.join("bpf")).output();
    let _ = fs::remove_dir_all(folder);
}
