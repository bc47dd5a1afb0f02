//! `cargo xtask setup`: what building and testing need beyond cargo, on Debian and Ubuntu.
//!
//! It looks first and touches nothing that is there, so it is quick when nothing is missing; `demo` and `test` call it for
//! the parts they need. Every command is printed before it runs. Without root or apt-get it changes nothing and says what
//! to install.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::{build_ebpf, registry_tools, shell};

/// Something that a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// To build the kernel half: a compiler with `core` for BPF, bpf-linker.
    Kernel,
    /// To run it and look at it: namespaces, interfaces, clients.
    Network,
    /// For the parity tier: nginx.
    Parity,
    /// For `cargo xtask lint`.
    Lint,
    /// For `cargo xtask fuzz`; not part of the whole set-up.
    Fuzz,
    /// For the chart tier: helm and the schemas of Kubernetes.
    Chart,
    /// For the proxy tier: a Redis.
    Proxy,
    /// For the cluster tier: a Go toolchain for the control plane, and helm.
    Cluster,
    /// For the kernels tier: an emulator and what the machine's own system is made of; not part of the whole set-up.
    Machine,
}

impl Part {
    pub(crate) const ALL: [Self; 7] =
        [Self::Kernel, Self::Network, Self::Parity, Self::Lint, Self::Chart, Self::Proxy, Self::Cluster];
}

const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Programs of the parts and the packages they come in.
const PROGRAMS: &[(Part, &str, &str)] = &[
    (Part::Network, "ip", "iproute2"),
    (Part::Network, "ethtool", "ethtool"),
    (Part::Network, "nft", "nftables"),
    (Part::Network, "bpftool", "bpftool"),
    (Part::Network, "curl", "curl"),
    (Part::Network, "openssl", "openssl"),
    (Part::Parity, "nginx", "nginx-light"),
    (Part::Parity, "nginx", "libnginx-mod-http-headers-more-filter"),
    (Part::Proxy, "redis-server", "redis-server"),
    (Part::Cluster, "curl", "curl"),
    (Part::Cluster, "openssl", "openssl"),
    (Part::Cluster, "ip", "iproute2"),
    (Part::Cluster, "python3", "python3"),
    (Part::Chart, "python3", "python3"),
    (Part::Machine, "qemu-system-x86_64", "qemu-system-x86"),
    (Part::Machine, "busybox", "busybox-static"),
    (Part::Machine, "strip", "binutils"),
    (Part::Machine, "xz", "xz-utils"),
];

/// What bpf-linker is built from: a file of each package.
const LINKER_FILES: &[(&str, &str)] = &[
    ("/usr/lib/llvm-22/bin/llvm-config", "llvm-22-dev"),
    ("/usr/include/zstd.h", "libzstd-dev"),
    ("/usr/include/zlib.h", "zlib1g-dev"),
    ("/usr/include/libxml2/libxml/parser.h", "libxml2-dev"),
];

/// A compiler with `core` for BPF, apart from the one that builds the rest.
const BPF_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// What stands in for it where there is none; `build-ebpf` says when its LLVM is too new for bpf-linker.
const NIGHTLY: [&str; 7] =
    ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];

/// `cargo xtask setup`: everything.
pub(crate) fn run() -> anyhow::Result<()> {
    setup(&Part::ALL)?;
    println!("setup: complete");
    Ok(())
}

/// Installs what is missing for these parts.
pub(crate) fn setup(parts: &[Part]) -> anyhow::Result<()> {
    let has_linker = !parts.contains(&Part::Kernel) || works("bpf-linker", "--version");
    let has_compiler = !parts.contains(&Part::Kernel) || build_ebpf::can_compile();
    let packages = missing_packages(parts, has_linker);
    if !packages.is_empty() || !has_compiler {
        install_packages(packages, has_compiler)?;
    }
    if !has_linker {
        println!("building bpf-linker from source, once: takes about two minutes");
        let mut cargo = cargo_install("bpf-linker", "0.13.0");
        cargo.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", LLVM_PREFIX);
        shell::run(&mut cargo)?;
    }
    if parts.contains(&Part::Lint) && !works("cargo-deny", "--version") {
        // Unoptimised: it is built in a third of the time and runs for seconds.
        shell::run(cargo_install("cargo-deny", "0.20.2").arg("--debug"))?;
    }
    if parts.contains(&Part::Fuzz) && !works("cargo-fuzz", "--version") {
        shell::run(cargo_install("cargo-fuzz", "0.13.2").arg("--debug"))?;
    }
    if parts.contains(&Part::Cluster) {
        registry_tools::go()?;
    }
    if parts.contains(&Part::Cluster) || parts.contains(&Part::Chart) {
        registry_tools::helm()?;
        registry_tools::schemas()?;
    }
    warn_about_shadowed_cargo();
    Ok(())
}

