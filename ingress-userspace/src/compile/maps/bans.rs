//! Which policies ban, by the numbers that the kernel knows them by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ingress_common::maps::VipVal;
use ipnet::IpNet;

use super::free_id;
use crate::model::edge::{BanRule, EdgePolicy, EdgeScope};

/// A policy that bans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanTerms<'a> {
    /// Name of the policy.
    pub name: &'a str,
    /// When, and for how long.
    pub rule: BanRule,
    /// Sources that it may not ban.
    exempt: Vec<&'a [IpNet]>,
}

impl BanTerms<'_> {
    /// Whether a source, or all of the /64 that it stands for, is exempt.
    pub fn exempts(&self, source: IpAddr) -> bool {
        let source = match source {
            IpAddr::V4(_) => IpNet::from(source),
            IpAddr::V6(_) => IpNet::new(source, 64).unwrap_or_else(|_| IpNet::from(source)),
        };
        self.exempt.iter().copied().flatten().any(|net| net.contains(&source))
    }
}

/// The policies that ban, by number.
pub fn terms(policies: &[EdgePolicy]) -> BTreeMap<u32, BanTerms<'_>> {
    let everywhere = policies.iter().filter(|policy| policy.scope == EdgeScope::Cluster);
    let everywhere: Vec<&[IpNet]> = everywhere.map(|policy| policy.exempt.as_slice()).collect();
    let banning = ids(policies).into_iter().zip(policies).filter_map(|(id, policy)| {
        let exempt = std::iter::once(policy.exempt.as_slice()).chain(everywhere.iter().copied()).collect();
        Some((id, BanTerms { name: &policy.name, rule: policy.ban?, exempt }))
    });
    banning.collect()
}

/// The number of each policy, made from its name; 0 is none's.
pub(super) fn ids(policies: &[EdgePolicy]) -> Vec<u32> {
    let mut taken = BTreeSet::from([0]);
    policies.iter().map(|policy| free_id(std::iter::once(policy.name.as_bytes()), &mut taken)).collect()
}

/// The flag of an address under these policies.
pub(super) fn flags<'a>(mut policies: impl Iterator<Item = &'a EdgePolicy>) -> u32 {
    if policies.any(|policy| policy.ban.is_some()) { VipVal::BANS } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(name: &str, scope: EdgeScope, exempt: &[&str]) -> EdgePolicy {
        let second = Duration::from_secs(1);
        EdgePolicy {
            name: name.to_owned(),
            scope,
            allow: vec![],
            deny: vec![],
            exempt: exempt.iter().map(|text| text.parse().unwrap()).collect(),
            limits: vec![],
            syn_protection: None,
            ban: Some(BanRule { after: 1, within: second, lasts: second, most: 1 }),
        }
    }

    #[test]
    fn a_policy_bans_no_source_that_is_exempt_from_it() {
        let other = EdgeScope::Pools(vec!["other".to_owned()]);
        let policies = [
            policy("all", EdgeScope::Cluster, &["198.18.1.0/24", "2001:db8:1::/48", "2001:db8:2::1/128"]),
            policy("other", other, &["198.18.2.0/24"]),
        ];
        let terms: Vec<BanTerms<'_>> = terms(&policies).into_values().collect();
        let exempts = |name: &str, source: &str| {
            let terms = terms.iter().find(|terms| terms.name == name).unwrap();
            terms.exempts(source.parse().unwrap())
        };
        assert!(
            exempts("all", "198.18.1.7") && exempts("other", "198.18.1.7") && exempts("other", "198.18.2.7")
        );
        assert!(!exempts("all", "198.18.2.7"), "exempt elsewhere only");
        assert!(exempts("all", "2001:db8:1:2::"));
        assert!(
            !exempts("all", "2001:db8:2::"),
            "of a /64 one address is exempt, which the program lets pass"
        );
    }
}
