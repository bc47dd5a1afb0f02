//! Entries from one map to another of the same shape, as bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::MapInfo;
use ingress_common::maps::table::MapKind;

use crate::bpf::syscall;

/// Copies every entry that is not all zeros; how many.
pub(super) fn copy(from: &Path, to: &Path, kind: MapKind) -> io::Result<usize> {
    let info = MapInfo::from_pin(from).map_err(io::Error::other)?;
    let key_size = usize::try_from(info.key_size()).map_err(io::Error::other)?;
    let value_size = usize::try_from(info.value_size()).map_err(io::Error::other)?;
    let value_size = match kind {
        MapKind::PerCpuArray | MapKind::LruPerCpuHash => {
            value_size.next_multiple_of(8) * aya::util::nr_cpus().map_err(|(_, error)| error)?
        }
        _ => value_size,
    };
    let (from, to) = (syscall::open_pin(from)?, syscall::open_pin(to)?);
    let mut copied = 0;
    let mut key: Option<Vec<u8>> = None;
    let mut value = vec![0; value_size];
    // A key that goes away meanwhile makes the kernel begin anew; so many steps see every entry.
    for _ in 0..u64::from(info.max_entries()) * 2 {
        let mut next = vec![0; key_size];
        if !syscall::map_next_key(from.as_fd(), key.as_deref(), &mut next)? {
            break;
        }
        if syscall::map_lookup(from.as_fd(), &next, &mut value).is_ok() && value.iter().any(|byte| *byte != 0)
        {
            put(to.as_fd(), &next, &value, kind)?;
            copied += 1;
        }
        key = Some(next);
    }
    Ok(copied)
}

fn put(map: BorrowedFd<'_>, key: &[u8], value: &[u8], kind: MapKind) -> io::Result<()> {
    let outcome = match (kind, value.first_chunk::<4>()) {
        // The number of a map goes in as a descriptor.
        (MapKind::ArrayOfMaps, Some(id)) => {
            let inner = syscall::map_by_id(u32::from_ne_bytes(*id))?;
            syscall::map_update(map, key, &syscall::number(inner.as_fd()).to_ne_bytes())
        }
        _ => syscall::map_update(map, key, value),
    };
    match outcome {
        // Ours is smaller: what comes first in it is as good as what comes last.
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Ok(()),
        outcome => outcome,
    }
}
