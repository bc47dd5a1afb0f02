//! The pools of the model that several nodes serve → which nodes, under which numbers, in which tables.
//!
//! Numbers are this node's own and stay as long as the node does, so that a table and the nodes that it names can be
//! replaced one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ingress_common::flow::ip_of;
use ingress_common::maps::{NODES, POOLS, VipKey, VipVal};
use ingress_common::tunnel;

use super::maps::MapContents;
use super::rendezvous::Candidate;
use crate::model::Model;
use crate::model::edge::{ClusterKey, Encapsulation, NodeState, Pool};

/// A node that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// It takes no new connections.
    pub is_draining: bool,
    /// Its greatest weight in any pool: a change moves flows.
    pub weight: u16,
    /// Since when it serves, in seconds since the epoch, where that is known.
    pub joined: Option<i64>,
}

/// Which nodes serve which pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// What the nodes share.
    pub key: Option<ClusterKey>,
    /// Number of this node; 0: it takes part in no pool with others.
    pub me: u16,
    /// Packets are sent on by IP in IP.
    pub is_ipip: bool,
    /// The nodes by their numbers, this one included.
    pub nodes: BTreeMap<u16, Node>,
    /// The tables by the numbers of their pools.
    pub tables: BTreeMap<u16, Vec<Candidate>>,
    /// Names of the pools by their numbers.
    pub pools: BTreeMap<u16, String>,
    /// Pools that this node does not serve although others do.
    pub elsewhere: BTreeSet<String>,
    /// Parts that do not work, one sentence each.
    pub refused: Vec<String>,
}

/// Numbers that are in use: nodes by address, pools by the addresses in `vips`.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Numbers of nodes by any of their addresses.
    pub nodes: BTreeMap<IpAddr, u16>,
    /// Numbers of pools by their names.
    pub pools: BTreeMap<String, u16>,
}

impl Node {
    /// Its end of the tunnel from `me`: IPv4 where both have it.
    pub fn end(&self, me: &Self) -> Option<IpAddr> {
        let has = |node: &Self, is_ipv4| node.addresses.iter().copied().find(|ip| ip.is_ipv4() == is_ipv4);
        let family = |is_ipv4| has(me, is_ipv4).and_then(|_| has(self, is_ipv4));
        family(true).or_else(|| family(false))
    }
}

impl Steering {
    /// This node.
    pub fn own(&self) -> Option<&Node> {
        self.nodes.get(&self.me)
    }

    /// Whether some packets go by IPv6.
    fn needs_ipv6(&self) -> bool {
        let Some(own) = self.own() else { return false };
        self.nodes.values().any(|node| !node.end(own).is_some_and(|end| end.is_ipv4()))
    }
}

impl Numbers {
    /// Those of an earlier plan.
    pub fn of(steering: &Steering) -> Self {
        let of_node = |(id, node): (&u16, &Node)| {
            let id = *id;
            node.addresses.iter().map(move |address| (*address, id)).collect::<Vec<_>>()
        };
        Self {
            nodes: steering.nodes.iter().flat_map(of_node).collect(),
            pools: steering.pools.iter().map(|(number, name)| (name.clone(), *number)).collect(),
        }
    }
}

/// Plans for the node with this name.
pub fn plan(model: &Model, node_name: &str, mut numbers: Numbers) -> Steering {
    let mut plan = Steering { key: model.edge.cluster_key, ..Steering::default() };
    for pool in model.edge.pools.iter().filter(|pool| !pool.nodes.is_empty()) {
        if !pool.nodes.iter().any(|node| node.name == node_name) {
            plan.elsewhere.insert(pool.name.clone());
        } else if pool.nodes.len() > 1 {
            add(&mut plan, pool, node_name, &mut numbers);
        }
    }
    plan
}

fn add(plan: &mut Steering, pool: &Pool, node_name: &str, numbers: &mut Numbers) {
    let taken: BTreeSet<u16> = plan.pools.keys().chain(numbers.pools.values()).copied().collect();
    let known = numbers.pools.get(&pool.name).copied().filter(|number| !plan.pools.contains_key(number));
    let free = || (1..POOLS as u16).find(|number| !taken.contains(number));
    let Some(number) = known.or_else(free) else {
        plan.refused.push(format!(
            "AddressPool {}: its flows stay on the node that receives them: at most {} pools are steered",
            pool.name,
            POOLS - 1
        ));
        return;
    };
    let mut table = Vec::new();
    for node in &pool.nodes {
        if node.addresses.is_empty() {
            plan.refused.push(format!(
                "AddressPool {}: node {} takes no part: it has no internal address; set status.addresses of the Node",
                pool.name, node.name
            ));
            continue;
        }
        let Some(id) = number_of(plan, &node.name, &node.addresses, numbers) else {
            plan.refused.push(format!(
                "AddressPool {}: node {} takes no part: at most {} nodes are known",
                pool.name,
                node.name,
                NODES - 1
            ));
            continue;
        };
        let entry = plan.nodes.entry(id).or_insert_with(|| Node {
            name: node.name.clone(),
            addresses: node.addresses.clone(),
            is_draining: false,
            weight: 0,
            joined: node.joined,
        });
        entry.is_draining |= node.state == NodeState::Draining;
        entry.weight = entry.weight.max(node.weight);
        entry.joined = entry.joined.max(node.joined);
        if node.name == node_name {
            plan.me = id;
        }
        table.push(Candidate { id, name: node.name.clone(), weight: node.weight });
    }
    // One encapsulation for all: the header is chosen by the node, and two would ask the receiver to guess.
    plan.is_ipip |= pool.encapsulation == Encapsulation::Ipip;
    plan.pools.insert(number, pool.name.clone());
    plan.tables.insert(number, table);
}

