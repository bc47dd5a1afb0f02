//! Arrays of 64-bit words that are read and written many at a time: the bits before the tries of lists.

use std::io;
use std::os::fd::AsFd as _;

use aya::maps::{MapData, MapError};
use aya::sys::SyscallError;

use super::syscall;

/// Every word of an array.
pub(super) fn read(map: &MapData, words: u32) -> Result<Vec<u64>, MapError> {
    read_rows(map, words, 1)
}

/// Every row of an array whose values are so many words.
pub(super) fn read_rows(map: &MapData, rows: u32, each: usize) -> Result<Vec<u64>, MapError> {
    syscall::read_words(map.fd().as_fd(), rows, each).map_err(failed("bpf_map_lookup_batch"))
}

/// The array with this number, as a map of maps holds it.
pub(super) fn read_inner(id: u32, words: u32) -> Result<Vec<u64>, MapError> {
    let map = syscall::map_by_id(id).map_err(failed("bpf_map_get_fd_by_id"))?;
    syscall::read_words(map.as_fd(), words, 1).map_err(failed("bpf_map_lookup_batch"))
}

/// Writes the words that are not as they were.
pub(super) fn write(map: &MapData, before: &[u64], after: &[u64]) -> Result<(), MapError> {
    let changed = (0..).zip(before.iter().zip(after)).filter(|(_, (before, after))| before != after);
    let (rows, words): (Vec<u32>, Vec<u64>) = changed.map(|(row, (_, after))| (row, *after)).unzip();
    if rows.is_empty() {
        return Ok(());
    }
    syscall::write_words(map.fd().as_fd(), &rows, &words).map_err(failed("bpf_map_update_batch"))
}

pub(super) fn failed(call: &'static str) -> impl FnOnce(io::Error) -> MapError {
    move |io_error| MapError::SyscallError(SyscallError { call, io_error })
}
