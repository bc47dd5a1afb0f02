//! EdgePolicies → the accept-time table. What the kernel holds is compiled in `maps`, from the same model.

use std::sync::Arc;

use ingress_common::bucket::limit;

use crate::model::edge::{Edge, EdgeScope};
use crate::snapshot::edge::{EdgeRules, EdgeTable};
use crate::snapshot::networks::Networks;

/// The table; the state of limits is that of the table before.
pub fn compile(edge: &Edge, before: &EdgeTable) -> EdgeTable {
    let policies = edge.policies.iter().map(|policy| EdgeRules {
        name: policy.name.as_str().into(),
        ranges: match &policy.scope {
            EdgeScope::Cluster => None,
            EdgeScope::Pools(names) => Some(
                edge.pools
                    .iter()
                    .filter(|pool| names.contains(&pool.name))
                    .flat_map(|pool| pool.blocks.iter().copied())
                    .collect(),
            ),
        },
        allow: Networks::new(&policy.allow),
        deny: Networks::new(&policy.deny),
        exempt: Networks::new(&policy.exempt),
        limits: policy
            .limits
            .iter()
            .map(|entry| limit(0, entry.connections_per_second, entry.burst))
            .collect(),
    });
    EdgeTable { policies: policies.collect(), buckets: Arc::clone(&before.buckets) }
}
