//! Makes the maps hold what is desired: reads what is there, adds and changes, then removes.
//!
//! The order between maps keeps every moment safe: limits and lists are filled before an address refers to them, and
//! emptied after no address does. Where a map has no room for old and new entries beside each other, new ones follow once
//! old ones went. An entry that the kernel refuses is left out and reported; the others still apply.

use std::collections::{BTreeMap, BTreeSet};

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, MapError, PerCpuValues};
use ingress_common::maps::{AclVal, Count, Limit, VipKey, VipVal};
use ingress_common::prefilter::{WORDS4, WORDS6};
use ingress_common::source::{Acl4Key, Acl6Key};
use ingress_common::verdict::Reason;

use super::maps::{Maps, MapsError, is_absent, is_full};
use super::{hits, words};
use crate::compile::maps::MapContents;
use crate::compile::maps::bits::{words4, words6};
use crate::error_chain::chain;

/// Entries of one map that have to change.
#[derive(Debug, PartialEq, Eq)]
struct Plan<K, V> {
    put: Vec<(K, V)>,
    remove: Vec<K>,
}

/// Both sides are in order, so one walk over both finds the differences: lists are long.
fn plan<K: Ord + Copy, V: PartialEq + Copy>(
    desired: &BTreeMap<K, V>,
    present: &BTreeMap<K, V>,
) -> Plan<K, V> {
    let mut plan = Plan { put: Vec::new(), remove: Vec::new() };
    let mut there = present.iter().peekable();
    for (key, value) in desired {
        while let Some((gone, _)) = there.next_if(|(other, _)| *other < key) {
            plan.remove.push(*gone);
        }
        match there.next_if(|(other, _)| *other == key) {
            Some((_, same)) if same == value => {}
            _ => plan.put.push((*key, *value)),
        }
    }
    plan.remove.extend(there.map(|(key, _)| *key));
    plan
}

impl<K: Ord + Copy, V: Copy> Plan<K, V> {
    fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }

    /// Carries it out on what is known.
    fn note(&self, known: &mut BTreeMap<K, V>) {
        known.extend(self.put.iter().copied());
        for key in &self.remove {
            known.remove(key);
        }
    }
}

/// What the maps are known to hold, so that a change of a long list does not begin by reading it back.
#[derive(Debug)]
pub(super) struct Known {
    vips: BTreeMap<VipKey, VipVal>,
    acl4: BTreeMap<(u32, Acl4Key), AclVal>,
    acl6: BTreeMap<(u32, Acl6Key), AclVal>,
    limits: BTreeMap<u32, Limit>,
    bits4: Vec<u64>,
    bits6: Vec<u64>,
}

impl Known {
    fn read(maps: &Maps) -> Result<Self, MapsError> {
        Ok(Self {
            vips: read_hash(&maps.vips, "vips")?,
            acl4: read_trie(&maps.acl4, "acl4")?,
            acl6: read_trie(&maps.acl6, "acl6")?,
            limits: read_array(&maps.limits, "limits")?,
            bits4: words::read(&maps.acl4_bits, WORDS4).map_err(MapsError::of("acl4_bits"))?,
            bits6: words::read(&maps.acl6_bits, WORDS6).map_err(MapsError::of("acl6_bits"))?,
        })
    }
}

/// The same for a trie, in an order in which no address ever meets flags of neither state: longer prefixes are put before
/// the shorter ones that they stand out from, and removed after them. (Values hold what all covering prefixes say, so an
/// address whose longest prefix is as desired, or still as it was, is judged as a whole state would judge it.)
fn plan_trie<K: Ord + Copy, V: PartialEq + Copy>(
    desired: &BTreeMap<(u32, K), V>,
    present: &BTreeMap<(u32, K), V>,
) -> Plan<(u32, K), V> {
    let Plan { mut put, remove } = plan(desired, present);
    put.reverse();
    Plan { put, remove }
}

