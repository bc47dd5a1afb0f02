//! Limits of policies → rows of `limits`, a range of them per set of policies.
//!
//! A range that stands in the previous contents stays where it is; a new one goes where neither the old nor the new
//! contents have rows, so that an address never counts by a half-written limit.

use std::collections::{BTreeMap, BTreeSet};

use ingress_common::maps::{LIMITS, LIMITS_PER_VIP, Limit, VipVal};

use super::{MapContents, PolicySet, bans, free_id, of_policy};
use crate::compile::edge::limit as compiled;
use crate::compile::unmet::Unmet;
use crate::model::edge::{BanRule, Counted, EdgePolicy, Per};

/// First row and number of rows.
type Range = (u16, u16);

/// The rows of every range.
pub(super) struct Rows<'a> {
    contents: &'a MapContents,
    previous: BTreeMap<Vec<Limit>, Range>,
    /// Rows that old or new contents use.
    taken: BTreeSet<u32>,
    /// `None`: there is no room for it.
    ranges: BTreeMap<PolicySet, Option<Range>>,
    rows: BTreeMap<u32, Limit>,
    buckets: BTreeMap<(usize, usize), u32>,
    bucket_ids: BTreeSet<u32>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(contents: &'a MapContents) -> Self {
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
            contents,
            previous,
            taken,
            ranges: BTreeMap::new(),
            rows: BTreeMap::new(),
            buckets: BTreeMap::new(),
            bucket_ids: BTreeSet::new(),
        }
    }

    /// The range of an address under these policies; `before` is the one that it has. An address for whose limits there is no
    /// room keeps those that it has.
    pub(super) fn range(
        &mut self,
        policies: &[EdgePolicy],
        (for_all, set): (&[usize], &[usize]),
        before: Option<Range>,
        refused: &mut Vec<Unmet>,
    ) -> Range {
        let together: PolicySet = for_all.iter().chain(set).copied().collect();
        let known = self.ranges.get(&together).copied();
        let range = known.unwrap_or_else(|| {
            let range = self.new_range(policies, &together, refused);
            self.ranges.insert(together, range);
            range
        });
        range.or_else(|| self.keep(before?)).unwrap_or_default()
    }

    fn new_range(
        &mut self,
        policies: &[EdgePolicy],
        together: &[usize],
        refused: &mut Vec<Unmet>,
    ) -> Option<Range> {
        let mut limits = self.limits(policies, together);
        let limited = || together.iter().filter_map(|at| policies.get(*at)).filter(|p| !p.limits.is_empty());
        let most = usize::from(LIMITS_PER_VIP);
        if limits.len() > most {
            let count = limits.len();
            let mut before = 0;
            for policy in limited() {
                before += policy.limits.len();
                let beyond = before.saturating_sub(most).min(policy.limits.len());
                if beyond > 0 {
                    refused.push(of_policy(
                        policy,
                        &format!(
                            "the last {beyond} of its spec.limits are not enforced where it meets others: {count} limits meet \
                             on one address, and at most {most} can; remove some"
                        ),
                    ));
                }
            }
            limits.truncate(most);
        }
        let range = self.place(&limits);
        if range.is_none() {
            let told = |policy| {
                let sentence = format!(
                    "its spec.limits are not enforced, and addresses that had limits keep those: all limits together may take \
                     {LIMITS} rows, one for each limit and set of policies that meet; let more addresses share their policies, \
                     or remove limits"
                );
                of_policy(policy, &sentence)
            };
            refused.extend(limited().map(told));
        }
        range
    }

    /// The rows of a range as they are.
    fn keep(&mut self, (first, count): Range) -> Option<Range> {
        for row in u32::from(first)..u32::from(first) + u32::from(count) {
            self.rows.insert(row, *self.contents.limits.get(&row)?);
        }
        Some((first, count))
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
