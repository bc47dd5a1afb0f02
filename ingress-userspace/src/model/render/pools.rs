//! Pools, their nodes, and that there is a key.

use std::fmt::{self, Write};

use super::join;
use crate::model::edge::{
    Announce, ClusterKey, DEFAULT_WEIGHT, Edge, Encapsulation, NodeState, Pool, PoolNode, PoolService,
};

pub(super) fn write_pools(out: &mut String, edge: &Edge) -> fmt::Result {
    for Pool { name, blocks, announce, encapsulation, nodes } in &edge.pools {
        let blocks: Vec<String> =
            blocks.iter().map(|block| format!("{}-{}", block.first, block.last)).collect();
        let announced = match announce {
            Announce::L2 => "",
            Announce::None => ", not announced",
        };
        let around = match encapsulation {
            Encapsulation::Udp => "",
            Encapsulation::Ipip => ", by IPIP",
        };
        writeln!(out, "pool {name}: {}{announced}{around}", blocks.join(", "))?;
        for PoolNode { name, addresses, state, weight, joined } in nodes {
            let state = match state {
                NodeState::Active => "",
                NodeState::Draining => ", draining",
            };
            let weight = if *weight == DEFAULT_WEIGHT { String::new() } else { format!(", weight {weight}") };
            let since = joined.map_or_else(String::new, |joined| format!(", since {joined}"));
            writeln!(out, "  node {name}: {}{state}{weight}{since}", join(addresses))?;
        }
    }
    for PoolService { namespace, name, addresses, ports } in &edge.services {
        let ports = ports.iter().map(|(port, listener)| format!("port {port} as {}", listener.0));
        let all: Vec<String> = addresses.iter().map(ToString::to_string).chain(ports).collect();
        writeln!(out, "service {namespace}/{name}: {}", all.join(", "))?;
    }
    if let Some(ClusterKey { previous, .. }) = &edge.cluster_key {
        let before = previous.map_or("", |_| ", and the one before");
        writeln!(out, "key of the nodes: [redacted]{before}")?;
    }
    Ok(())
}
