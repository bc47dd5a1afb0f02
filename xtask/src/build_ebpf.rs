//! `cargo xtask build-ebpf`: the kernel half, built for `bpfel-unknown-none` into `target/bpf/portcullis.bpf.o`.
//!
//! The BPF target has no compiled `core` in stable toolchains, so this looks for one that has it, and says which it took.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::shell;

/// The object that `ingress-userspace/build.rs` embeds.
const OBJECT: &str = "portcullis.bpf.o";
const TARGET: &str = "bpfel-unknown-none";
/// What `cargo xtask setup` builds bpf-linker against; it cannot read the bitcode of a newer LLVM.
const LLVM: u32 = 22;

#[derive(Args, Default)]
pub(crate) struct BuildArgs {
    /// One log line per dropped packet, read by a binary built with `--features debug-log`. Slow; for debugging.
    #[arg(long)]
    pub(crate) debug_log: bool,
    /// Fail on a warning of the kernel half.
    #[arg(long)]
    pub(crate) deny_warnings: bool,
}

/// Builds the object; prints its path and size.
pub(crate) fn run(args: &BuildArgs) -> anyhow::Result<()> {
    let toolchain = Toolchain::find()?;
    println!("toolchain: {}", toolchain.describe());
    let target_dir = target_dir();
    let build_dir = target_dir.join("bpf-build");
    shell::run(&mut toolchain.command(&build_dir, args)?)?;
    let built = build_dir.join(TARGET).join("release").join("portcullis-bpf");
    let bytes = stripped(&built, &build_dir)?;
    let object = target_dir.join("bpf").join(OBJECT);
    // An unchanged object keeps its time stamp, so that nothing is built again because of it.
    if fs::read(&object).ok().as_deref() != Some(&bytes) {
        fs::create_dir_all(target_dir.join("bpf"))?;
        fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
    }
    println!("object: {} ({} bytes)", object.display(), bytes.len());
    Ok(())
}

/// Whether there is a compiler for the BPF target.
pub(crate) fn can_compile() -> bool {
    nightly_refusal().is_none() || distribution().is_some()
}

/// As cargo finds it; `ingress-userspace/build.rs` looks in the same place.
pub(crate) fn target_dir() -> PathBuf {
    shell::root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A compiler that can build for the BPF target.
enum Toolchain {
    /// A rustup nightly with the sources of `core`.
    Nightly,
    /// A compiler of the distribution that ships `core` for BPF.
    Distribution { rustc: PathBuf, cargo: PathBuf },
}

impl Toolchain {
    fn find() -> anyhow::Result<Self> {
        if let Some(refusal) = nightly_refusal() {
            println!("rustup nightly: {refusal}");
        } else {
            return Ok(Self::Nightly);
        }
        distribution().context(
            "no compiler for bpfel-unknown-none: run `cargo xtask setup`, or install Debian's rustc-web, cargo-web and \
             libstd-rust-web-dev-bpf, or `rustup toolchain install nightly --component rust-src`"
        )
    }

    fn describe(&self) -> String {
        match self {
            Self::Nightly => "rustup nightly with rust-src (-Z build-std=core)".to_owned(),
            Self::Distribution { rustc, .. } => {
                format!("{} with the distribution's core for BPF", rustc.display())
            }
        }
    }

    fn command(&self, build_dir: &Path, args: &BuildArgs) -> anyhow::Result<Command> {
        let mut command = match self {
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "rustc", "-Z", "build-std=core"]);
                command
            }
            Self::Distribution { rustc, cargo } => {
                let mut command = Command::new(cargo);
                // RUSTC_BOOTSTRAP: inline assembly for BPF and compare-and-swap are unstable features.
                command.arg("rustc").env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        // What the cargo that runs this task set for itself does not hold for the other toolchain.
        for name in
            ["RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "RUSTDOC", "CARGO"]
        {
            command.env_remove(name);
        }
        command
            .current_dir(shell::root())
            .args([
                "--quiet",
                "--locked",
                "--release",
                "--package",
                "ingress-ebpf",
                "--bin",
                "portcullis-bpf",
            ])
            .args(["--features", if args.debug_log { "debug-log" } else { "programs" }, "--target", TARGET])
            .env("CARGO_TARGET_DIR", build_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
            // BTF is made from debug information; one unit lets the linker inline everything.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("PATH", path_with_linker()?);
        if args.deny_warnings {
            command.args(["--", "-Dwarnings"]);
        }
        Ok(command)
    }
}

/// v3: compare-and-swap needs it, every kernel from 6.1 knows it. BTF: typed maps.
const RUSTFLAGS: [&str; 4] = ["-Ctarget-cpu=v3", "-Clink-arg=--btf", "-Cdebuginfo=2", "-Cpanic=abort"];

/// A compiler outside of rustup that has `core` for the BPF target.
fn distribution() -> Option<Toolchain> {
    let folders = ["/usr/bin", "/usr/lib/rust/bin", "/usr/local/bin"].map(Path::new);
    let folder = folders.into_iter().find(|folder| has_bpf_core(&folder.join("rustc")))?;
    let cargo = folder.join("cargo");
    let cargo = if cargo.is_file() { cargo } else { "cargo".into() };
    Some(Toolchain::Distribution { rustc: folder.join("rustc"), cargo })
}

/// Why the rustup nightly cannot be used, `None` when it can.
fn nightly_refusal() -> Option<String> {
    let Ok(version) = shell::output(Command::new("rustup").args(["run", "nightly", "rustc", "-vV"])) else {
        return Some("not installed".to_owned());
    };
    let version = String::from_utf8_lossy(&version).into_owned();
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    let major: u32 = llvm.split('.').next()?.parse().ok()?;
    if major > LLVM {
        return Some(format!("its LLVM {major} is newer than that of bpf-linker ({LLVM})"));
    }
    let sysroot =
        shell::output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"])).ok()?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    let has_source = sysroot.join("lib/rustlib/src/rust/library/core").is_dir();
    (!has_source).then(|| "without the component rust-src".to_owned())
}

/// Whether the compiler's own library folder has `core` for the BPF target.
fn has_bpf_core(rustc: &Path) -> bool {
    let Ok(folder) =
        shell::output(Command::new(rustc).args(["--target", TARGET, "--print", "target-libdir"]))
    else {
        return false;
    };
    let Ok(entries) = fs::read_dir(String::from_utf8_lossy(&folder).trim()) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

/// The search path, with the folder of bpf-linker in it.
fn path_with_linker() -> anyhow::Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.extend(cargo_bin());
    if !folders.iter().any(|folder| folder.join("bpf-linker").is_file()) {
        bail!("bpf-linker is not installed: run `cargo xtask setup`");
    }
    Ok(env::join_paths(folders)?)
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    Some(home.join("bin"))
}

/// The object without debug information, which is four fifths of it; BTF stays.
fn stripped(built: &Path, build_dir: &Path) -> anyhow::Result<Vec<u8>> {
    let small = build_dir.join(OBJECT);
    let strips = ["/usr/lib/llvm-22/bin/llvm-strip", "llvm-strip"];
    for strip in strips {
        let mut command = Command::new(strip);
        command.arg("-g").arg("-o").arg(&small).arg(built);
        if command.output().is_ok_and(|output| output.status.success()) {
            return fs::read(&small).with_context(|| format!("cannot read {}", small.display()));
        }
    }
    println!("llvm-strip is not there: the object keeps its debug information");
    fs::read(built).with_context(|| format!("cannot read {}", built.display()))
}
