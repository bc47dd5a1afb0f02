//! Observations in buckets, and the buckets of durations and sizes.

/// Upper bounds of duration buckets, seconds: those of ingress-nginx.
pub static DURATION_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of size buckets, bytes.
pub static SIZE_BUCKETS: [f64; 7] = [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0];

/// Observations in buckets. Kept by one writer, merged at scrape.
#[derive(Clone, Debug)]
pub struct Histogram {
    pub(super) bounds: &'static [f64],
    pub(super) counts: [u64; 12],
    pub(super) sum: f64,
}

impl Histogram {
    /// An empty histogram over these upper bounds (at most 11).
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: [0; 12], sum: 0.0 }
    }

    /// Adds one observation.
    pub fn observe(&mut self, value: f64) {
        let slot = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get_mut(slot) {
            *count += 1;
        }
        self.sum += value;
    }

    /// Adds another histogram over the same bounds.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }
}
