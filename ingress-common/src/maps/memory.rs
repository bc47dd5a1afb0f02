//! What a map costs in kernel memory, counted as the kernel counts it (`memlock` in the fdinfo of a map, Linux 6.4 and
//! newer; older kernels leave out buckets and list heads). Headers of a few hundred bytes per map are left out.
//!
//! Everything is allocated when a map is made, but for the nodes of tries: those come and go with the entries.

use super::table::{MapKind, MapSpec};
use crate::steer::TABLE_SLOTS;

/// Before the key of an element of a hash: list node, LRU node or pointer, hash.
const HASH_ELEMENT: u64 = 48;
/// Head of one chain of a hash, with its lock.
const HASH_BUCKET: u64 = 16;
/// A pointer in a table of pointers.
const POINTER: u64 = 8;
/// A page of memory.
const PAGE: u64 = 4096;
/// A node of a trie with the longest key of ours, in the size class that the kernel takes it from.
const TRIE_NODE: u64 = 64;

/// What an entry of a map of maps brings along.
const INNER: &[(&str, u64)] = &[("pools", TABLE_SLOTS as u64 * 8)];

/// Bytes of kernel memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// However many CPUs the machine has.
    pub fixed: u64,
    /// For each CPU that the machine may have.
    pub per_cpu: u64,
    /// For each entry, where entries are not allocated beforehand; twice as much where two prefixes need a fork.
    pub per_entry: u64,
}

impl Memory {
    /// What is allocated before anything is in the map.
    pub const fn on(self, cpus: u64) -> u64 {
        self.fixed + self.per_cpu * cpus
    }
}

impl MapSpec {
    /// What this map costs.
    pub fn memory(&self) -> Memory {
        let entries = self.entries as u64;
        let (key, value) = (words(self.key.size), words(self.value.size));
        match self.kind {
            MapKind::Array => Memory { fixed: entries * value, per_cpu: 0, per_entry: 0 },
            MapKind::PerCpuArray => {
                Memory { fixed: entries * POINTER, per_cpu: entries * value, per_entry: 0 }
            }
            MapKind::Hash | MapKind::LruHash => {
                let element = HASH_ELEMENT + key + value;
                let buckets = entries.next_power_of_two() * HASH_BUCKET;
                // A plain hash keeps an element per CPU in reserve, and where it is.
                let spare = if matches!(self.kind, MapKind::Hash) { element + POINTER } else { 0 };
                Memory { fixed: buckets + entries * element, per_cpu: spare, per_entry: 0 }
            }
            MapKind::LruPerCpuHash => {
                // An element holds a pointer to its values.
                let buckets = entries.next_power_of_two() * HASH_BUCKET;
                let elements = entries * (HASH_ELEMENT + key + POINTER);
                Memory { fixed: buckets + elements, per_cpu: entries * value, per_entry: 0 }
            }
            MapKind::RingBuf => {
                // The records, a page each for the consumer, the producer and the kernel, and where the pages are, those of the
                // records twice.
                let pointers = (3 + 2 * (entries / PAGE)) * POINTER;
                Memory { fixed: entries + 3 * PAGE + pointers, per_cpu: 0, per_entry: 0 }
            }
            // One place stays empty.
            MapKind::Queue => Memory { fixed: (entries + 1) * value, per_cpu: 0, per_entry: 0 },
            MapKind::LpmTrie => Memory { fixed: 0, per_cpu: 0, per_entry: TRIE_NODE },
            MapKind::SockMap => Memory { fixed: entries * POINTER, per_cpu: 0, per_entry: 0 },
            MapKind::ArrayOfMaps => {
                let inner = INNER.iter().find(|(name, _)| *name == self.name);
                Memory { fixed: entries * POINTER, per_cpu: 0, per_entry: inner.map_or(0, |(_, size)| *size) }
            }
        }
    }
}

/// Rounded up to whole words of 8 bytes, as the kernel lays keys and values out.
const fn words(bytes: u32) -> u64 {
    (bytes as u64).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::table::MAPS;

    /// The promise of the documentation.
    const MOST: u64 = 64 << 20;

    fn of(name: &str) -> &'static MapSpec {
        MAPS.iter().find(|map| map.name == name).unwrap()
    }

    #[test]
    fn a_bucket_of_a_source_takes_96_bytes() {
        let spec = of("buckets");
        assert_eq!(spec.memory().on(1), u64::from(spec.entries) * 96);
    }

    #[test]
    fn counters_grow_by_cpu() {
        let spec = of("stats");
        let grown = spec.memory().on(16) - spec.memory().on(15);
        assert_eq!(grown, u64::from(spec.entries) * u64::from(spec.value.size));
    }

    #[test]
    fn what_grows_with_its_entries_says_by_how_much() {
        for map in MAPS {
            let grows = matches!(map.kind, MapKind::LpmTrie | MapKind::ArrayOfMaps);
            assert_eq!(map.memory().per_entry > 0, grows, "{}", map.name);
        }
    }

    #[test]
    fn all_maps_stay_below_the_promise_on_16_cpus() {
        let sum: u64 = MAPS.iter().map(|map| map.memory().on(16)).sum();
        assert!(sum < MOST, "{sum} bytes");
    }
}
