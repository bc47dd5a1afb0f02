//! Publishing and pinning: the only file that knows how snapshots and endpoint sets are swapped.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// A value that one writer replaces whole and any number of readers pin. Readers never wait.
#[derive(Debug)]
pub struct Cell<T>(ArcSwap<T>);

impl<T> Cell<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    /// Replaces the value; readers that pinned the one before keep it.
    pub fn publish(&self, value: Arc<T>) {
        self.0.store(value);
    }

    /// The current value, for as long as the caller holds it.
    pub fn pin(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// A short look without keeping the value.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.load())
    }
}
