//! The maps of a node that takes part in a pool: table, nodes, keys.

use aya::maps::{Array, ArrayOfMaps, HashMap, SockMap};
use ingress_common::flow::{TCP, addr_of};
use ingress_common::maps::{Cluster, Count, ListenVal, NodeSeen, NodeVal, VipKey};
use ingress_common::steer::{CANDIDATES, TABLE_SLOTS, slot, slot_of};
use std::net::TcpListener;

use super::Rig;

/// The table of the only pool.
pub const POOL: u16 = 1;

impl Rig {
    /// Has this address and its ports belong to the pool.
    pub fn join(&mut self, address: &str) {
        let addr = addr_of(address.parse().unwrap());
        let keys: Vec<VipKey> = self.contents.vips.keys().filter(|key| key.addr == addr).copied().collect();
        for key in keys {
            let value = self.contents.vips.get_mut(&key).unwrap();
            value.pool = POOL;
            let value = *value;
            self.set_vip(key, value);
        }
    }

    /// What this node shares with the others.
    pub fn set_cluster(&mut self, cluster: Cluster) {
        let mut map: Array<_, Cluster> = Array::try_from(self.ebpf.map_mut("cluster").unwrap()).unwrap();
        map.set(0, cluster, 0).unwrap();
    }

    /// Has the flows with these hashes go to these candidates, best first. (Filling all slots takes a while.)
    pub fn set_candidates(&mut self, candidates: [u16; CANDIDATES], hashes: &[u64]) {
        let flows: Vec<_> = hashes.iter().map(|hash| (*hash, candidates)).collect();
        self.set_table(&flows);
    }

    /// Replaces the table: candidates of flows by their hashes; flows in no slot stay where they arrive.
    pub fn set_table(&mut self, flows: &[(u64, [u16; CANDIDATES])]) {
        let mut table: Array<_, u64> = Array::create(TABLE_SLOTS, 0).unwrap();
        for (hash, candidates) in flows {
            table.set(slot_of(*hash), slot(*candidates), 0).unwrap();
        }
        let mut pools: ArrayOfMaps<_, Array<_, u64>> =
            ArrayOfMaps::try_from(self.ebpf.map_mut("pools").unwrap()).unwrap();
        pools.set(u32::from(POOL), &table, 0).unwrap();
    }

    /// Makes a node known, under each of these addresses.
    pub fn set_node(&mut self, id: u32, node: NodeVal, addresses: &[&str]) {
        let mut nodes: Array<_, NodeVal> = Array::try_from(self.ebpf.map_mut("nodes").unwrap()).unwrap();
        nodes.set(id, node, 0).unwrap();
        let mut peers: HashMap<_, [u8; 16], u32> =
            HashMap::try_from(self.ebpf.map_mut("peers").unwrap()).unwrap();
        for address in addresses {
            peers.insert(addr_of(address.parse().unwrap()), id, 0).unwrap();
        }
    }

    /// What the program itself knows of a node.
    pub fn seen(&self, id: u32) -> NodeSeen {
        let seen: Array<_, NodeSeen> = Array::try_from(self.ebpf.map("node_seen").unwrap()).unwrap();
        seen.get(&id, 0).unwrap()
    }

    /// Forgets that.
    pub fn forget(&mut self, id: u32) {
        let mut seen: Array<_, NodeSeen> = Array::try_from(self.ebpf.map_mut("node_seen").unwrap()).unwrap();
        seen.set(id, NodeSeen::default(), 0).unwrap();
    }

    /// What was sent to a node so far; of number 0, what came from all.
    pub fn sent_on(&self, id: u32) -> Count {
        let stats: aya::maps::PerCpuArray<_, Count> =
            aya::maps::PerCpuArray::try_from(self.ebpf.map("node_stats").unwrap()).unwrap();
        stats.get(&id, 0).unwrap().iter().fold(Count::default(), |sum, value| Count {
            packets: sum.packets + value.packets,
            bytes: sum.bytes + value.bytes,
        })
    }

    /// Has a socket accept the connections of an address and port.
    pub fn accept(&mut self, address: &str, port: u16, listener: &TcpListener) {
        let mut socks = SockMap::try_from(self.ebpf.map_mut("socks").unwrap()).unwrap();
        socks.set(0, listener, 0).unwrap();
        let mut listen: HashMap<_, VipKey, ListenVal> =
            HashMap::try_from(self.ebpf.map_mut("listen").unwrap()).unwrap();
        let key = VipKey::served(addr_of(address.parse().unwrap()), port, TCP);
        listen.insert(key, ListenVal { first_slot: 0, slots: 1, ..ListenVal::default() }, 0).unwrap();
    }
}
