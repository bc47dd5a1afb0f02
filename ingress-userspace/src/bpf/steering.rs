//! Nodes, tables and keys in the kernel maps.
//!
//! Nodes are entered before a table names them, and go after none does; a table is filled beside the one in use and put
//! in its place in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aya::maps::{Array, MapData};
use ingress_common::flow::{Addr, ip_of};
use ingress_common::maps::{Cluster, NodeSeen, NodeVal};
use ingress_common::steer::TABLE_SLOTS;

use super::maps::{Maps, MapsError, is_full};
use super::sync::{self, Synced};
use crate::compile::rendezvous::Table;

/// What the maps shall say of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// `nodes`.
    pub nodes: BTreeMap<u32, NodeVal>,
    /// `peers`.
    pub peers: BTreeMap<Addr, u32>,
}

/// Enters nodes: new ones and changes at once; those that are not named stay until [`forget`].
pub fn enter(maps: &mut Maps, cluster: Cluster, nodes: &Nodes) -> Result<(), MapsError> {
    for (id, value) in &nodes.nodes {
        maps.nodes.set(*id, value, 0).map_err(MapsError::of("nodes"))?;
    }
    for (address, id) in &nodes.peers {
        match maps.peers.insert(address, id, 0) {
            // So many new nodes at once that those which went must go first.
            Err(error) if is_full(&error) => {
                sync::apply_hash(&mut maps.peers, "peers", &nodes.peers)?;
                maps.peers.insert(address, id, 0).map_err(MapsError::of("peers"))?;
            }
            outcome => outcome.map_err(MapsError::of("peers"))?,
        }
    }
    maps.cluster.set(0, cluster, 0).map_err(MapsError::of("cluster"))
}

/// Takes out the nodes that are not named.
pub fn forget(maps: &mut Maps, nodes: &Nodes) -> Result<Synced, MapsError> {
    for id in sync::read_array(&maps.nodes, "nodes")?.keys().filter(|id| !nodes.nodes.contains_key(id)) {
        maps.nodes.set(*id, NodeVal::default(), 0).map_err(MapsError::of("nodes"))?;
        maps.node_seen.set(*id, NodeSeen::default(), 0).map_err(MapsError::of("node_seen"))?;
    }
    sync::apply_hash(&mut maps.peers, "peers", &nodes.peers)
}

/// Puts a table in place of the one that the pool with this number has.
pub fn replace(maps: &mut Maps, pool: u16, table: &Table) -> Result<(), MapsError> {
    let mut inner: Array<MapData, u64> = Array::create(TABLE_SLOTS, 0).map_err(MapsError::of("pools"))?;
    for (row, slot) in (0..).zip(&table.slots) {
        inner.set(row, slot, 0).map_err(MapsError::of("pools"))?;
    }
    maps.pools.set(u32::from(pool), &inner, 0).map_err(MapsError::of("pools"))
}

/// The numbers of nodes by address, as an earlier process left them.
pub fn numbers(maps: &Maps) -> Result<BTreeMap<IpAddr, u16>, MapsError> {
    let peers = sync::read_hash(&maps.peers, "peers")?;
    Ok(peers.into_iter().filter_map(|(addr, id)| Some((ip_of(&addr), u16::try_from(id).ok()?))).collect())
}

/// The entries of `nodes`.
pub fn read(maps: &Maps) -> Result<BTreeMap<u32, NodeVal>, MapsError> {
    sync::read_array(&maps.nodes, "nodes")
}

/// What the program saw of these nodes.
pub fn seen(maps: &Maps, ids: &BTreeSet<u16>) -> Result<BTreeMap<u16, NodeSeen>, MapsError> {
    let mut seen = BTreeMap::new();
    for id in ids {
        seen.insert(*id, maps.node_seen.get(&u32::from(*id), 0).map_err(MapsError::of("node_seen"))?);
    }
    Ok(seen)
}
