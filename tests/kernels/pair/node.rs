//! A node in a machine: `portcullis run` in the driver of the machine's network interface, with an origin of its own.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use ingress_tests::fleet::{CLIENT, CLIENT6, KEY, NAMES, address, address6, member, pool};
use ingress_tests::http;
use ingress_tests::netns::{self, Namespace};
use ingress_tests::node::{Process, binary, ingress, policy, run};

use super::control::{self, BOTH, END, LOGS, STATUS};
use super::{mac, plug};

/// Where sources come from that exist nowhere, of each family: the client answers nothing that is sent there.
pub(crate) const NOWHERE: [&str; 2] = ["198.19.0.0/16", "2001:db8:f00d::/48"];

const FOLDER: &str = "/tmp/node";

struct Node {
    number: usize,
    name: &'static str,
    namespace: Namespace,
    /// The origin and the ear for the client are in a namespace behind the node, so that their connections are counted
    /// nowhere.
    back: Namespace,
}

/// The address of what is behind a node.
pub(crate) fn back(number: usize) -> String {
    format!("198.18.20{number}.2")
}

/// Plays a node until the client says that it is over.
pub(crate) fn play(number: usize) -> anyhow::Result<()> {
    let node = Node::new(number)?;
    let _process = node.start()?;
    node.back.enter(|| control::serve(number, |what| node.answer(what)))?
}

impl Node {
    fn new(number: usize) -> anyhow::Result<Self> {
        let (namespace, behind) = (Namespace::new("node")?, Namespace::new("back")?);
        plug(mac(number), &namespace)?;
        let own = [format!("{}/24", address(number)), format!("{}/64", address6(number))];
        netns::addresses(&namespace, "eth0", &own.each_ref().map(String::as_str))?;
        for (nowhere, client) in NOWHERE.iter().zip([CLIENT, CLIENT6]) {
            namespace.run(&format!("ip route add {nowhere} via {client}"))?;
        }
        let to_back = format!("198.18.20{number}.1");
        netns::veth(&namespace, "back", &behind, "eth0")?;
        netns::addresses(&namespace, "back", &[&format!("{to_back}/30")])?;
        netns::addresses(&behind, "eth0", &[&format!("{}/30", back(number))])?;
        behind.run(&format!("ip route add default via {to_back}"))?;
        namespace.enter(|| {
            fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")?;
            // Or the kernel does not tell XDP the way to the client of a packet that came by the other node.
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        })??;
        let name = NAMES.get(number).copied().context("a name for the node")?;
        let listener = behind.enter(|| TcpListener::bind((back(number), 0)))??;
        let node = Self { number, name, namespace, back: behind };
        fs::create_dir_all(node.bpffs())?;
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(node.bpffs()))?;
        node.write("ingress", &ingress(listener.local_addr()?))?;
        http::serve(listener, name);
        node.write("pool", &pool(""))?;
        node.write("policy", &policy("synProtection: Always"))?;
        node.write("key", KEY)?;
        node.write("node-1", &member(1, "active"))?;
        Ok(node)
    }

    fn bpffs(&self) -> PathBuf {
        PathBuf::from(FOLDER).join("bpf")
    }

    fn manifests(&self) -> PathBuf {
        PathBuf::from(FOLDER).join("manifests")
    }

    fn log(&self) -> PathBuf {
        PathBuf::from(FOLDER).join("run.log")
    }

    /// Writes a manifest in one step.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let temporary = PathBuf::from(FOLDER).join(name);
        fs::create_dir_all(self.manifests())?;
        fs::write(&temporary, text)?;
        Ok(fs::rename(temporary, self.manifests().join(format!("{name}.yaml")))?)
    }

    fn start(&self) -> anyhow::Result<Process> {
        let mut command = self.namespace.command(binary()?);
        command.arg("run").arg("--manifests").arg(self.manifests()).args(["--node-name", self.name]);
        command.args(["--mode", "xdp-native", "--interface", "eth0"]).arg("--bpffs").arg(self.bpffs());
        command.args(["--healthz-port", "0", "--workers", "2"]);
        command.arg("--admin-socket").arg(PathBuf::from(FOLDER).join("run.sock"));
        let output = fs::File::create(self.log())?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Process::spawn(&mut command, self.log())
    }

    fn answer(&self, what: &str) -> anyhow::Result<String> {
        match what {
            STATUS => {
                let mut command = self.namespace.command(binary()?);
                run(command.args(["status", "--output", "json", "--bpffs"]).arg(self.bpffs()))
            }
            LOGS => Ok(fs::read_to_string(self.log())?),
            BOTH => self.write("node-2", &member(2, "active")).map(|()| String::new()),
            END => Ok(String::new()),
            other => anyhow::bail!("node-{} knows no `{other}`", self.number),
        }
    }
}
