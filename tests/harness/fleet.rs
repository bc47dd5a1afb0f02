//! Several nodes on one switch and a client: namespaces joined by a bridge, the same manifests for all nodes, on each
//! node a `portcullis run` of its own, with an origin that answers with the node's name.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use ingress_userspace::bpf::object::OBJECT;

use crate::http::{self, Outcome};
use crate::kernel::EMPTY_PROGRAM;
use crate::netns::{self, Namespace};
use crate::node::{Process, VIP, VIP6, binary, ingress, run};
use crate::patience;

/// The client's address.
pub const CLIENT: &str = "198.18.0.100";
/// The same for IPv6.
pub const CLIENT6: &str = "2001:db8::100";
/// What the origins of the nodes answer, by the number of the node.
pub const NAMES: [&str; 6] = ["nobody", "node-1", "node-2", "node-3", "node-4", "node-5"];

/// The key that the nodes share.
pub const KEY: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: portcullis.key, namespace: default}\n\
                       stringData: {key: 00112233445566778899aabbccddeeff}\n";

const PREFIX: &str = "portcullis-fleet-";
const ORIGIN: &str = "127.0.0.1:8081";

/// Nodes, a switch, a client.
#[expect(missing_debug_implementations, reason = "an object of aya has none")]
pub struct Fleet {
    /// Where clients are.
    pub client: Namespace,
    switch: Namespace,
    nodes: Vec<Namespace>,
    folder: PathBuf,
    /// XDP sends out of a veth only towards an end that has a program itself.
    passing: Ebpf,
}

/// The IPv4 address of a node.
pub fn address(number: usize) -> String {
    format!("198.18.0.{number}")
}

/// The IPv6 address of a node.
pub fn address6(number: usize) -> String {
    format!("2001:db8::{number}")
}