fn missing_packages(parts: &[Part], has_linker: bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(part, program, _)| parts.contains(part) && find(program).is_none())
        .map(|(_, _, package)| *package)
        .collect();
    if !has_linker {
        packages.extend(
            LINKER_FILES.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| *package),
        );
    }
    let needs_venv = parts.contains(&Part::Chart) || parts.contains(&Part::Cluster);
    // Debian's python3 comes without the module that makes virtual environments.
    if needs_venv && !registry_tools::has_venv() && !works("python3", "-cimport ensurepip") {
        packages.push("python3-venv");
    }
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn install_packages(mut packages: Vec<&str>, has_compiler: bool) -> anyhow::Result<()> {
    let mut list = packages.join(" ");
    if !has_compiler {
        list = format!("{list} {}", BPF_COMPILER.join(" "));
    }
    println!("missing packages: {}", list.trim());
    let instead = if has_compiler { "" } else { "; in place of rustc-web and its companions: `" };
    let nightly = if has_compiler { String::new() } else { format!("rustup {}`", NIGHTLY.join(" ")) };
    if find("apt-get").is_none() {
        bail!("there is no apt-get here: install the equivalents of {}{instead}{nightly}", list.trim());
    }
    if !shell::is_root() {
        bail!(
            "installing needs root: run `apt-get update && apt-get install {}` as root, then this again{instead}{nightly}",
            list.trim()
        );
    }
    // A source that cannot be reached must not keep the others from being used; the installation tells.
    if let Err(error) = shell::run(Command::new("apt-get").args(["update", "--quiet=2"])) {
        println!("{error}: going on with the package lists that are there");
    }
    if !has_compiler && are_installable(&BPF_COMPILER) {
        packages.extend(BPF_COMPILER);
    } else if !has_compiler {
        println!("rustc-web is not in this distribution, or would replace a compiler that is installed");
        shell::run(Command::new("rustup").args(NIGHTLY))?;
    }
    if packages.is_empty() {
        return Ok(());
    }
    // Never at the price of a package that is there.
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-remove", "--quiet=2", "--no-install-recommends"]).args(packages);
    // In runlevel 1 a package starts no service: the tiers start their own.
    apt.env("RUNLEVEL", "1");
    shell::run(apt.env("DEBIAN_FRONTEND", "noninteractive")).map_err(|error| {
        error.context("a package is not in this distribution, or stands against one that is installed; LLVM 22 is also at https://apt.llvm.org")
    })
}

/// Whether apt-get could install these without removing anything; changes nothing.
fn are_installable(packages: &[&str]) -> bool {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--simulate", "--yes", "--no-remove", "--no-install-recommends"]).args(packages);
    shell::output(&mut apt).is_ok()
}

fn cargo_install(name: &str, version: &str) -> Command {
    let mut cargo = shell::cargo();
    cargo.args(["install", name, "--version", version, "--locked"]);
    cargo
}

/// The program in the search path, where `cargo install` puts it, or where only root's path leads.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(build_ebpf::cargo_bin())
        .chain(["/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Whether the program is there and starts: bpf-linker does not without its LLVM.
fn works(program: &str, argument: &str) -> bool {
    find(program).is_some_and(|file| shell::output(Command::new(file).arg(argument)).is_ok())
}

/// Debian's rustc-web brings a `/usr/bin/cargo`; it must not take the place of rustup's.
fn warn_about_shadowed_cargo() {
    let path = env::var_os("PATH").unwrap_or_default();
    let first = env::split_paths(&path).map(|folder| folder.join("cargo")).find(|file| file.is_file());
    let rustup = build_ebpf::cargo_bin().map(|folder| folder.join("cargo")).filter(|file| file.is_file());
    if let (Some(first), Some(rustup)) = (first, rustup)
        && first == Path::new("/usr/bin/cargo")
    {
        println!(
            "note: `cargo` is now {} in your PATH; put the folder of {} before /usr/bin",
            first.display(),
            rustup.display()
        );
    }
}