/// What a synchronisation did.
#[derive(Debug, Default)]
pub struct Synced {
    /// Entries added or changed.
    pub put: usize,
    /// Entries removed.
    pub removed: usize,
    /// Entries that the kernel refused, by map, with what it said of the first.
    pub refused: Vec<(&'static str, usize, MapError)>,
}

impl Synced {
    /// What the kernel refused, a sentence for each map.
    pub fn sentences(&self) -> impl Iterator<Item = String> + '_ {
        self.refused.iter().map(|(map, entries, error)| {
            format!(
                "the kernel refused {entries} entries of the map {map}, they are not enforced: {}",
                chain(error)
            )
        })
    }

    /// Adds what another synchronisation did.
    pub(super) fn merge(&mut self, other: Self) {
        self.put += other.put;
        self.removed += other.removed;
        self.refused.extend(other.refused);
    }

    fn count(&mut self, map: &'static str, results: impl Iterator<Item = Result<(), MapError>>) -> usize {
        let mut done = 0;
        let mut failed = 0;
        let mut first = None;
        for result in results {
            match result {
                Ok(()) => done += 1,
                Err(error) => {
                    failed += 1;
                    first.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first {
            self.refused.push((map, failed, error));
        }
        done
    }

    fn puts(&mut self, map: &'static str, results: impl Iterator<Item = Result<(), MapError>>) {
        self.put += self.count(map, results);
    }

    /// Puts these entries; those for which there is no room are left for when others went.
    fn puts_or_leaves<'a, T>(
        &mut self,
        map: &'static str,
        entries: &'a [T],
        mut put: impl FnMut(&T) -> Result<(), MapError>,
    ) -> Vec<&'a T> {
        let mut left = Vec::new();
        let results = entries.iter().filter_map(|entry| match put(entry) {
            Err(error) if is_full(&error) => {
                left.push(entry);
                None
            }
            result => Some(result),
        });
        self.put += self.count(map, results);
        left
    }

    fn removals(&mut self, map: &'static str, results: impl Iterator<Item = Result<(), MapError>>) {
        // Gone already is as good as removed.
        let results = results.map(|result| match result {
            Err(error) if is_absent(&error) => Ok(()),
            result => result,
        });
        self.removed += self.count(map, results);
    }
}

/// Brings addresses, lists and limits to the desired state.
pub fn apply(maps: &mut Maps, desired: &MapContents) -> Result<Synced, MapsError> {
    let mut known = match maps.known.take() {
        Some(known) => known,
        None => Known::read(maps)?,
    };
    let mut synced = Synced::default();
    let vips = plan(&desired.vips, &known.vips);
    let acl4 = plan_trie(&desired.acl4, &known.acl4);
    let acl6 = plan_trie(&desired.acl6, &known.acl6);
    let limits = plan(&desired.limits, &known.limits);
    let bits4 = if acl4.is_empty() { known.bits4.clone() } else { words4(&desired.acl4) };
    let bits6 = if acl6.is_empty() { known.bits6.clone() } else { words6(&desired.acl6) };

    clear_counters(maps, &vips, &known.vips)?;
    synced.puts("limits", limits.put.iter().map(|(row, limit)| maps.limits.set(*row, limit, 0)));
    // A bit is set before an entry is put, and cleared after it went.
    let (both4, both6) = (words::union(&known.bits4, &bits4), words::union(&known.bits6, &bits6));
    words::write(&maps.acl4_bits, &known.bits4, &both4).map_err(MapsError::of("acl4_bits"))?;
    words::write(&maps.acl6_bits, &known.bits6, &both6).map_err(MapsError::of("acl6_bits"))?;
    let left4 = synced.puts_or_leaves("acl4", &acl4.put, |((len, data), value)| {
        maps.acl4.insert(&Key::new(*len, *data), value, 0)
    });
    let left6 = synced.puts_or_leaves("acl6", &acl6.put, |((len, data), value)| {
        maps.acl6.insert(&Key::new(*len, *data), value, 0)
    });
    let left = synced.puts_or_leaves("vips", &vips.put, |(key, value)| maps.vips.insert(key, value, 0));

    synced.removals("vips", vips.remove.iter().map(|key| maps.vips.remove(key)));
    synced.removals("acl6", acl6.remove.iter().map(|(len, data)| maps.acl6.remove(&Key::new(*len, *data))));
    synced.removals("acl4", acl4.remove.iter().map(|(len, data)| maps.acl4.remove(&Key::new(*len, *data))));
    synced.removals("limits", limits.remove.iter().map(|row| maps.limits.set(*row, Limit::default(), 0)));
    if !acl4.is_empty() || !acl6.is_empty() {
        synced.removals("acl_hits", hits::forget(maps, desired)?.into_iter());
    }
    let again4 = left4.iter().map(|((len, data), v)| maps.acl4.insert(&Key::new(*len, *data), v, 0));
    synced.puts("acl4", again4);
    let again6 = left6.iter().map(|((len, data), v)| maps.acl6.insert(&Key::new(*len, *data), v, 0));
    synced.puts("acl6", again6);
    synced.puts("vips", left.iter().map(|(key, value)| maps.vips.insert(key, value, 0)));
    if synced.refused.is_empty() {
        words::write(&maps.acl4_bits, &both4, &bits4).map_err(MapsError::of("acl4_bits"))?;
        words::write(&maps.acl6_bits, &both6, &bits6).map_err(MapsError::of("acl6_bits"))?;
        vips.note(&mut known.vips);
        acl4.note(&mut known.acl4);
        acl6.note(&mut known.acl6);
        limits.note(&mut known.limits);
        maps.known = Some(Known { bits4, bits6, ..known });
    }
    Ok(synced)
}

/// For a process that others may have written beside: the next synchronisation begins by reading what is there.
pub(super) fn forget(maps: &mut Maps) {
    maps.known = None;
}

/// Counters of an address that was not served before start at zero: its number may have been another's.
fn clear_counters(
    maps: &mut Maps,
    vips: &Plan<VipKey, VipVal>,
    known: &BTreeMap<VipKey, VipVal>,
) -> Result<(), MapsError> {
    let known: BTreeSet<u32> = known.values().map(|value| value.vip_id).collect();
    let fresh: BTreeSet<u32> =
        vips.put.iter().map(|(_, v)| v.vip_id).filter(|id| !known.contains(id)).collect();
    for row in fresh.into_iter().flat_map(|vip_id| Reason::ALL.map(|reason| reason.row(vip_id))) {
        let cpus = maps.stats.get(&row, 0).map_err(MapsError::of("stats"))?.len();
        let zero = PerCpuValues::try_from(vec![Count::default(); cpus])
            .map_err(|source| MapsError::Kernel { name: "stats".to_owned(), source: source.into() })?;
        maps.stats.set(row, zero, 0).map_err(MapsError::of("stats"))?;
    }
    Ok(())
}

/// Brings the entries of a hash map to the desired state.
pub(super) fn apply_hash<K: Pod + Ord, V: Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    name: &'static str,
    desired: &BTreeMap<K, V>,
) -> Result<Synced, MapsError> {
    let mut synced = Synced::default();
    let plan = plan(desired, &read_hash(map, name)?);
    let left = synced.puts_or_leaves(name, &plan.put, |(key, value)| map.insert(key, value, 0));
    synced.removals(name, plan.remove.iter().map(|key| map.remove(key)));
    synced.puts(name, left.iter().map(|(key, value)| map.insert(key, value, 0)));
    Ok(synced)
}

