//! What the tiers `chart` and `cluster` run: helm, the chart, and a rig with a real API server.

#![expect(clippy::indexing_slicing, reason = "JSON without the key is null, not a panic")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use socket2::{Domain, Socket, Type};

/// Where `cargo xtask setup` puts what no package brings.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    std::env::var_os("PORTCULLIS_CACHE").map_or_else(|| home().join(".cache/portcullis"), PathBuf::from)
}

/// The root of the workspace. Asked at run time: checkouts that share a target directory may share a test's binary.
pub fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
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

/// The rig that this process runs in: `tests/cluster/control-plane/rig.sh` set its environment.
#[derive(Debug)]
pub struct Rig {
    state: PathBuf,
    source: PathBuf,
}

/// How long anything may take that a user would call immediate.
pub const SOON: Duration = Duration::from_secs(20);

impl Rig {
    /// The rig around this process, if it is in one.
    pub fn here() -> Option<Self> {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Some(Self { state: folder("RIG")?, source: folder("RIG_SOURCE")? })
    }

    /// A file that ends with the rig.
    pub fn file(&self, name: &str) -> String {
        self.state.join(name).display().to_string()
    }

    /// Builds the program and its neighbours, and starts this test again inside of a rig. Returns only when that could not be done.
    pub fn enter() -> anyhow::Result<()> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(root()).args([
            "build",
            "--quiet",
            "--package",
            "ingress-userspace",
            "--bin",
            "portcullis",
        ]);
        run(&mut cargo)?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let tier = root().join("tests/cluster");
        // Apart from the control plane: who only wants a cluster does not build it.
        let cert_manager = run(&mut Command::new(tier.join("cert-manager/build.sh")))?;
        let mut rig = Command::new(tier.join("control-plane/rig.sh"));
        rig.env("RIG_CERT_MANAGER", cert_manager.trim());
        rig.env("RIG_PORTCULLIS", target.join("debug/portcullis"));
        rig.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
        Err(anyhow::Error::new(rig.exec()).context("cannot start rig.sh"))
    }

    /// A kubectl that is the cluster's administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(Command::new("kubectl").args(arguments))
    }

    /// Applies objects.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.with_input(&["apply", "-f", "-"], yaml)
    }

    /// Creates objects that are not there yet.
    pub fn create(&self, yaml: &str) -> anyhow::Result<()> {
        self.with_input(&["create", "-f", "-"], yaml)
    }

    /// Deletes objects and waits until they are gone.
    pub fn delete(&self, yaml: &str) -> anyhow::Result<()> {
        self.with_input(&["delete", "--wait", "-f", "-"], yaml)
    }

    fn with_input(&self, arguments: &[&str], yaml: &str) -> anyhow::Result<()> {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn()?;
        child.stdin.take().context("piped")?.write_all(yaml.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// `kill`, `start` or `restart` of a component of the control plane, or `relist` of a node.
    pub fn component(&self, action: &str, name: &str) -> anyhow::Result<()> {
        // Its output must not be captured: what it starts keeps it open.
        let status = Command::new(self.source.join("component.sh"))
            .args([action, name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "component.sh {action} {name}: {status}");
        Ok(())
    }

    /// A command on a node, in its network and mount namespaces.
    pub fn on_node(&self, node: usize, line: &str) -> anyhow::Result<String> {
        let pid = std::fs::read_to_string(self.state.join(format!("node-{node}.pid")))?;
        run(Command::new("nsenter").args(["-t", pid.trim(), "-n", "-m", "--"]).args(line.split_whitespace()))
    }

    /// The process on a node whose command begins with these words; needs no API server.
    pub fn find(&self, node: usize, words: &[&str]) -> anyhow::Result<i32> {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let of_node = std::fs::read_to_string(self.state.join(format!("node-{node}.pid")))?;
        let of_node = namespace(of_node.trim())?;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let mut command = command.split('\0').map(|word| word.rsplit('/').next().unwrap_or(word));
            let is_it = words.iter().all(|word| command.next() == Some(word));
            if is_it && namespace(&pid).is_ok_and(|found| found == of_node) {
                return pid.parse().with_context(|| format!("pid {pid:?}"));
            }
        }
        anyhow::bail!("no process {words:?} on node-{node}")
    }

    /// The processes of a container name in the running pods of a component, by node. One that was killed is waited for
    /// until its successor is known.
    pub fn processes(&self, component: &str, container: &str) -> anyhow::Result<Vec<Process>> {
        eventually("the processes that the API server tells of run", SOON, || {
            let found = self.told(component, container)?;
            for process in &found {
                let state = process.status("State").with_context(|| format!("{process:?}"))?;
                ensure!(!state.starts_with('Z'), "{process:?} has ended");
            }
            Ok(found)
        })
    }

    fn told(&self, component: &str, container: &str) -> anyhow::Result<Vec<Process>> {
        let selector = format!("app.kubernetes.io/component={component}");
        let list = self.kubectl(&["get", "pods", "-A", "-l", &selector, "-o", "json"])?;
        let list: serde_json::Value = serde_json::from_str(&list)?;
        let mut found = Vec::new();
        for pod in list["items"].as_array().into_iter().flatten() {
            for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
                let id = status["containerID"].as_str().unwrap_or_default();
                if status["name"] != container || !status["state"]["running"].is_object() {
                    continue;
                }
                found.push(Process {
                    pod: pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                    node: pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
                    pid: id
                        .trim_start_matches("pod-runner://")
                        .parse()
                        .with_context(|| format!("id {id:?}"))?,
                    restarts: status["restartCount"].as_u64().unwrap_or_default(),
                });
            }
        }
        found.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(found)
    }

    /// The last lines of every log: what to read after a failure.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for folder in ["pods/node-0/logs", "pods/node-1/logs", "log"] {
            let files = std::fs::read_dir(self.state.join(folder)).into_iter().flatten().flatten();
            for file in files.map(|entry| entry.path()).filter(|path| path.is_file()) {
                let log = String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()).into_owned();
                let lines: Vec<&str> = log.lines().collect();
                let is_ours = file.to_string_lossy().contains("portcullis");
                let shown = lines.len().saturating_sub(if is_ours { 60 } else { 5 });
                text.push_str(&format!("== {}\n", file.display()));
                for line in lines.iter().skip(shown) {
                    text.push_str(&format!("{line}\n"));
                }
            }
        }
        text
    }
}

