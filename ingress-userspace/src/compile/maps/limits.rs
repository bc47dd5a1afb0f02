//! Limits of policies → rows of `limits`, a range of them per set of policies.
//!
//! A range that stands in the previous contents stays where it is; a new one goes where neither the old nor the new
//! contents have rows, so that an address never counts by a half-written limit.

use std::collections::{BTreeMap, BTreeSet};

use ingress_common::maps::{LIMITS, LIMITS_PER_VIP, Limit, VipVal};

use super::{MapContents, PolicySet, bans, free_id};
use crate::compile::edge::limit as compiled;
use crate::model::edge::{BanRule, Counted, EdgePolicy, Per};

/// First row and number of rows.
type Range = (u16, u16);

/// The rows of every range.
pub(super) struct Rows {
    previous: BTreeMap<Vec<Limit>, Range>,
    /// Rows that old or new contents use.
    taken: BTreeSet<u32>,
    ranges: BTreeMap<PolicySet, Range>,
    rows: BTreeMap<u32, Limit>,
    buckets: BTreeMap<(usize, usize), u32>,
    bucket_ids: BTreeSet<u32>,
}

impl Rows {
    pub(super) fn new(contents: &MapContents) -> Self {
        let mut previous = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for value in contents.vips.values().filter(|value| value.limits > 0) {
            let first = u32::from(value.first_limit);
            let span = first..first + u32::from(value.limits);
            taken.extend(span.clone());
            if let Some(rows) = span.map(|row| contents.limits.get(&row).copied()).collect::<Option<Vec<_>>>()
            {
                previous.insert(rows, (value.first_limit, value.limits));
            }
        }
        Self {
            previous,
            taken,
            ranges: BTreeMap::new(),
            rows: BTreeMap::new(),
            buckets: BTreeMap::new(),
            bucket_ids: BTreeSet::new(),
        }
    }

    /// The range of an address under these policies.
    pub(super) fn range(
        &mut self,
        policies: &[EdgePolicy],
        for_all: &[usize],
        set: &[usize],
        refused: &mut Vec<String>,
    ) -> Range {
        let together: PolicySet = for_all.iter().chain(set).copied().collect();
        if let Some(range) = self.ranges.get(&together) {
            return *range;
        }
        let mut limits = self.limits(policies, &together);
        if limits.len() > usize::from(LIMITS_PER_VIP) {
            refused.push(format!(
                "EdgePolicies {}: {} limits meet on one address, the last {} are not enforced; at most {LIMITS_PER_VIP} can",
                names(policies, &together),
                limits.len(),
                limits.len() - usize::from(LIMITS_PER_VIP),
            ));
            limits.truncate(usize::from(LIMITS_PER_VIP));
        }
        let range = self.place(&limits).unwrap_or_else(|| {
            refused.push(format!(
                "EdgePolicies {}: their limits are not enforced: all limits together may take {LIMITS} rows",
                names(policies, &together)
            ));
            (0, 0)
        });
        self.ranges.insert(together, range);
        range
    }

    /// The limit flags of an address with these rows.
    pub(super) fn flags(&self, first: u16, count: u16) -> u32 {
        let rows = u32::from(first)..u32::from(first) + u32::from(count);
        self.rows.range(rows).fold(0, |flags, (_, limit)| {
            flags | if limit.kind == Limit::CONNECTIONS { VipVal::LIMIT } else { VipVal::LIMIT_PACKETS }
        })
    }

    /// What `limits` shall hold.
    pub(super) fn finish(self) -> BTreeMap<u32, Limit> {
        self.rows
    }

    fn limits(&mut self, policies: &[EdgePolicy], set: &[usize]) -> Vec<Limit> {
        let mut limits = Vec::new();
        let numbers = bans::ids(policies);
        for (at, policy) in set.iter().filter_map(|at| Some((*at, policies.get(*at)?))) {
            let mut seen: BTreeMap<(Counted, Per), u8> = BTreeMap::new();
            for (nth, limit) in policy.limits.iter().enumerate() {
                // Named without the rate, so that a changed one finds what has been used.
                let alike = seen.entry((limit.of, limit.per)).or_default();
                let ids = &mut self.bucket_ids;
                let bucket = *self.buckets.entry((at, nth)).or_insert_with(|| {
                    let kind = [limit.of as u8, limit.per as u8, *alike];
                    free_id([policy.name.as_bytes(), &kind].into_iter(), ids)
                });
                *alike = alike.saturating_add(1);
                let number = numbers.get(at).copied().unwrap_or_default();
                limits.push(banning(compiled(limit, bucket), policy.ban, number));
            }
        }
        limits
    }

    fn place(&mut self, limits: &[Limit]) -> Option<Range> {
        let count = u16::try_from(limits.len()).ok()?;
        if count == 0 {
            return Some((0, 0));
        }
        let (first, count) = match self.previous.get(limits) {
            Some(range) => *range,
            None => (self.free_span(count)?, count),
        };
        for (row, limit) in (u32::from(first)..).zip(limits) {
            self.taken.insert(row);
            self.rows.insert(row, *limit);
        }
        Some((first, count))
    }

    fn free_span(&self, count: u16) -> Option<u16> {
        let first = (0..=LIMITS.checked_sub(u32::from(count))?)
            .find(|first| (*first..first + u32::from(count)).all(|row| !self.taken.contains(&row)))?;
        u16::try_from(first).ok()
    }
}

/// A limit per source of a policy with this number, which bans.
fn banning(limit: Limit, rule: Option<BanRule>, policy: u32) -> Limit {
    match rule {
        Some(rule) if limit.per == Limit::SOURCE => {
            let ban_within_ns = u64::try_from(rule.within.as_nanos()).unwrap_or(u64::MAX);
            Limit { ban_after: rule.after, ban_within_ns, policy, ..limit }
        }
        _ => limit,
    }
}

fn names(policies: &[EdgePolicy], set: &[usize]) -> String {
    let names: Vec<&str> =
        set.iter().filter_map(|at| policies.get(*at)).map(|policy| policy.name.as_str()).collect();
    names.join(", ")
}
