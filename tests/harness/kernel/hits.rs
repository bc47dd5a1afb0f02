//! What the entries of deny lists caught.

use std::collections::BTreeMap;

use aya::maps::{PerCpuHashMap, PerCpuValues};
use ingress_common::flow::ip_of;
use ingress_common::maps::Count;
use ingress_common::source::HitKey;

use super::Rig;

impl Rig {
    /// What entries of deny lists caught, by scope and prefix, in packets and bytes.
    pub fn hits(&self) -> BTreeMap<(u32, String), (u64, u64)> {
        let hits: PerCpuHashMap<_, HitKey, Count> =
            PerCpuHashMap::try_from(self.ebpf.map("acl_hits").unwrap()).unwrap();
        let sum = |values: &[Count]| {
            values
                .iter()
                .fold((0, 0), |(packets, bytes), count| (packets + count.packets, bytes + count.bytes))
        };
        let entry = |(key, values): (HitKey, PerCpuValues<Count>)| {
            ((key.scope, format!("{}/{}", ip_of(&key.addr), key.len)), sum(&values))
        };
        hits.iter().map(|hit| entry(hit.unwrap())).collect()
    }
}