/// A process of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Pod that it belongs to.
    pub pod: String,
    /// Node that it runs on.
    pub node: String,
    /// Process id in the rig.
    pub pid: i32,
    /// Times that the container was started again.
    pub restarts: u64,
}

impl Process {
    /// A line of `/proc/PID/status`.
    pub fn status(&self, field: &str) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("no {field}"))?.trim().to_owned())
    }

    /// Ends it as the kernel would.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal("KILL")
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        run(Command::new("kill").args(["-s", name, &self.pid.to_string()])).map(|_| ())
    }
}

/// Runs a command and returns what it printed.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tries until it holds; after `deadline` the last failure is the result.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("not within {} s: {what}", deadline.as_secs())));
            }
            Err(_not_yet) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// An answer of the ingress.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Head, with the status line.
    pub head: String,
    /// Body as JSON, when it is; the echo backend's says which pod answered.
    pub body: serde_json::Value,
}

impl Answer {
    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// One request over a connection of its own.
pub fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    get_from(None, address, host, path)
}

/// One request over a connection of its own, from one of this machine's addresses.
pub fn get_from(
    source: Option<IpAddr>,
    address: SocketAddr,
    host: &str,
    path: &str,
) -> anyhow::Result<Answer> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    send_from(source, address, head.as_bytes())
}

/// Sends a whole request over a connection of its own, which the request must end.
pub fn send(address: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    send_from(None, address, request)
}

fn send_from(source: Option<IpAddr>, address: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    let timeout = Duration::from_secs(3);
    socket.connect_timeout(&address.into(), timeout).with_context(|| format!("connect to {address}"))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("read from {address}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head in {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    // The echo backend's body is one chunk or has a length; either way it is the text between the outermost braces.
    let json = body.find('{').zip(body.rfind('}')).and_then(|(from, to)| body.get(from..=to));
    Ok(Answer {
        status: status.with_context(|| format!("no status in {head:?}"))?,
        head: head.to_owned(),
        body: json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
    })
}

/// Requests that go on in the background until [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<std::thread::JoinHandle<(u64, Vec<String>)>>,
    sent: Arc<AtomicU64>,
}

impl Load {
    /// One sender per address; each request must be answered with 200.
    pub fn start(addresses: &[SocketAddr], host: &'static str, path: &'static str) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let workers = addresses.iter().map(|address| {
            let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), *address);
            std::thread::spawn(move || {
                let (mut count, mut failures) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    count += 1;
                    match get(address, host, path) {
                        Ok(answer) if answer.status == 200 => {}
                        Ok(answer) => failures.push(format!("request {count} to {address}: {}", answer.head)),
                        Err(error) => failures.push(format!("request {count} to {address}: {error:#}")),
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
                (count, failures)
            })
        });
        Self { workers: workers.collect(), stop, sent }
    }

    /// Requests answered so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the load; how many requests there were, or the failures.
    pub fn stop(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut total, mut failures) = (0, Vec::new());
        for worker in self.workers {
            let (count, failed) = worker.join().ok().context("a sender panicked")?;
            total += count;
            failures.extend(failed);
        }
        let shown = failures.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        ensure!(failures.is_empty(), "{} of {total} requests failed:\n{shown}", failures.len());
        Ok(total)
    }
}
