//! Two nodes of one pool, each on a kernel of its own, and a client.
//!
//! The secret of SYN cookies is one per kernel, so nodes in namespaces of one kernel would take each other's cookies. Here a
//! proof that goes to the wrong node is refused: shown is which node answers each SYN, that the proof finds this node
//! whichever node receives it (also when another node owns the flow meanwhile), and what both counted.
//!
//! Two machines joined by a link of datagrams; in the first one the client has a network interface of its own. In the
//! machines this binary plays the nodes and the client; they talk to each other by [`control`].

pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod counts;
pub(crate) mod node;
pub(crate) mod wire;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ingress_tests::netns::Namespace;
use ingress_tests::node::run;

use crate::image::Image;
use crate::machine::Machine;
use crate::packages::Kernel;

/// What `--filter` calls it.
pub(crate) const NAME: &str = "pair";

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(420);

/// A hardware address.
type Mac = [u8; 6];

/// The hardware address of the client.
const CLIENT_MAC: Mac = [0x52, 0x54, 0, 0, 0, 0x64];

/// The hardware address of a node.
fn mac(number: usize) -> Mac {
    [0x52, 0x54, 0, 0, 0, number as u8]
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs node 1 and the client on the first kernel, node 2 on the second.
pub(crate) fn run_on(kernels: [&Kernel; 2], folder: &Path, binaries: &Image) -> anyhow::Result<()> {
    let started = Instant::now();
    let ends = folder.join(format!("pair-{}", std::process::id()));
    fs::create_dir_all(&ends)?;
    let outcome = both(kernels, folder, &ends, binaries);
    fs::remove_dir_all(&ends)?;
    outcome?;
    say(&format!("PASS in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

fn both(kernels: [&Kernel; 2], folder: &Path, ends: &Path, binaries: &Image) -> anyhow::Result<()> {
    let [first, second] = kernels;
    let one = start(first, &script(1), &arguments(1, ends), folder, binaries, 1)?;
    let two = start(second, &script(2), &arguments(2, ends), folder, binaries, 2)?;
    say(&format!("node-1 and the client on Linux {}, node-2 on Linux {}", first.release, second.release));
    std::thread::scope(|scope| {
        let [one, two] = [(1, one), (2, two)].map(|(number, mut machine)| {
            scope.spawn(move || {
                machine.lines_to_the_end(PATIENCE, |line| say(&format!("machine {number} | {line}")))
            })
        });
        for (who, thread) in [("client", one), ("node-2", two)] {
            let lines = thread.join().ok().context("a thread that watched a machine panicked")??;
            let end = lines.iter().find_map(|line| line.strip_prefix(&format!("kernels: ended {who} ")));
            match end {
                Some("0") => {}
                Some(_) => bail!("{who} failed"),
                None => bail!("the machine of {who} ended before {who} did"),
            }
        }
        Ok(())
    })
}

fn start(
    kernel: &Kernel,
    script: &str,
    arguments: &[String],
    folder: &Path,
    binaries: &Image,
    number: usize,
) -> anyhow::Result<Machine> {
    let mut image = binaries.clone();
    image.text("/init", script)?;
    let archive = image.with_modules(&kernel.modules, &folder.join(format!("{NAME}-{number}.initramfs")))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Machine::start(&kernel.image, &archive, &arguments)
}

/// What a machine does once it is up.
fn script(number: usize) -> String {
    let parts = match number {
        1 => "/tests/kernels --play node 1 &\nplay client\n".to_owned(),
        _ => format!("play node {number}\n"),
    };
    let play = format!(
        "play() {{\n\t/tests/kernels --play \"$@\"\n\techo \"kernels: ended $1{}$2 $?\"\n}}\n",
        "${2:+-}"
    );
    format!("{}{play}{parts}poweroff -f\n", include_str!("init.sh"))
}

/// The network of a machine, in words of qemu. What is sent before the other end is there is lost, as on a wire.
fn arguments(number: usize, ends: &Path) -> Vec<String> {
    let end = |number: usize| ends.join(number.to_string()).display().to_string();
    let (here, there) = (end(number), end(3 - number));
    let link =
        format!("dgram,id=link,local.type=unix,local.path={here},remote.type=unix,remote.path={there}");
    let card = |to: &str, mac: Mac| format!("virtio-net-pci,netdev={to},romfile=,mac={}", text(mac));
    let words = match number {
        1 => vec![
            ("-netdev", link),
            ("-netdev", "hubport,id=uplink,hubid=0,netdev=link".to_owned()),
            ("-netdev", "hubport,id=node,hubid=0".to_owned()),
            ("-netdev", "hubport,id=client,hubid=0".to_owned()),
            ("-device", card("node", mac(1))),
            ("-device", card("client", CLIENT_MAC)),
        ],
        _ => vec![("-netdev", link), ("-device", card("link", mac(number)))],
    };
    words.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
}

/// Plays a part in a machine.
pub(crate) fn play(part: &[String]) -> anyhow::Result<()> {
    match part {
        [part] if part == "client" => client::play(),
        [part, number] if part == "node" => node::play(number.parse().context("the number of a node")?),
        _ => bail!("no part is called {part:?}"),
    }
}

/// Moves the network interface with this hardware address into a namespace, as `eth0`, up.
fn plug(mac: Mac, namespace: &Namespace) -> anyhow::Result<()> {
    for entry in fs::read_dir("/sys/class/net")?.flatten() {
        let own = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if own.trim() == text(mac) {
            let mut command = std::process::Command::new("ip");
            command.args(["link", "set"]).arg(entry.file_name());
            run(command.args(["netns", namespace.name(), "name", "eth0"]))?;
            return namespace.run("ip link set eth0 up").map(drop);
        }
    }
    bail!("no network interface has the address {}", text(mac))
}

#[expect(clippy::print_stdout, reason = "the tier says what it does")]
fn say(what: &str) {
    println!("kernels: {NAME}: {what}");
}
