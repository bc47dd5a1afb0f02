//! What this machine and this process can do for the kernel half, before anything is loaded.
//!
//! Each missing thing has one message that names it and says how to get it; without any of them the kernel half cannot
//! run, and the node serves in `userspace` mode.

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use super::pins::Pins;

/// Magic number of the BPF file system.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// What `mount` shows as the source of a BPF file system that we mounted; `portcullis cleanup` knows it by that.
const MOUNT_SOURCE: &str = "portcullis";

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Where the kernel says that it carries its own type information.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the kernel half cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The binary was built without it.
    #[error("this binary carries no kernel half; run `cargo xtask build-ebpf` and build it again")]
    Object,
    /// Capabilities.
    #[error(
        "no rights for eBPF: {0} missing; run as root or add the capabilities BPF, NET_ADMIN and PERFMON to the process"
    )]
    Capabilities(String),
    /// The kernel was built without BTF.
    #[error("no BTF: {KERNEL_BTF} does not exist; use a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    Btf,
    /// Not mounted.
    #[error("no bpffs at {path}; run `mount -t bpf bpf {path}` or pass --bpffs with its mount point")]
    Bpffs {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be mounted.
        #[source]
        source: io::Error,
    },
    /// Mounted, but of no use.
    #[error("bpffs at {path} is not writable; mount it writable for this user or pass another by --bpffs")]
    BpffsReadOnly {
        /// Its mount point.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What was done on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bpffs {
    /// It was there.
    Present,
    /// It was not mounted; now it is.
    Mounted,
}

/// Checks all that must hold before loading, and mounts the BPF file system where that is all that is missing.
pub fn probe(bpffs: &Path) -> Result<Bpffs, Missing> {
    if super::object::OBJECT.is_none() {
        return Err(Missing::Object);
    }
    let missing = missing_capabilities(effective_capabilities());
    if !missing.is_empty() {
        return Err(Missing::Capabilities(missing.join(", ")));
    }
    if !Path::new(KERNEL_BTF).exists() {
        return Err(Missing::Btf);
    }
    let state = if is_bpffs(bpffs) {
        Bpffs::Present
    } else {
        rustix::mount::mount(MOUNT_SOURCE, bpffs, "bpf", MountFlags::NOSUID | MountFlags::NOEXEC, None)
            .map_err(|source| Missing::Bpffs { path: bpffs.to_owned(), source: source.into() })?;
        Bpffs::Mounted
    };
    Pins::new(bpffs).create().map_err(|source| Missing::BpffsReadOnly { path: bpffs.to_owned(), source })?;
    Ok(state)
}

/// Whether a BPF file system is mounted at this path.
pub fn is_bpffs(path: &Path) -> bool {
    // The width of the magic number differs between architectures.
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Unmounts a BPF file system that [`probe`] mounted, once it holds nothing; whether it did.
pub fn unmount(bpffs: &Path) -> bool {
    let Ok(path) = bpffs.canonicalize() else { return false };
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_empty = || {
        let mut names =
            std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        // The kernel itself puts these two into every BPF file system.
        names.all(|name| name == "maps.debug" || name == "progs.debug")
    };
    is_mounted_by_us(&table, &path)
        && is_empty()
        // At once for whoever looks, although an agent may still hold the lock of its reader of drops in there.
        && rustix::mount::unmount(&path, UnmountFlags::DETACH).is_ok()
}

/// Looks the path up in `/proc/self/mountinfo`: field 5 is the mount point; type and source follow a lone dash.
fn is_mounted_by_us(table: &str, path: &Path) -> bool {
    table.lines().any(|line| {
        let place = line.split(' ').nth(4);
        let kind = line.split_once(" - ").map(|(_, kind)| kind).unwrap_or_default();
        place.map(Path::new) == Some(path) && kind.starts_with(&format!("bpf {MOUNT_SOURCE} "))
    })
}

/// Capabilities that this process lacks.
pub fn missing_rights() -> Vec<&'static str> {
    missing_capabilities(effective_capabilities())
}

/// Whether pins can be made here.
pub fn is_writable(bpffs: &Path) -> bool {
    rustix::fs::access(bpffs, rustix::fs::Access::WRITE_OK).is_ok()
}

fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(hex.trim(), 16).unwrap_or_default()
}

/// SYS_ADMIN stands for BPF and PERFMON, as in the kernel.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    let mut missing = Vec::new();
    for (capability, name) in [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")] {
        if !has(capability) && !has(CAP_SYS_ADMIN) {
            missing.push(name);
        }
    }
    if !has(CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let all = 1 << CAP_BPF | 1 << CAP_NET_ADMIN | 1 << CAP_PERFMON;
        assert!(missing_capabilities(all).is_empty());
        assert!(missing_capabilities(1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN).is_empty());
        assert_eq!(missing_capabilities(all & !(1 << CAP_PERFMON)), ["CAP_PERFMON"]);
        assert_eq!(missing_capabilities(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
    }

    #[test]
    fn only_a_mount_of_ours_is_recognised() {
        let table = "31 24 0:27 / /sys/fs/bpf rw,nosuid - bpf portcullis rw,mode=700\n\
                     32 24 0:28 / /run/bpf rw,nosuid shared:9 - bpf bpf rw\n";
        assert!(is_mounted_by_us(table, Path::new("/sys/fs/bpf")));
        assert!(!is_mounted_by_us(table, Path::new("/run/bpf")));
        assert!(!is_mounted_by_us(table, Path::new("/sys/fs")));
    }

    #[test]
    fn an_ordinary_folder_is_not_a_bpffs() {
        assert!(!is_bpffs(Path::new("/")));
        assert!(!is_bpffs(Path::new("/does/not/exist")));
    }
}
