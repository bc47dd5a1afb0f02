//! Removes what is ours from a BPF file system and from the routing tables, and nothing else.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::clsact::{self, Direction};
use super::netlink::NetlinkError;
use super::pins::{self, Pins};
use super::probe::is_bpffs;
use super::{probe, routes};

/// Something that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A link was detached and its pin removed; the number that `bpftool link` showed.
    Link(u32, PathBuf),
    /// A filter at TC of the interface with this index.
    Filter(u32, &'static str),
    /// The qdisc that we made for it.
    Qdisc(u32),
    /// The pin of a map.
    Map(PathBuf),
    /// A folder.
    Folder(PathBuf),
    /// The BPF file system itself, which we had mounted.
    Mount(PathBuf),
    /// A local route.
    Route(ipnet::IpNet),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link(id, path) => write!(f, "link {id} {}", path.display()),
            Self::Filter(index, direction) => write!(f, "filter {direction} of interface {index}"),
            Self::Qdisc(index) => write!(f, "qdisc clsact of interface {index}"),
            Self::Map(path) => write!(f, "map {}", path.display()),
            Self::Folder(path) => write!(f, "folder {}", path.display()),
            Self::Mount(path) => write!(f, "mount {}", path.display()),
            Self::Route(prefix) => write!(f, "route local {prefix} dev lo"),
        }
    }
}

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// A pin or folder.
    #[error("cannot remove {path}")]
    Pin {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Filters at TC.
    #[error("cannot remove the filters of interface {interface}; this needs CAP_NET_ADMIN")]
    Filters {
        /// Its number.
        interface: u32,
        /// What the system said.
        #[source]
        source: NetlinkError,
    },
    /// The routes.
    #[error("cannot remove the local routes of VIPs; this needs CAP_NET_ADMIN")]
    Routes(#[source] NetlinkError),
}

/// Detaches the links and removes all pins and folders, and the mount if it is ours and empty then. Tells of each thing
/// removed, also when a later one fails.
pub async fn remove_pins(bpffs: &Path, removed: &mut Vec<Removed>) -> Result<(), CleanupError> {
    remove_contents(bpffs, removed).await?;
    if probe::unmount(bpffs) {
        removed.push(Removed::Mount(bpffs.to_owned()));
    }
    Ok(())
}

async fn remove_contents(bpffs: &Path, removed: &mut Vec<Removed>) -> Result<(), CleanupError> {
    // On another file system a folder of this name is not ours.
    if !is_bpffs(bpffs) {
        return Ok(());
    }
    let pins = Pins::new(bpffs);
    let of = |path: &Path| {
        let path = path.to_owned();
        move |source| CleanupError::Pin { path, source }
    };
    if !pins.home().exists() {
        return Ok(());
    }
    let lock = pins.lock().map_err(of(pins.home()))?;
    for link in pins.pinned_links().map_err(of(&pins.links()))? {
        pins::remove_link(&link.path).map_err(of(&link.path))?;
        removed.push(Removed::Link(link.info.id, link.path));
    }
    for (interface, is_made) in pins.clsact_marks().map_err(of(&pins.clsact()))? {
        remove_filters(interface, is_made, removed).await?;
        pins.unmark_clsact(interface).map_err(of(&pins.clsact()))?;
    }
    let mut folders = pins.layouts().map_err(of(pins.home()))?;
    for folder in &folders {
        for path in pins.entries(folder).map_err(of(folder))? {
            std::fs::remove_file(&path).map_err(of(&path))?;
            removed.push(Removed::Map(path));
        }
    }
    folders.extend([pins.links(), pins.clsact(), pins.home().to_owned()]);
    drop(lock);
    for folder in folders {
        match std::fs::remove_dir(&folder) {
            Ok(()) => removed.push(Removed::Folder(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CleanupError::Pin { path: folder, source }),
        }
    }
    Ok(())
}

async fn remove_filters(
    interface: u32,
    is_made: bool,
    removed: &mut Vec<Removed>,
) -> Result<(), CleanupError> {
    let of = |source| CleanupError::Filters { interface, source };
    for direction in Direction::ALL {
        match clsact::detach(interface, direction).await {
            Ok(true) => removed.push(Removed::Filter(interface, direction.name())),
            Ok(false) => {}
            // With the interface its filters went.
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(of(error)),
        }
    }
    if is_made && clsact::remove_empty_qdisc(interface).await.map_err(of)? {
        removed.push(Removed::Qdisc(interface));
    }
    Ok(())
}

/// Removes the local routes that carry our protocol number.
pub async fn remove_routes(removed: &mut Vec<Removed>) -> Result<(), CleanupError> {
    let changes =
        routes::apply(&BTreeSet::new(), routes::Removable::Marked).await.map_err(CleanupError::Routes)?;
    removed.extend(changes.removed.into_iter().map(Removed::Route));
    match changes.refused.into_iter().next() {
        Some((_, error)) => Err(CleanupError::Routes(error)),
        None => Ok(()),
    }
}
