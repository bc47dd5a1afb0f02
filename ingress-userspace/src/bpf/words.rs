//! Arrays of 64-bit words that are read and written many at a time: the bits before the tries of lists.

use std::io;
use std::os::fd::AsFd as _;

use aya::maps::{MapData, MapError};
use aya::sys::SyscallError;

use super::syscall;

/// Words that are compared at once.
const RUN: usize = 64;

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

/// The bits of both.
pub(super) fn union(one: &[u64], other: &[u64]) -> Vec<u64> {
    let mut both = one.to_vec();
    let runs = both.chunks_mut(RUN).zip(other.chunks(RUN));
    for (both, other) in runs.filter(|(one, other)| one != other) {
        both.iter_mut().zip(other).for_each(|(both, other)| *both |= other);
    }
    both
}

/// Writes the words that are not as they were.
pub(super) fn write(map: &MapData, before: &[u64], after: &[u64]) -> Result<(), MapError> {
    let (mut rows, mut words) = (Vec::new(), Vec::new());
    let runs = (0..).step_by(RUN).zip(before.chunks(RUN).zip(after.chunks(RUN)));
    // Most are equal, and to compare many at once takes less.
    for (first, (before, after)) in runs.filter(|(_, (before, after))| before != after) {
        let changed = (first..).zip(before.iter().zip(after)).filter(|(_, (before, after))| before != after);
        for (row, (_, after)) in changed {
            rows.push(row);
            words.push(*after);
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    syscall::write_words(map.fd().as_fd(), &rows, &words).map_err(failed("bpf_map_update_batch"))
}

pub(super) fn failed(call: &'static str) -> impl FnOnce(io::Error) -> MapError {
    move |io_error| MapError::SyscallError(SyscallError { call, io_error })
}
