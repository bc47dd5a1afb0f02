//! The pools as people see them: addresses, who announces them, and the nodes with their states.

use super::Agent;
use crate::admin::pools::{NodeOfPool, PoolView};
use crate::model::edge::{AddressRange, Announce, NodeState, Pool, PoolNode};

impl Agent {
    /// All pools of the model.
    pub(super) fn pools(&self) -> Vec<PoolView> {
        let tables = self.peers.fingerprints();
        let holders = self.announcers.holders();
        let view = |pool: &Pool| PoolView {
            name: pool.name.clone(),
            blocks: pool.blocks.iter().map(show).collect(),
            addresses: pool.blocks.iter().map(count).fold(0, u64::saturating_add),
            announce: match pool.announce {
                Announce::L2 => "L2",
                Announce::None => "None",
            },
            announced_by: holders.get(&pool.name).cloned(),
            table: tables.get(&pool.name).map(|fingerprint| format!("{fingerprint:016x}")),
            nodes: pool.nodes.iter().map(|node| self.node_of_pool(node)).collect(),
        };
        self.model.edge.pools.iter().map(view).collect()
    }

    fn node_of_pool(&self, node: &PoolNode) -> NodeOfPool {
        let known = self.peers.known_of(&node.name);
        NodeOfPool {
            name: node.name.clone(),
            is_this_node: node.name == self.settings.node,
            addresses: node.addresses.clone(),
            state: match (known.is_some_and(|known| known.is_down), node.state) {
                (true, _) => "down",
                (false, NodeState::Active) => "active",
                (false, NodeState::Draining) => "draining",
            },
            since: known.filter(|_| node.name != self.settings.node).map(|known| known.changed_at),
            is_recent: known.is_some_and(|known| known.is_recent()),
            weight: node.weight,
        }
    }
}

fn show(block: &AddressRange) -> String {
    if block.first == block.last {
        return block.first.to_string();
    }
    format!("{}-{}", block.first, block.last)
}

fn count(block: &AddressRange) -> u64 {
    u64::try_from(block.count()).unwrap_or(u64::MAX)
}
