//! EdgePolicies → the accept-time table. What the kernel holds is compiled in `maps`, from the same model.

use std::sync::Arc;
use std::time::Duration;

use ingress_common::bucket::{bytes, units};
use ingress_common::maps::Limit;

use crate::model::edge::{AddressRange, BanRule, Counted, Edge, EdgeLimit, EdgePolicy, EdgeScope, Per};
use crate::snapshot::edge::{AcceptBan, EdgeRules, EdgeTable};
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
            EdgeScope::Targets { pools, addresses } => {
                let blocks = edge.pools.iter().filter(|pool| pools.contains(&pool.name));
                let blocks = blocks.flat_map(|pool| pool.blocks.iter().copied());
                let single = addresses.iter().map(|ip| AddressRange { first: *ip, last: *ip });
                Some(blocks.chain(single).collect())
            }
        },
        allow: Networks::new(&policy.allow),
        deny: Networks::new(&policy.deny),
        exempt: Networks::new(&policy.exempt),
        limits: at_accept(policy),
        ban: policy.ban.map(ban),
    });
    EdgeTable {
        policies: policies.collect(),
        buckets: Arc::clone(&before.buckets),
        bans: Arc::clone(&before.bans),
    }
}

/// The limits that can be charged at accept: packets of a connection are not seen there. Named without their rate, so that a
/// changed one finds what has been used.
fn at_accept(policy: &EdgePolicy) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for entry in policy.limits.iter().filter(|entry| entry.of == Counted::Connections) {
        let alike = limits.iter().filter(|other| other.per == per(entry.per)).count();
        limits.push(limit(entry, u32::try_from(alike).unwrap_or(u32::MAX)));
    }
    limits
}

/// A ban at accept: refused connections count together while their bucket is not empty.
fn ban(rule: BanRule) -> AcceptBan {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let rate_ns = (ns(rule.within) / u64::from(rule.after.max(1))).max(1);
    let strikes = rule.after.checked_sub(2).map(|further| Limit {
        kind: Limit::CONNECTIONS,
        rate_ns,
        burst_ns: rate_ns.saturating_mul(further.into()),
        ..Limit::default()
    });
    AcceptBan { strikes, lasts_ns: ns(rule.lasts), most: rule.most as usize }
}

/// A limit as the decision reads it.
pub(in crate::compile) fn limit(limit: &EdgeLimit, bucket: u32) -> Limit {
    let (kind, rate) = match limit.of {
        Counted::Connections => (Limit::CONNECTIONS, units(limit.per_second, limit.burst)),
        Counted::Packets => (Limit::PACKETS, units(limit.per_second, limit.burst)),
        Counted::Bytes => (Limit::BYTES, bytes(limit.per_second, limit.burst)),
    };
    Limit { kind, per: per(limit.per), bucket, ..rate }
}

fn per(per: Per) -> u32 {
    match per {
        Per::Source => Limit::SOURCE,
        Per::Address => Limit::ADDRESS,
    }
}
