//! What the kernel counted, for metrics and `portcullis status`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::Pod;
use aya::maps::{MapData, PerCpuArray};
use ingress_common::flow::ip_of;
use ingress_common::maps::{Count, LookupCount, NodeVal};
use ingress_common::verdict::Reason;
use serde::Serialize;

use super::clock::now_ns;
use super::maps::{Maps, MapsError, is_absent};
use super::sync;

/// Packets of one address and reason, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PacketCount {
    /// The served address; `None`: packets for no served address.
    pub address: Option<IpAddr>,
    /// Name of the reason.
    pub reason: &'static str,
    /// `pass`, `drop` or `send`.
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
            let sum = total(&maps.stats, "stats", reason.row(vip_id), add_counts)?;
            if sum.packets > 0 {
                counts.push(PacketCount {
                    address,
                    reason: reason.name(),
                    action: match reason.action() {
                        ingress_common::verdict::Action::Pass => "pass",
                        ingress_common::verdict::Action::Drop => "drop",
                        ingress_common::verdict::Action::Send => "send",
                    },
                    packets: sum.packets,
                    bytes: sum.bytes,
                });
            }
        }
    }
    Ok(counts)
}

/// Packets that were sent on, by node; in row 0 those that came from other nodes. Nodes without any are left out.
pub fn sent_on(maps: &Maps) -> Result<BTreeMap<u32, Count>, MapsError> {
    let mut counts = BTreeMap::new();
    for node in 0..maps.node_stats.len() {
        let count = total(&maps.node_stats, "node_stats", node, add_counts)?;
        if count != Count::default() {
            counts.insert(node, count);
        }
    }
    Ok(counts)
}

/// Another node of a pool, as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub number: u32,
    /// Its end of the tunnel.
    pub address: IpAddr,
    /// `up`, `down` or `draining`.
    pub state: &'static str,
    /// Milliseconds since it last answered a probe; `None`: never.
    pub answered_ms_ago: Option<u64>,
    /// Packets that were sent on to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The other nodes of the pools that this node takes part in.
pub fn nodes(maps: &Maps) -> Result<Vec<Node>, MapsError> {
    let me = maps.cluster.get(&0, 0).map_err(MapsError::of("cluster"))?.me;
    let sent = sent_on(maps)?;
    let seen = sync::read_array(&maps.node_seen, "node_seen")?;
    let now = now_ns();
    let node = |(number, value): (u32, NodeVal)| {
        let count = sent.get(&number).copied().unwrap_or_default();
        let answered = seen.get(&number).map_or(0, |seen| seen.answered_ns);
        Node {
            number,
            address: ip_of(&value.addr),
            state: match value.flags {
                flags if flags & NodeVal::DOWN != 0 => "down",
                flags if flags & NodeVal::DRAINING != 0 => "draining",
                _ => "up",
            },
            answered_ms_ago: (answered != 0).then(|| now.saturating_sub(answered) / 1_000_000),
            packets: count.packets,
            bytes: count.bytes,
        }
    };
    let all = sync::read_array(&maps.nodes, "nodes")?;
    Ok(all.into_iter().filter(|(number, _)| *number != me).map(node).collect())
}

/// Drops that records told of, and those that none did, over all CPUs.
pub fn drops_told(maps: &Maps) -> Result<(u64, u64), MapsError> {
    let cpus = maps.event_rate.get(&0, 0).map_err(MapsError::of("event_rate"))?;
    Ok(cpus.iter().fold((0, 0), |(told, untold), cpu| (told + cpu.told, untold + cpu.untold_ever)))
}

/// What was sent to one client from one served address, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The client, or the /64 of an IPv6 client.
    pub client: IpAddr,
    /// The served address; `None`: it is served no more.
    pub address: Option<IpAddr>,
    /// Packets; what the interface cuts up itself counts as what it becomes.
    pub packets: u64,
    /// Their bytes, as the stack hands them over.
    pub bytes: u64,
}

/// What was sent to clients lately, by client and address.
pub fn sent(maps: &Maps) -> Result<Vec<Sent>, MapsError> {
    let addresses: BTreeMap<u32, IpAddr> = sync::read_hash(&maps.vips, "vips")?
        .into_iter()
        .map(|(key, vip)| (vip.vip_id, ip_of(&key.addr)))
        .collect();
    let mut all = Vec::new();
    for entry in maps.egress.iter() {
        let (key, values) = match entry {
            Err(error) if is_absent(&error) => continue,
            entry => entry.map_err(MapsError::of("egress"))?,
        };
        let count = sum(&values);
        all.push(Sent {
            client: ip_of(&key.addr),
            address: addresses.get(&key.bucket).copied(),
            packets: count.packets,
            bytes: count.bytes,
        });
    }
    all.sort_unstable_by_key(|sent| (sent.client, sent.address));
    Ok(all)
}

/// Connections that SK_LOOKUP handed over, missed and could not hand over, and those that were moved, by slot; slots without any are left out.
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

/// The sum over all CPUs.
pub(super) fn sum(cpus: &[Count]) -> Count {
    let mut sum = Count::default();
    cpus.iter().for_each(|count| add_counts(&mut sum, count));
    sum
}

fn add_counts(sum: &mut Count, more: &Count) {
    sum.packets += more.packets;
    sum.bytes += more.bytes;
}

fn add_lookups(sum: &mut LookupCount, more: &LookupCount) {
    sum.lookups += more.lookups;
    sum.misses += more.misses;
    sum.errors += more.errors;
    sum.moved += more.moved;
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