/// What a hash map holds.
pub fn read_hash<K: Pod + Ord, V: Pod>(
    map: &HashMap<MapData, K, V>,
    name: &str,
) -> Result<BTreeMap<K, V>, MapsError> {
    let entries: Result<_, MapError> = map.iter().filter(|entry| !is_gone(entry)).collect();
    entries.map_err(MapsError::of(name))
}

/// What a trie holds, by prefix length and data.
pub(super) fn read_trie<K: Pod + Ord, V: Pod>(
    map: &LpmTrie<MapData, K, V>,
    name: &str,
) -> Result<BTreeMap<(u32, K), V>, MapsError> {
    let entries: Result<_, MapError> = map
        .iter()
        .filter(|entry| !is_gone(entry))
        .map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value)))
        .collect();
    entries.map_err(MapsError::of(name))
}

/// The rows of an array that are not free (all zeros).
pub fn read_array<V: Pod + Default + PartialEq>(
    map: &Array<MapData, V>,
    name: &str,
) -> Result<BTreeMap<u32, V>, MapsError> {
    let mut rows = BTreeMap::new();
    for (row, value) in (0..).zip(map.iter()) {
        let value = value.map_err(MapsError::of(name))?;
        if value != V::default() {
            rows.insert(row, value);
        }
    }
    Ok(rows)
}

