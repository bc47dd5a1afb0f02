//! Limits and buckets in the maps of a [`Rig`].

use aya::maps::{Array, HashMap};
use ingress_common::maps::{Bucket, Limit};
use ingress_common::source::SrcKey;

use super::Rig;

impl Rig {
    /// Sets the state of a source's bucket.
    pub fn set_bucket(&mut self, key: SrcKey, tat: u64) {
        let mut buckets: HashMap<_, SrcKey, Bucket> =
            HashMap::try_from(self.ebpf.map_mut("buckets").unwrap()).unwrap();
        buckets.insert(key, Bucket { tat }, 0).unwrap();
    }

    /// The state of a source's bucket, `None` for a source that was not seen.
    pub fn bucket(&self, key: SrcKey) -> Option<u64> {
        let buckets: HashMap<_, SrcKey, Bucket> =
            HashMap::try_from(self.ebpf.map("buckets").unwrap()).unwrap();
        buckets.get(&key, 0).ok().map(|bucket| bucket.tat)
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        let buckets: HashMap<_, SrcKey, Bucket> =
            HashMap::try_from(self.ebpf.map("buckets").unwrap()).unwrap();
        buckets.keys().count()
    }

    /// Replaces a limit.
    pub fn set_limit(&mut self, row: u32, limit: Limit) {
        let mut limits: Array<_, Limit> = Array::try_from(self.ebpf.map_mut("limits").unwrap()).unwrap();
        limits.set(row, limit, 0).unwrap();
    }
}
