//! What the kernel counted, for metrics and `portcullis status`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::Pod;
use aya::maps::{MapData, PerCpuArray};
use ingress_common::flow::ip_of;
use ingress_common::maps::{Count, LookupCount};
use ingress_common::verdict::Reason;
use serde::Serialize;

use super::maps::{Maps, MapsError};
use super::sync;

/// Packets of one address and reason, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PacketCount {
    /// The served address; `None`: packets for no served address.
    pub address: Option<IpAddr>,
    /// Name of the reason.
    pub reason: &'static str,
    /// `pass` or `drop`.
    pub action: &'static str,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Every counter that is not zero, by address and reason.
pub fn packets(maps: &Maps) -> Result<Vec<PacketCount>, MapsError> {
    let mut addresses = BTreeMap::from([(0, None)]);
    for (key, value) in sync::read_hash(&maps.vips, "vips")? {
        addresses.insert(value.vip_id, Some(ip_of(&key.addr)));
    }
    let mut counts = Vec::new();
    for (vip_id, address) in addresses {
        for reason in Reason::ALL {
            let sum = total(&maps.stats, "stats", reason.row(vip_id), |sum: &mut Count, cpu: &Count| {
                sum.packets += cpu.packets;
                sum.bytes += cpu.bytes;
            })?;
            if sum.packets > 0 {
                counts.push(PacketCount {
                    address,
                    reason: reason.name(),
                    action: match reason.action() {
                        ingress_common::verdict::Action::Pass => "pass",
                        ingress_common::verdict::Action::Drop => "drop",
                    },
                    packets: sum.packets,
                    bytes: sum.bytes,
                });
            }
        }
    }
    Ok(counts)
}

/// Connections that SK_LOOKUP handed over, missed and could not hand over, by slot; slots without any are left out.
pub fn lookups_by_slot(maps: &Maps) -> Result<BTreeMap<u32, LookupCount>, MapsError> {
    let mut counts = BTreeMap::new();
    for slot in 0..maps.lk_stats.len() {
        let count = total(&maps.lk_stats, "lk_stats", slot, add_lookups)?;
        if count != LookupCount::default() {
            counts.insert(slot, count);
        }
    }
    Ok(counts)
}

/// The same over all slots.
pub fn lookups(maps: &Maps) -> Result<LookupCount, MapsError> {
    let mut sum = LookupCount::default();
    for count in lookups_by_slot(maps)?.values() {
        add_lookups(&mut sum, count);
    }
    Ok(sum)
}

fn add_lookups(sum: &mut LookupCount, more: &LookupCount) {
    sum.lookups += more.lookups;
    sum.misses += more.misses;
    sum.errors += more.errors;
}

fn total<V: Pod + Default>(
    map: &PerCpuArray<MapData, V>,
    name: &str,
    row: u32,
    add: impl Fn(&mut V, &V),
) -> Result<V, MapsError> {
    let mut sum = V::default();
    for cpu in map.get(&row, 0).map_err(MapsError::of(name))?.iter() {
        add(&mut sum, cpu);
    }
    Ok(sum)
}
