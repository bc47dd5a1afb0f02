//! Tier "kernels": the tests of other tiers on other kernels, each in a virtual machine that holds nothing else.
//!
//! Debian's packages of Linux 6.1, 6.12 and the newest are started by qemu without any hardware support. The machine's whole
//! system is the test binaries, `portcullis` and the tools that the tests call. Shown is that the verifier of each kernel
//! takes every program (and looks at no more than twice the instructions of [`RECORDED`]), what becomes of each packet of
//! the tier packet, and that requests get through XDP and SK_LOOKUP in each mode. Then two kernels are nodes of one pool:
//! see [`pair`].
//!
//! `cargo xtask test kernels [--filter 6.1]`, or `--filter pair`. Packages are kept in `~/.cache/portcullis/kernels`. With `UPDATE_EXPECT=1` the
//! instructions are recorded.
#![expect(clippy::print_stdout, reason = "a test without harness tells its results itself")]

mod image;
mod machine;
mod packages;
mod pair;
mod record;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use image::Image;
use machine::Machine;
use packages::Modules;

/// Which kernels: a name and what their version begins with.
const KERNELS: &[(&str, &str)] = &[("6.1", "6.1."), ("6.12", "6.12."), ("newest", "")];

/// Tests of other tiers that run in the machine: of each those whose outcome is up to the kernel, by its verifier, its
/// helpers and its hooks. A machine without hardware support needs many seconds for each.
const TIERS: &[(&str, &[&str])] = &[
    (
        "packet",
        &[
            "object::",
            "xdp::",
            "tc::",
            "sk_lookup::",
            "cookie::",
            "steering::",
            "echo::",
            "bans::the_program_itself",
            "limits::a_source_is_held",
            "limits::a_source_opens",
            "limits::a_limit_of_bytes",
            "lists::a_source_that_the_old",
        ],
    ),
    (
        "datapath",
        &[
            "modes::auto",
            "modes::a_node_that_sends",
            "modes::a_bpffs",
            "modes::an_interface",
            "modes::without",
            "reported::",
            "traffic::",
            "hooks::beside_a_foreign",
            "hooks::tc_can_be_asked",
        ],
    ),
];

/// Programs that these tests start.
const TOOLS: &[&str] = &[
    "chmod", "ethtool", "ip", "mkdir", "mount", "nsenter", "setpriv", "sh", "sysctl", "tc", "umount",
    "unshare",
];

/// Drivers and filters that these tests use.
const MODULES: Modules = Modules {
    needed: &["veth", "macvlan", "dummy", "sch_ingress", "cls_bpf", "virtio_net"],
    where_there: &["virtio_pci"],
};

/// Of which kernels the nodes of [`pair`] are.
const PAIR: [&str; 2] = ["6.1", "newest"];