/// An entry that went away between its key being listed and its value being read.
fn is_gone<T>(entry: &Result<T, MapError>) -> bool {
    entry.as_ref().is_err_and(is_absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_written() {
        let desired = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let present = BTreeMap::from([(2, 'b'), (3, 'x'), (4, 'd')]);
        assert_eq!(plan(&desired, &present), Plan { put: vec![(1, 'a'), (3, 'c')], remove: vec![4] });
        assert_eq!(plan(&desired, &desired), Plan { put: vec![], remove: vec![] });
    }

    /// Prefixes of four-bit addresses, by length and bits.
    type Lists = BTreeMap<(u32, u8), u8>;

    fn covers((len, bits): (u32, u8), address: u8) -> bool {
        len == 0 || (address ^ bits) >> (4 - len) == 0
    }

    fn judged(lists: &Lists, address: u8) -> u8 {
        let covering = lists.iter().filter(|(prefix, _)| covers(**prefix, address));
        covering.max_by_key(|((len, _), _)| *len).map_or(0, |(_, flags)| *flags)
    }

    /// Values with the flags of all covering prefixes, as the compiler writes them.
    fn flattened(entries: &[((u32, u8), u8)]) -> Lists {
        let of = |(len, bits): (u32, u8)| {
            let wider =
                entries.iter().filter(|((other, at), _)| *other <= len && covers((*other, *at), bits));
            wider.fold(0, |flags, (_, own)| flags | own)
        };
        entries.iter().map(|(prefix, _)| (*prefix, of(*prefix))).collect()
    }

    #[test]
    fn at_no_moment_is_an_address_in_neither_the_old_nor_the_new_state() {
        let mut seed: u32 = 1;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        let mut lists = || -> Lists {
            let entries: Vec<_> = (0..random(6))
                .map(|_| {
                    let (len, bits) = (random(5), random(16) as u8);
                    let bits = if len == 0 { 0 } else { bits >> (4 - len) << (4 - len) };
                    ((len, bits), 1 << random(3))
                })
                .collect();
            flattened(&entries)
        };
        for round in 0..5_000 {
            let (old, new) = (lists(), lists());
            let plan = plan_trie(&new, &old);
            let mut now = old.clone();
            let check = |now: &Lists| {
                for address in 0..16 {
                    let flags = judged(now, address);
                    let known = [judged(&old, address), judged(&new, address)];
                    assert!(
                        known.contains(&flags),
                        "round {round}: {address:04b} met {flags}; {old:?} -> {new:?}"
                    );
                }
            };
            for (prefix, flags) in plan.put {
                now.insert(prefix, flags);
                check(&now);
            }
            for prefix in plan.remove {
                now.remove(&prefix);
                check(&now);
            }
            assert_eq!(now, new);
        }
    }
}
