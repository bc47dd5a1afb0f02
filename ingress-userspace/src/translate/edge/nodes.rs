//! The nodes that serve pools: those of the controller's list in a cluster, the Nodes themselves in a folder.

use std::net::IpAddr;

use super::super::{Build, Settings};
use crate::k8s::cluster::{ObjectKey, Origin};
use crate::k8s::members::{self, Member, Members, State};
use crate::k8s::reflect::sources::Access;
use crate::model::edge::{NodeState, PoolNode};

/// The nodes, by name.
pub(super) struct Nodes(Members);

impl Nodes {
    /// Those of a pool, ordered by name.
    pub(super) fn of_pool(&self, pool: &str) -> Vec<PoolNode> {
        let node = |(name, member): (&String, &Member)| {
            let joined = *member.pools.get(pool)?;
            Some(PoolNode {
                name: name.clone(),
                addresses: member.addresses.clone(),
                state: match member.state {
                    State::Active => NodeState::Active,
                    State::Draining => NodeState::Draining,
                },
                weight: member.weight,
                joined,
            })
        };
        self.0.iter().filter_map(node).collect()
    }

    /// Whether any is known. While none is, each node serves every pool by itself.
    pub(super) fn are_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Every address of a node, with the node.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, &str)> + '_ {
        self.0
            .iter()
            .flat_map(|(name, member)| member.addresses.iter().map(move |address| (*address, name.as_str())))
    }
}

/// The nodes of this world; none where there is no list.
pub(super) fn nodes(build: &mut Build<'_>) -> Nodes {
    if build.cluster.origin == Origin::Folder {
        let mut nodes = Members::new();
        for (key, node) in build.cluster.nodes {
            let pools = members::pools_of(node, build.cluster.address_pools);
            let (member, problems) = members::member(node, pools);
            nodes.extend(member.map(|member| (key.name.clone(), member)));
            build.problems.extend(problems);
        }
        return Nodes(nodes);
    }
    let list = list_key(build.settings).and_then(|key| build.cluster.config_maps.get(&key));
    let Some(list) = list else { return Nodes(Members::new()) };
    let (nodes, problems) = members::read(list);
    build.problems.extend(problems);
    Nodes(nodes)
}

/// The controller's list of nodes, which lies beside the copies.
fn list_key(settings: &Settings) -> Option<ObjectKey> {
    copies(settings).map(members::list_key)
}

/// The namespace of the copies, which holds what the controller makes for agents.
pub(super) fn copies(settings: &Settings) -> Option<&str> {
    match &settings.access {
        Access::Copying(namespace) | Access::Copies(namespace) | Access::WithoutSecrets(Some(namespace)) => {
            Some(namespace)
        }
        Access::Originals | Access::WithoutSecrets(None) => None,
    }
}