/// How long one kernel may take.
const PATIENCE: Duration = Duration::from_secs(1800);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, part @ ..] = &arguments[..]
        && first == "--play"
    {
        return match pair::play(part) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("kernels: {part:?}: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let only: Vec<String> = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    let started = Instant::now();
    let outcome = run(&only);
    if let Err(error) = &outcome {
        println!("kernels: {error:#}");
    }
    let (passed, failed) = outcome.as_ref().map_or((0, 1), |counts| *counts);
    println!("kernels: {passed} passed, {failed} failed");
    println!("kernels: {:.0} s", started.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many kernels passed and failed.
fn run(only: &[String]) -> anyhow::Result<(usize, usize)> {
    let is_chosen = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    let chosen: Vec<_> = KERNELS.iter().filter(|(name, _)| is_chosen(name)).collect();
    if chosen.is_empty() && !is_chosen(pair::NAME) {
        let names: Vec<&str> = KERNELS.iter().map(|(name, _)| *name).collect();
        bail!("nothing is called {only:?}; there are {names:?} and {}", pair::NAME);
    }
    let folder = packages::cache()?;
    let (mut passed, mut failed) = kernel_by_kernel(&chosen, &folder)?;
    if is_chosen(pair::NAME) {
        match two_kernels(&folder) {
            Ok(()) => passed += 1,
            Err(error) => {
                failed += 1;
                println!("kernels: {}: FAIL: {error:#}", pair::NAME);
            }
        }
    }
    Ok((passed, failed))
}

/// How many of these kernels passed and failed.
fn kernel_by_kernel(chosen: &[&(&str, &str)], folder: &Path) -> anyhow::Result<(usize, usize)> {
    let (mut passed, mut failed) = (0, 0);
    if chosen.is_empty() {
        return Ok((passed, failed));
    }
    let image = system(folder)?;
    // A machine keeps hardly more than one CPU busy.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    for some in chosen.chunks(at_once) {
        let outcomes = std::thread::scope(|scope| {
            let one = |(name, version): &(&str, &str)| on_one(name, version, folder, &image);
            let start = |kernel| (kernel, scope.spawn(move || one(kernel)));
            let running: Vec<_> = some.iter().map(|kernel| start(*kernel)).collect();
            running.into_iter().map(|(kernel, thread)| (kernel.0, thread.join())).collect::<Vec<_>>()
        });
        for (name, outcome) in outcomes {
            match outcome {
                Ok(Ok(())) => passed += 1,
                Ok(Err(error)) => {
                    failed += 1;
                    println!("kernels: {name}: FAIL: {error:#}");
                }
                Err(_) => bail!("{name}: the thread that watched the machine panicked"),
            }
        }
    }
    Ok((passed, failed))
}

fn two_kernels(folder: &Path) -> anyhow::Result<()> {
    let obtain = |wanted: &str| {
        let known = KERNELS.iter().find(|(name, _)| *name == wanted);
        let (name, version) = known.with_context(|| format!("no kernel is called {wanted}"))?;
        packages::obtain(folder, name, version, MODULES)
    };
    let [first, second] = PAIR;
    let mut image = base(folder)?;
    image.program("/tests/kernels", &std::env::current_exe()?)?;
    pair::run_on([&obtain(first)?, &obtain(second)?], folder, &image)
}

/// What is in every machine.
fn base(folder: &Path) -> anyhow::Result<Image> {
    let mut image = Image::new(folder)?;
    image.system(TOOLS)?;
    image.program("/tests/portcullis", &ingress_tests::node::binary()?)?;
    Ok(image)
}

/// Everything in the machine of a kernel but the modules.
fn system(folder: &Path) -> anyhow::Result<Image> {
    let mut image = base(folder)?;
    for (tier, _) in TIERS {
        image.program(&format!("/tests/{tier}"), &test_binary(tier)?)?;
    }
    image.text("/init", &init())?;
    Ok(image)
}

/// The first process of the machine.
fn init() -> String {
    let mut script = include_str!("init.sh").to_owned();
    for (tier, filters) in TIERS {
        let filters = filters.join(" ");
        script += &format!("run {tier} --test-threads 1 --nocapture {filters}\n");
    }
    script + "poweroff -f\n"
}

/// Builds the tests of a tier and says where they are.
fn test_binary(tier: &str) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--no-run", "--quiet", "--package", "ingress-tests", "--test", tier]);
    command.arg("--message-format=json").current_dir(env!("CARGO_MANIFEST_DIR"));
    let printed = ingress_tests::node::run(&mut command)?;
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut binaries = messages
        .filter(|message| message.pointer("/target/name").is_some_and(|name| name == tier))
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    binaries.next().with_context(|| format!("cargo names no binary of the tier {tier}"))
}

fn on_one(name: &str, version: &str, folder: &Path, image: &Image) -> anyhow::Result<()> {
    let started = Instant::now();
    let kernel = packages::obtain(folder, name, version, MODULES)?;
    println!("kernels: {name}: Linux {}", kernel.release);
    let archive = image.with_modules(&kernel.modules, &folder.join(format!("{name}.initramfs")))?;
    let mut machine = Machine::start(&kernel.image, &archive, &[])?;
    let lines = machine.lines_to_the_end(PATIENCE, |line| println!("{name} | {line}"))?;
    for (tier, _) in TIERS {
        let end = lines.iter().find_map(|line| line.strip_prefix(&format!("kernels: ended {tier} ")));
        match end {
            Some("0") => println!("kernels: {name}: PASS {tier}"),
            Some(_) => bail!("the tier {tier} failed"),
            None => bail!("the machine ended within the tier {tier}"),
        }
    }
    record::compare(name, &lines)?;
    println!("kernels: {name}: PASS in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
