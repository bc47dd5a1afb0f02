//! Pipes through which the kernel moves bytes from socket to socket, kept by each thread for the next use.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// Bytes moved at once: what a pipe holds.
const CAPACITY: usize = 64 * 1024;
/// Empty pipes that a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static EMPTY: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe and what is in it. One that is dropped with bytes in it is closed with them.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
}

impl Pipe {
    /// An empty pipe.
    pub fn take() -> io::Result<Self> {
        match EMPTY.with_borrow_mut(Vec::pop) {
            Some(pipe) => Ok(pipe),
            None => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                Ok(Self { read, write, filled: 0 })
            }
        }
    }

    /// Keeps an empty pipe for the next use.
    pub fn give_back(self) {
        if self.filled == 0 {
            EMPTY.with_borrow_mut(|kept| {
                if kept.len() < KEPT {
                    kept.push(self);
                }
            });
        }
    }

    /// Whether all that came in went out.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Moves what a socket has into the empty pipe; 0: its end.
    pub fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let count = splice(from, None, &self.write, None, CAPACITY, flags)?;
        self.filled += count;
        Ok(count)
    }

    /// Moves what is in the pipe to a socket.
    pub fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let count = splice(&self.read, None, to, None, self.filled, flags)?;
        self.filled = self.filled.saturating_sub(count);
        Ok(count)
    }
}
