//! Whose an entry of a deny list is: the kernel knows scopes and prefixes, no policies.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::Model;

/// The policies behind each scope of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOwners {
    /// What was compiled.
    pub model: Arc<Model>,
    /// Positions of policies in the model, by scope.
    pub scopes: BTreeMap<u32, Vec<usize>>,
}

impl ListOwners {
    /// The policy that denies each of these entries; where several do, the first. Those of no policy are left out.
    pub fn of(&self, entries: impl IntoIterator<Item = (u32, IpNet)>) -> BTreeMap<(u32, IpNet), &str> {
        let wanted: HashSet<(u32, IpNet)> = entries.into_iter().collect();
        let mut owners = BTreeMap::new();
        if wanted.is_empty() {
            return owners;
        }
        for (scope, policies) in &self.scopes {
            for policy in policies.iter().filter_map(|at| self.model.edge.policies.get(*at)) {
                // Lists are long and hits few: one walk over the lists.
                for entry in policy.deny.iter().map(|net| (*scope, net.trunc())) {
                    if wanted.contains(&entry) {
                        owners.entry(entry).or_insert(policy.name.as_str());
                    }
                }
            }
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::{Edge, EdgePolicy, EdgeScope};

    fn policy(name: &str, deny: &[&str]) -> EdgePolicy {
        EdgePolicy {
            name: name.to_owned(),
            scope: EdgeScope::Cluster,
            allow: vec![],
            deny: deny.iter().map(|net| net.parse().unwrap()).collect(),
            exempt: vec![],
            limits: vec![],
            syn_protection: None,
            ban: None,
        }
    }

    #[test]
    fn the_first_policy_of_the_scope_that_has_the_prefix_is_named() {
        let policies = vec![policy("one", &["203.0.113.9/24"]), policy("two", &["203.0.113.0/24", "::/0"])];
        let model = Model { edge: Edge { policies, ..Edge::default() }, ..Model::default() };
        let scopes = BTreeMap::from([(0, vec![0]), (7, vec![0, 1]), (8, vec![1])]);
        let owners = ListOwners { model: Arc::new(model), scopes };
        let entry = |scope, net: &str| (scope, net.parse::<IpNet>().unwrap());
        let asked =
            ["203.0.113.0/24", "::/0"].into_iter().flat_map(|net| [0, 7, 8].map(|scope| entry(scope, net)));
        let expected = BTreeMap::from([
            (entry(0, "203.0.113.0/24"), "one"),
            (entry(7, "203.0.113.0/24"), "one"),
            (entry(7, "::/0"), "two"),
            (entry(8, "203.0.113.0/24"), "two"),
            (entry(8, "::/0"), "two"),
        ]);
        assert_eq!(owners.of(asked), expected);
    }
}
