//! How many connections each worker has open, for whoever hands out new ones.

use std::sync::atomic::{AtomicU32, Ordering};

/// One count per worker. Each is written by its worker alone.
#[derive(Debug)]
pub struct Loads(Vec<AtomicU32>);

impl Loads {
    /// For so many workers.
    pub fn new(workers: u32) -> Self {
        Self((0..workers).map(|_| AtomicU32::new(0)).collect())
    }

    /// A connection of this worker begins.
    pub fn opened(&self, worker: u32) {
        if let Some(open) = self.of(worker) {
            open.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection of this worker ended.
    pub fn closed(&self, worker: u32) {
        if let Some(open) = self.of(worker) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The counts, from worker 0 on.
    pub fn open(&self) -> Vec<u32> {
        self.0.iter().map(|open| open.load(Ordering::Relaxed)).collect()
    }

    fn of(&self, worker: u32) -> Option<&AtomicU32> {
        usize::try_from(worker).ok().and_then(|index| self.0.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_count_of_its_own() {
        let loads = Loads::new(3);
        loads.opened(1);
        loads.opened(1);
        loads.opened(2);
        loads.closed(1);
        loads.opened(7);
        assert_eq!(loads.open(), [0, 1, 1]);
    }
}
