//! SK_LOOKUP on the network namespace, by a pinned link.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use super::AttachError;
use crate::bpf::pins::Pins;
use crate::bpf::syscall::{self, LinkPlace, Target};

/// Refuses pins that serve another network namespace: what stands in their maps is its agent's.
pub(in crate::bpf) fn check_namespace(pins: &Pins) -> Result<(), AttachError> {
    let pins_error = |source| AttachError::Pins { home: pins.home().to_owned(), source };
    let own = File::open("/proc/self/ns/net").and_then(|file| inode(&file)).map_err(pins_error)?;
    let link = match syscall::open_pin(&pins.sk_lookup()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        link => link.map_err(pins_error)?,
    };
    match syscall::link_info(link.as_fd()).map_err(pins_error)?.place {
        LinkPlace::SkLookup(Some(other)) if u64::from(other) != own => {
            Err(AttachError::OtherNamespace { home: pins.home().to_owned() })
        }
        _ => Ok(()),
    }
}

/// Attaches, or gives the link that is there its new program.
pub(super) fn attach(pins: &Pins, program: BorrowedFd<'_>) -> Result<(), AttachError> {
    let pins_error = |source| AttachError::Pins { home: pins.home().to_owned(), source };
    check_namespace(pins)?;
    let namespace = File::open("/proc/self/ns/net").map_err(pins_error)?;
    let path = pins.sk_lookup();
    if path.exists() {
        let link = syscall::open_pin(&path).map_err(pins_error)?;
        match syscall::link_info(link.as_fd()).map_err(pins_error)?.place {
            LinkPlace::SkLookup(Some(_)) => {
                return syscall::link_update(link.as_fd(), program).map_err(AttachError::SkLookup);
            }
            // The namespace of an earlier run is gone; the link is a shell.
            _ => std::fs::remove_file(&path).map_err(pins_error)?,
        }
    }
    let link =
        syscall::link_create(program, Target::SkLookup(namespace.as_fd())).map_err(AttachError::SkLookup)?;
    syscall::pin(link.as_fd(), &path).map_err(pins_error)
}

/// By which the kernel tells namespaces apart.
fn inode(namespace: &File) -> io::Result<u64> {
    Ok(namespace.metadata()?.ino())
}