impl Fleet {
    /// Builds `count` nodes, numbered from 1; they are members of the pool once [`Fleet::join`] says so. The client
    /// reaches the VIPs through node 1.
    pub fn new(count: usize) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("manifests"))?;
        let object = OBJECT.context("the tests were built without the kernel half")?;
        let mut passing = Ebpf::load(object)?;
        let program: &mut Xdp =
            passing.program_mut(EMPTY_PROGRAM).context("the empty program")?.try_into()?;
        program.load()?;
        let mut this = Self {
            client: Namespace::new("client")?,
            switch: Namespace::new("switch")?,
            nodes: vec![],
            folder,
            passing,
        };
        this.switch.run("ip link add br0 type bridge")?;
        this.switch.run("ip link set br0 up")?;
        netns::veth(&this.switch, "client", &this.client, "eth0")?;
        this.switch.run("ip link set client master br0")?;
        netns::addresses(&this.client, "eth0", &[&format!("{CLIENT}/24"), &format!("{CLIENT6}/64")])?;
        for number in 1..=count {
            this.add(number)?;
        }
        this.route_by(1)?;
        this.write("ingress.yaml", &ingress(ORIGIN.parse()?))?;
        this.write("pool.yaml", &pool(""))?;
        this.write("key.yaml", KEY)?;
        Ok(this)
    }

    fn add(&mut self, number: usize) -> anyhow::Result<()> {
        let node = Namespace::new("node")?;
        let port = format!("n{number}");
        netns::veth(&self.switch, &port, &node, "eth0")?;
        self.switch.run(&format!("ip link set {port} master br0"))?;
        let program: &mut Xdp =
            self.passing.program_mut(EMPTY_PROGRAM).context("the empty program")?.try_into()?;
        self.switch.enter(|| program.attach(&port, XdpMode::Driver))??;
        netns::addresses(
            &node,
            "eth0",
            &[&format!("{}/24", address(number)), &format!("{}/64", address6(number))],
        )?;
        let origin = node.enter(|| TcpListener::bind(ORIGIN))??;
        http::serve(origin, NAMES.get(number).copied().context("a name for the node")?);
        let bpffs = self.bpffs(number);
        fs::create_dir_all(&bpffs)?;
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(bpffs))?;
        self.nodes.push(node);
        Ok(())
    }

    /// From now on the client sends to the VIPs through this node.
    pub fn route_by(&self, number: usize) -> anyhow::Result<()> {
        self.client.run(&format!("ip route replace {VIP} via {}", address(number)))?;
        self.client.run(&format!("ip route replace {VIP6} via {}", address6(number)))?;
        Ok(())
    }

    /// From now on the client asks who has the VIPs, which are on its link.
    pub fn ask_neighbours(&self) -> anyhow::Result<()> {
        self.client.run(&format!("ip route replace {VIP} dev eth0"))?;
        self.client.run(&format!("ip route replace {VIP6} dev eth0"))?;
        Ok(())
    }

    /// The hardware address that the client knows for an address.
    pub fn neighbour(&self, address: &str) -> anyhow::Result<Option<String>> {
        let shown = self.client.run(&format!("ip -json neigh show to {address} dev eth0"))?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        let mac = shown.get(0).and_then(|entry| entry.get("lladdr")?.as_str());
        Ok(mac.map(str::to_owned))
    }

    /// The hardware address of a node.
    pub fn mac(&self, number: usize) -> anyhow::Result<String> {
        let shown = self.node(number)?.run("ip -json link show dev eth0")?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        let mac = shown.get(0).and_then(|link| link.get("address")?.as_str());
        Ok(mac.context("a hardware address")?.to_owned())
    }

    /// Puts it back.
    pub fn plug(&self, number: usize) -> anyhow::Result<()> {
        self.switch.run(&format!("ip link set n{number} up")).map(drop)
    }

    /// The namespace of a node.
    pub fn node(&self, number: usize) -> anyhow::Result<&Namespace> {
        self.nodes.get(number - 1).context("a node of this number")
    }

    fn bpffs(&self, number: usize) -> PathBuf {
        self.folder.join(format!("bpf-{number}"))
    }

    /// Writes a manifest in one step.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let temporary = self.folder.join(format!("{name}.new"));
        fs::write(&temporary, text)?;
        Ok(fs::rename(temporary, self.folder.join("manifests").join(name))?)
    }

    /// Makes a node a member of the pool, `active` or `draining`.
    pub fn join(&self, number: usize, state: &str) -> anyhow::Result<()> {
        self.write(&format!("node-{number}.yaml"), &member(number, state))
    }

    /// Takes a node out of the pool.
    pub fn leave(&self, number: usize) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.folder.join("manifests").join(format!("node-{number}.yaml")))?)
    }

    /// Starts `portcullis run` on a node; `name` is that of its log.
    pub fn start(&self, number: usize, name: &str, more: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.node(number)?.command(binary()?);
        command.arg("run").arg("--manifests").arg(self.folder.join("manifests"));
        command.args(["--node-name", NAMES.get(number).copied().context("a name")?]);
        command.arg("--bpffs").arg(self.bpffs(number));
        command.arg("--admin-socket").arg(self.folder.join(format!("{name}.sock")));
        command.args(["--healthz-port", "0", "--workers", "2", "--drain-timeout", "10"]).args(more);
        self.spawn(name, &mut command)
    }

    /// Starts `portcullis agent` of this binary on a node; `name` is that of its log.
    pub fn agent(&self, number: usize, name: &str, binary: &Path, more: &[&str]) -> anyhow::Result<Process> {
        let mut command = self.node(number)?.command(binary);
        command.arg("agent").arg("--manifests").arg(self.folder.join("manifests"));
        command.args(["--node-name", NAMES.get(number).copied().context("a name")?]);
        command.arg("--bpffs").arg(self.bpffs(number)).arg("--link-socket").arg(self.link_socket(number));
        command.args(["--healthz-port", "0", "--mode", "xdp-native"]).args(more);
        self.spawn(name, &mut command)
    }

    /// Starts `portcullis proxy` on a node, which connects to the node's agent.
    pub fn proxy(&self, number: usize, name: &str) -> anyhow::Result<Process> {
        let mut command = self.node(number)?.command(binary()?);
        command.arg("proxy").arg("--link-socket").arg(self.link_socket(number));
        command.args(["--healthz-port", "0", "--workers", "2", "--drain-timeout", "10"]);
        self.spawn(name, &mut command)
    }

    fn link_socket(&self, number: usize) -> PathBuf {
        self.folder.join(format!("agent-{number}.sock"))
    }

    fn spawn(&self, name: &str, command: &mut Command) -> anyhow::Result<Process> {
        let log = self.folder.join(format!("{name}.log"));
        let output = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Process::spawn(command, log)
    }

    /// Pulls the cable of a node.
    pub fn unplug(&self, number: usize) -> anyhow::Result<()> {
        self.switch.run(&format!("ip link set n{number} down"))?;
        Ok(())
    }

    /// The state of a node as `portcullis status` prints it.
    pub fn status(&self, number: usize) -> anyhow::Result<serde_json::Value> {
        self.status_of(number, &binary()?)
    }

    /// The same by this binary, which may be of another map layout.
    pub fn status_of(&self, number: usize, binary: &Path) -> anyhow::Result<serde_json::Value> {
        let mut command = self.node(number)?.command(binary);
        command.args(["status", "--output", "json", "--bpffs"]).arg(self.bpffs(number));
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    /// The same for people, with what the agent of this log adds.
    pub fn status_text(&self, number: usize, name: &str) -> anyhow::Result<String> {
        let socket = self.folder.join(format!("{name}.sock"));
        self.tool(number, &["status", "--admin-socket", socket.to_str().context("a path")?])
    }

    /// Runs a command of `portcullis` to its end on a node and returns what it printed.
    pub fn tool(&self, number: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.node(number)?.command(binary()?);
        run(command.args(arguments).arg("--bpffs").arg(self.bpffs(number)))
    }

    /// Packets that a node counted for the VIPs under a reason.
    pub fn packets(&self, number: usize, reason: &str) -> anyhow::Result<u64> {
        let status = self.status(number)?;
        let rows = status.get("counters").and_then(serde_json::Value::as_array).context("counters")?;
        let mine = rows.iter().filter(|row| row.get("reason").is_some_and(|own| own == reason));
        Ok(mine.filter_map(|row| row.get("packets")?.as_u64()).sum())
    }

    /// One request of the client over a connection of its own; the body names the node that answered.
    pub fn get(&self, to: &str) -> anyhow::Result<Outcome> {
        self.get_within(to, Duration::from_secs(5))
    }

    /// The same with its own patience.
    pub fn get_within(&self, to: &str, patience: Duration) -> anyhow::Result<Outcome> {
        let to: IpAddr = to.parse()?;
        self.client.enter(|| http::get(None, SocketAddr::new(to, 80), "x.example.test", patience))
    }

    /// Waits until something is true; the logs explain why it is not.
    pub fn wait_for(&self, what: &str, is_true: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        patience::wait_for(what, &self.folder, is_true)
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        patience::ends_of_logs(&self.folder)
    }
}

/// A node as a member of the pool, `active` or `draining`.
pub fn member(number: usize, state: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\n\
         metadata: {{name: node-{number}, annotations: {{portcullis.dev/state: {state}}}}}\n\
         status: {{addresses: [{{type: InternalIP, address: {}}}, {{type: InternalIP, address: \"{}\"}}]}}\n",
        address(number),
        address6(number)
    )
}

/// The pool of both VIPs; `spec` is what follows the blocks, in YAML flow style, with a leading comma.
pub fn pool(spec: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: AddressPool\nmetadata: {{name: edge}}\n\
         spec: {{blocks: [{{cidr: {VIP}/32}}, {{cidr: \"{VIP6}/128\"}}]{spec}}}\n"
    )
}

impl Drop for Fleet {
    fn drop(&mut self) {
        patience::show_logs_of_a_failure(&self.folder);
        for number in 1..=self.nodes.len() {
            // Lazily: a process that has just been killed may still hold it.
            let _ = Command::new("umount").args(["--lazy"]).arg(self.bpffs(number)).output();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
