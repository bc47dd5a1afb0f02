//! What EdgePolicies and AddressPools ask for that cannot be had without the kernel half, in sentences.
//!
//! Lists and limits of connections hold at accept in every mode; packets are seen only by the programs.

use crate::model::edge::{AddressRange, Announce, Counted, Edge, EdgePolicy, Pool};

/// Something that does not hold on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The EdgePolicy that is not enforced as a whole; `None`: something else.
    pub policy: Option<String>,
    /// What does not hold, and what to do.
    pub sentence: String,
}

/// All that the programs would do and the proxy cannot.
pub fn without_kernel(edge: &Edge) -> Vec<Unmet> {
    let policies = edge.policies.iter().filter_map(of_policy);
    policies.chain(edge.pools.iter().filter_map(of_pool)).collect()
}

fn of_policy(policy: &EdgePolicy) -> Option<Unmet> {
    let mut units: Vec<&str> = policy
        .limits
        .iter()
        .filter(|limit| limit.of != Counted::Connections)
        .map(|limit| limit.of.unit())
        .collect();
    units.sort_unstable();
    units.dedup();
    if units.is_empty() {
        return None;
    }
    let sentence = format!(
        "EdgePolicy {}: its limits of {} are not enforced in userspace mode, which sees connections and no packets; give the \
         node a kernel mode, or limit connectionsPerSecond",
        policy.name,
        units.join(" and ")
    );
    Some(Unmet { policy: Some(policy.name.clone()), sentence })
}

/// One node alone answers for its addresses in any case; IPv6 needs the programs even then.
fn of_pool(pool: &Pool) -> Option<Unmet> {
    if pool.announce != Announce::L2 {
        return None;
    }
    let has = |is_ipv4: bool| pool.blocks.iter().any(|block: &AddressRange| block.first.is_ipv4() == is_ipv4);
    let mut parts = Vec::new();
    if has(true) && pool.nodes.len() > 1 {
        parts.push("every node answers ARP for its addresses, so clients go now to one and now to another");
    }
    if has(false) {
        parts.push("nobody answers neighbour solicitations for its IPv6 addresses");
    }
    if parts.is_empty() {
        return None;
    }
    let sentence = format!(
        "AddressPool {}: announce: L2 needs the programs, and without them {}; give the node a kernel mode, or announce \
         the pool by a router (announce: None)",
        pool.name,
        parts.join(", and ")
    );
    Some(Unmet { policy: None, sentence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::{EdgeLimit, EdgeScope, Per, PoolNode};

    fn policy(name: &str, limits: &[Counted]) -> EdgePolicy {
        let limit = |of: &Counted| EdgeLimit { of: *of, per: Per::Source, per_second: 1, burst: 1 };
        EdgePolicy {
            name: name.to_owned(),
            scope: EdgeScope::Cluster,
            allow: vec![],
            deny: vec![],
            exempt: vec![],
            limits: limits.iter().map(limit).collect(),
            syn_protection: None,
            ban: None,
        }
    }

    fn pool(first: &str, nodes: usize) -> Pool {
        let ip = first.parse().unwrap();
        let node = |number| PoolNode {
            name: format!("node-{number}"),
            addresses: vec![],
            state: Default::default(),
            weight: 100,
            joined: None,
        };
        let nodes = (0..nodes).map(node).collect();
        Pool { nodes, ..Pool::new("edge", vec![AddressRange { first: ip, last: ip }]) }
    }

    #[test]
    fn limits_of_packets_and_bytes_need_the_programs() {
        use Counted::{Bytes, Connections, Packets};
        let edge = Edge {
            policies: vec![
                policy("lists", &[]),
                policy("connections", &[Connections]),
                policy("all", &[Packets, Connections, Bytes, Packets]),
            ],
            ..Edge::default()
        };
        let found = without_kernel(&edge);
        let [unmet] = &found[..] else { panic!("{found:?}") };
        assert_eq!(unmet.policy.as_deref(), Some("all"));
        assert!(unmet.sentence.contains("limits of bytes/s and packets/s are not"), "{}", unmet.sentence);
    }

    #[test]
    fn announcing_needs_them_where_several_nodes_would_answer_or_none() {
        for (pool, expected) in [
            (pool("198.18.100.1", 1), None),
            (pool("198.18.100.1", 2), Some("every node answers ARP")),
            (pool("2001:db8::1", 1), Some("nobody answers neighbour")),
            (Pool { announce: Announce::None, ..pool("198.18.100.1", 2) }, None),
        ] {
            let found = without_kernel(&Edge { pools: vec![pool.clone()], ..Edge::default() });
            assert_eq!(found.len(), usize::from(expected.is_some()), "{pool:?}");
            assert!(found.iter().all(|unmet| unmet.sentence.contains(expected.unwrap_or_default())));
        }
    }
}
