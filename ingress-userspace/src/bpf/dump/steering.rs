//! The nodes of pools and how flows are shared among them.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use ingress_common::flow::{Addr, ip_of};
use ingress_common::maps::{Cluster, Count, NodeSeen, NodeVal, POOLS};
use ingress_common::steer::{CANDIDATES, TABLE_SLOTS, candidate};
use serde_json::json;

use super::{Table, flag_names, mac};
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::pins::Pins;
use crate::bpf::{counters, sync, syscall, words};

/// Without the keys: whoever sees a screen need not know them.
pub(super) fn cluster(maps: &Maps) -> Result<Table, MapsError> {
    let cluster = maps.cluster.get(&0, 0).map_err(MapsError::of("cluster"))?;
    Ok(Table::of(&["me", "tunnel"], [cluster], |cluster| {
        let tunnel = if cluster.flags & Cluster::IPIP == 0 { "UDP" } else { "IPIP" };
        vec![json!(cluster.me), json!(tunnel)]
    }))
}

/// In how many slots of a pool's table a node stands first, second and so on.
pub(super) fn pools(pins: &Pins) -> Result<Table, MapsError> {
    let failed = |call| move |error| MapsError::of("pools")(words::failed(call)(error));
    let pools = syscall::open_pin(&pins.map("pools")).map_err(failed("bpf_obj_get"))?;
    let mut rows = Vec::new();
    for pool in 0..POOLS {
        let mut id = [0; 4];
        match syscall::map_lookup(pools.as_fd(), &pool.to_ne_bytes(), &mut id) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            found => found.map_err(failed("bpf_map_lookup_elem"))?,
        }
        let id = u32::from_ne_bytes(id);
        let slots = words::read_inner(id, TABLE_SLOTS).map_err(MapsError::of("pools"))?;
        rows.extend(places(&slots).into_iter().map(|(node, places)| (pool, id, node, places)));
    }
    let columns = &["pool", "map", "node", "first", "second", "third", "fourth"];
    Ok(Table::of(columns, rows, |(pool, id, node, places)| {
        let mut row = vec![json!(pool), json!(id), json!(node)];
        row.extend(places.map(|slots| json!(slots)));
        row
    }))
}

/// By node: how many slots have it at each place.
fn places(slots: &[u64]) -> BTreeMap<u16, [u32; CANDIDATES]> {
    let mut nodes: BTreeMap<u16, [u32; CANDIDATES]> = BTreeMap::new();
    for slot in slots {
        for at in 0..CANDIDATES {
            let node = candidate(*slot, at);
            if node != 0
                && let Some(count) = nodes.entry(node).or_default().get_mut(at)
            {
                *count += 1;
            }
        }
    }
    nodes
}

pub(super) fn nodes(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &[
        "node",
        "address",
        "flags",
        "interface",
        "source",
        "next_hop",
        "source_mac",
        "mtu",
        "vlan",
        "recent_until_ns",
    ];
    Ok(Table::of(COLUMNS, sync::read_array(&maps.nodes, "nodes")?, |(node, value): (u32, NodeVal)| {
        let flags = [(NodeVal::DRAINING, "draining"), (NodeVal::DOWN, "down")];
        vec![
            json!(node),
            json!(ip_of(&value.addr)),
            json!(flag_names(value.flags, &flags)),
            json!(value.ifindex),
            json!(ip_of(&value.source)),
            json!(mac(value.mac)),
            json!(mac(value.source_mac)),
            json!(value.mtu),
            json!(value.vlan),
            json!(value.recent_until_ns),
        ]
    }))
}

pub(super) fn node_seen(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["node", "answered_ns", "led_ns", "absent_ns", "armed_ns"];
    let rows = sync::read_array(&maps.node_seen, "node_seen")?;
    Ok(Table::of(COLUMNS, rows, |(node, seen): (u32, NodeSeen)| {
        let NodeSeen { answered_ns, led_ns, absent_ns, armed_ns } = seen;
        vec![json!(node), json!(answered_ns), json!(led_ns), json!(absent_ns), json!(armed_ns)]
    }))
}

pub(super) fn peers(maps: &Maps) -> Result<Table, MapsError> {
    let row = |(addr, node): (Addr, u32)| vec![json!(ip_of(&addr)), json!(node)];
    Ok(Table::of(&["address", "node"], sync::read_hash(&maps.peers, "peers")?, row))
}

pub(super) fn node_stats(maps: &Maps) -> Result<Table, MapsError> {
    let row = |(node, count): (u32, Count)| vec![json!(node), json!(count.packets), json!(count.bytes)];
    Ok(Table::of(&["node", "packets", "bytes"], counters::sent_on(maps)?, row))
}

#[cfg(test)]
mod tests {
    use ingress_common::steer::slot;

    use super::*;

    #[test]
    fn a_node_is_counted_at_each_of_its_places() {
        let slots = [slot([1, 2, 0, 0]), slot([2, 1, 0, 0]), slot([1, 2, 0, 0])];
        assert_eq!(places(&slots), BTreeMap::from([(1, [2, 1, 0, 0]), (2, [1, 2, 0, 0])]));
    }
}