fn number_of(plan: &Steering, name: &str, addresses: &[IpAddr], numbers: &mut Numbers) -> Option<u16> {
    if let Some((id, _)) = plan.nodes.iter().find(|(_, node)| node.name == name) {
        return Some(*id);
    }
    let known = addresses.iter().find_map(|address| numbers.nodes.get(address).copied());
    let known = known.filter(|id| !plan.nodes.contains_key(id));
    let taken: BTreeSet<u16> = plan.nodes.keys().chain(numbers.nodes.values()).copied().collect();
    let id = known.or_else(|| (1..NODES as u16).find(|id| !taken.contains(id)))?;
    for address in addresses {
        numbers.nodes.insert(*address, id);
    }
    Some(id)
}

/// Enters the plan into the contents of the maps: addresses of pools that others serve go, those of steered pools get
/// their table and, where `mtu` is what the way between the nodes permits, the MSS that fits through the tunnel.
pub fn enter(plan: &Steering, model: &Model, mtu: u16, contents: &mut MapContents) {
    let pool_of = |key: &VipKey| {
        let ip = ip_of(&key.addr);
        model.edge.pools.iter().find(|pool| pool.blocks.iter().any(|block| block.contains(ip)))
    };
    let numbers: BTreeMap<&str, u16> =
        plan.pools.iter().map(|(number, name)| (name.as_str(), *number)).collect();
    let of_node: BTreeSet<_> = contents
        .vips
        .iter()
        .filter(|(_, value)| value.flags & VipVal::PORTS_ONLY != 0)
        .map(|(key, _)| key.addr)
        .collect();
    let is_elsewhere = |key: &VipKey| {
        !of_node.contains(&key.addr) && pool_of(key).is_some_and(|pool| plan.elsewhere.contains(&pool.name))
    };
    contents.vips.retain(|key, _| !is_elsewhere(key));
    contents.listen.retain(|key, _| !is_elsewhere(key));
    for (key, value) in &mut contents.vips {
        let number = pool_of(key).and_then(|pool| numbers.get(pool.name.as_str()));
        let Some(number) = number.filter(|_| plan.me != 0 && !of_node.contains(&key.addr)) else { continue };
        let overhead = tunnel::overhead(!plan.is_ipip, plan.needs_ipv6());
        value.pool = *number;
        value.mss = tunnel::mss(mtu, overhead, ip_of(&key.addr).is_ipv6());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::{AddressRange, DEFAULT_WEIGHT, Edge, PoolNode};

    fn node(name: &str, address: &str) -> PoolNode {
        PoolNode {
            name: name.to_owned(),
            addresses: vec![address.parse().unwrap()],
            state: NodeState::Active,
            weight: DEFAULT_WEIGHT,
            joined: None,
        }
    }

    fn model(pools: &[(&str, &str, &[PoolNode])]) -> Model {
        let pool = |(name, address, nodes): &(&str, &str, &[PoolNode])| {
            let ip = address.parse().unwrap();
            Pool { nodes: nodes.to_vec(), ..Pool::new(*name, vec![AddressRange { first: ip, last: ip }]) }
        };
        Model {
            edge: Edge { pools: pools.iter().map(pool).collect(), ..Edge::default() },
            ..Model::default()
        }
    }

    #[test]
    fn numbers_stay_when_nodes_come_and_go() {
        let (a, b, c) = (node("a", "198.18.0.1"), node("b", "198.18.0.2"), node("c", "198.18.0.3"));
        let two = [a.clone(), b.clone()];
        let first = plan(&model(&[("edge", "198.18.100.1", &two)]), "b", Numbers::default());
        assert_eq!(first.me, 2);
        let three = [c, a, b];
        let second = plan(&model(&[("edge", "198.18.100.1", &three)]), "b", Numbers::of(&first));
        let names: Vec<_> = second.nodes.iter().map(|(id, node)| (*id, node.name.as_str())).collect();
        assert_eq!(names, [(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(second.pools.keys().collect::<Vec<_>>(), [&1]);
    }

    #[test]
    fn a_pool_of_others_is_not_served_here_and_one_of_this_node_alone_needs_no_table() {
        let others = [node("a", "198.18.0.1"), node("b", "198.18.0.2")];
        let mine = [node("c", "198.18.0.3")];
        let model = model(&[("theirs", "198.18.100.1", &others), ("mine", "198.18.100.2", &mine)]);
        let plan = plan(&model, "c", Numbers::default());
        assert_eq!((plan.me, plan.tables.len()), (0, 0));
        let mut contents = crate::compile::maps::compile(&model, &[], &MapContents::default()).contents;
        enter(&plan, &model, 1500, &mut contents);
        let left: BTreeSet<IpAddr> = contents.vips.keys().map(|key| ip_of(&key.addr)).collect();
        assert_eq!(left, BTreeSet::from(["198.18.100.2".parse().unwrap()]));
    }

    #[test]
    fn a_steered_address_names_its_table_and_what_fits_through_the_tunnel() {
        let both = [node("a", "198.18.0.1"), node("b", "198.18.0.2")];
        let model = model(&[("edge", "198.18.100.1", &both)]);
        let plan = plan(&model, "a", Numbers::default());
        let mut contents = crate::compile::maps::compile(&model, &[], &MapContents::default()).contents;
        enter(&plan, &model, 1500, &mut contents);
        let value = contents.vips.values().next().unwrap();
        assert_eq!((value.pool, value.mss), (1, 1416));
    }
}
