//! Where the kernel half lives in the BPF file system: maps in a folder per layout, links in their own.
//!
//! Pins outlive every process of ours: lists and limits stay enforced, and the next process finds them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ingress_common::maps::LAYOUT_VERSION;
use rustix::fs::FlockOperation;

use super::clsact::Direction;
use super::syscall;

/// Loading takes a fraction of a second.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(20);

const HOME: &str = "portcullis";
const SK_LOOKUP: &str = "sk_lookup";
const XDP: &str = "xdp-";
const TCX: &str = "tcx-";
const CLSACT: &str = "clsact";
const MADE: &str = "made";

/// The folders of one installation.
#[derive(Clone, Debug)]
pub struct Pins {
    home: PathBuf,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedLink {
    /// Its pin.
    pub path: PathBuf,
    /// What it is.
    pub info: syscall::LinkInfo,
}

impl Pins {
    /// The installation in the BPF file system that is mounted at `bpffs`.
    pub fn new(bpffs: &Path) -> Self {
        Self { home: bpffs.join(HOME) }
    }

    /// The folder of everything.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The folder of the maps of this layout.
    pub fn maps(&self) -> PathBuf {
        self.home.join(format!("v{LAYOUT_VERSION}"))
    }

    /// The pin of one map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The folder of the links; the same for every layout, so that a downgrade finds them.
    pub fn links(&self) -> PathBuf {
        self.home.join("links")
    }

    /// The pin of the SK_LOOKUP link.
    pub fn sk_lookup(&self) -> PathBuf {
        self.links().join(SK_LOOKUP)
    }

    /// The pin of an interface's XDP link. By index: the file system refuses the dot of `eth0.100`.
    pub fn xdp(&self, interface: u32) -> PathBuf {
        self.links().join(format!("{XDP}{interface}"))
    }

    /// The pin of an interface's link at TC.
    pub fn tcx(&self, interface: u32, direction: Direction) -> PathBuf {
        self.links().join(format!("{TCX}{}-{interface}", direction.name()))
    }

    /// An empty folder per interface with a filter of ours: filters cannot be pinned. In it another, where the qdisc is
    /// ours, too.
    pub fn clsact(&self) -> PathBuf {
        self.home.join(CLSACT)
    }

    /// Notes that an interface has a filter of ours, and perhaps a qdisc.
    pub(super) fn mark_clsact(&self, interface: u32, is_made: bool) -> io::Result<()> {
        let mark = self.clsact().join(interface.to_string());
        std::fs::create_dir_all(if is_made { mark.join(MADE) } else { mark })
    }

    /// The interfaces that have filters of ours, and whether the qdisc is ours.
    pub(super) fn clsact_marks(&self) -> io::Result<Vec<(u32, bool)>> {
        let marks = self.entries(&self.clsact())?;
        let index = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(marks.iter().filter_map(|path| Some((index(path)?, path.join(MADE).exists()))).collect())
    }

    /// Takes the note back.
    pub(super) fn unmark_clsact(&self, interface: u32) -> io::Result<()> {
        let mark = self.clsact().join(interface.to_string());
        for folder in [mark.join(MADE), mark] {
            match std::fs::remove_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the folders.
    pub fn create(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.maps())?;
        std::fs::create_dir_all(self.links())
    }

    /// Removes the pins of the maps of this layout.
    pub(super) fn clear_maps(&self) -> io::Result<()> {
        for path in self.entries(&self.maps())? {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Only one process at a time loads, takes over or removes; held until dropped. Waits for another process, but not
    /// for one that hangs.
    pub fn lock(&self) -> io::Result<File> {
        let folder = File::open(&self.home)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(folder),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_RETRY)
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(io::Error::other(format!(
                        "another portcullis process has held {} for {LOCK_PATIENCE:?}; end it if it hangs",
                        self.home.display()
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The same without waiting; `None`: another process has it.
    pub(super) fn try_lock(&self) -> io::Result<Option<File>> {
        let folder = File::open(&self.home)?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(folder)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The links that are pinned, by path. What cannot be read as a link is left out.
    pub fn pinned_links(&self) -> io::Result<Vec<PinnedLink>> {
        let mut links = Vec::new();
        for path in self.entries(&self.links())? {
            let Ok(fd) = syscall::open_pin(&path) else { continue };
            if let Ok(info) = syscall::link_info(fd.as_fd()) {
                links.push(PinnedLink { path, info });
            }
        }
        Ok(links)
    }

    /// The map folders of every layout, ours included.
    pub fn layouts(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = self.entries(&self.home)?;
        folders.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok())
        });
        Ok(folders)
    }

    /// What a folder holds, in order; nothing when it does not exist.
    pub fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }
}

/// Detaches a pinned link, also when a running process still holds it, and removes the pin.
pub fn remove_link(path: &Path) -> io::Result<()> {
    let link = syscall::open_pin(path)?;
    syscall::link_detach(link.as_fd())?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_versioned_and_links_are_not() {
        let pins = Pins::new(Path::new("/sys/fs/bpf"));
        assert_eq!(pins.map("vips"), Path::new("/sys/fs/bpf/portcullis/v2/vips"));
        assert_eq!(pins.sk_lookup(), Path::new("/sys/fs/bpf/portcullis/links/sk_lookup"));
        assert_eq!(pins.xdp(3), Path::new("/sys/fs/bpf/portcullis/links/xdp-3"));
    }
}
