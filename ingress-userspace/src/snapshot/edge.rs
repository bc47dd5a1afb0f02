//! The lists and limits of EdgePolicies, for connections that no kernel program has judged: all of them in `userspace`
//! mode, and those that never cross the NIC in the other modes. The decision itself is the kernel's, `decide`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingress_common::decide::{Listed, Target, decide};
use ingress_common::flow::{Addr, Flow, Payload, addr_of};
use ingress_common::maps::{AclVal, Limit, VipVal};
use ingress_common::source::limited_source;
use ingress_common::verdict::{Action, Reason};

use super::buckets::{Buckets, now};
use super::networks::Networks;
use crate::model::edge::AddressRange;

/// All policies, compiled.
#[derive(Debug, Default)]
pub struct EdgeTable {
    /// In the model's order.
    pub policies: Vec<EdgeRules>,
    /// State of the limits, kept across tables.
    pub buckets: Arc<Buckets>,
    /// Who is banned, likewise.
    pub bans: Arc<Bans>,
}

/// One policy.
#[derive(Debug)]
pub struct EdgeRules {
    /// Names its buckets.
    pub name: Box<str>,
    /// `None`: every address.
    pub ranges: Option<Vec<AddressRange>>,
    /// Empty: no allow list.
    pub allow: Networks,
    /// Refused.
    pub deny: Networks,
    /// Not limited.
    pub exempt: Networks,
    /// Of connections, each with buckets of its own.
    pub limits: Vec<Limit>,
    /// Who breaks the limits per source too often is banned; `None`: nobody.
    pub ban: Option<AcceptBan>,
}

/// When the limits that are enforced at accept lead to a ban.
#[derive(Clone, Copy, Debug)]
pub struct AcceptBan {
    /// Has room for the refused connections that do not lead to a ban yet; `None`: the first one does.
    pub strikes: Option<Limit>,
    /// How long a ban lasts.
    pub lasts_ns: u64,
    /// Sources that are banned at a time.
    pub most: usize,
}

/// Who is banned at accept, for all policies that ban.
#[derive(Debug, Default)]
pub struct Bans {
    /// Until when, by source.
    sources: Buckets,
    /// Until when there is no room, so that nobody looks for it: an attack from many sources must not cost a search each.
    full_until: AtomicU64,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The verdict's.
    pub reason: Reason,
    /// The policy whose deny list has the source; of several one for all addresses, then the first.
    pub denied_by: Option<&'a str>,
}

/// Which part of the policies the caller enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforce {
    /// Lists only: the kernel charges the limits.
    Lists,
    /// Lists and limits.
    ListsAndLimits,
}

impl EdgeTable {
    /// Why a connection is refused; `None`: it is let in.
    pub fn refuses(&self, peer: SocketAddr, local: SocketAddr, enforce: Enforce) -> Option<Refusal<'_>> {
        if self.policies.is_empty() {
            return None;
        }
        let source = peer.ip().to_canonical();
        let destination = local.ip().to_canonical();
        let mut vip = VipVal::default();
        let mut listed = Listed { all: AclVal::ALLOW, scope: AclVal::ALLOW };
        let (mut denied_all, mut denied_scope) = (None, None);
        let covering = || self.policies.iter().filter(|policy| policy.covers(destination));
        for policy in covering() {
            let (flags, only, denied_by) = match policy.ranges {
                None => (&mut listed.all, VipVal::ALLOW_ONLY_ALL, &mut denied_all),
                Some(_) => (&mut listed.scope, VipVal::ALLOW_ONLY_SCOPE, &mut denied_scope),
            };
            if policy.deny.contains(source) {
                *flags |= AclVal::DENY;
                denied_by.get_or_insert(&*policy.name);
            }
            if policy.exempt.contains(source) {
                *flags |= AclVal::EXEMPT;
            }
            if !policy.allow.is_empty() {
                vip.flags |= only;
                if !policy.allow.contains(source) {
                    *flags &= !AclVal::ALLOW;
                }
            }
            if enforce == Enforce::ListsAndLimits && !policy.limits.is_empty() {
                vip.flags |= VipVal::LIMIT;
            }
            if policy.ban.is_some() {
                vip.flags |= VipVal::BANS;
            }
        }
        let flow = Flow {
            source: addr_of(source),
            destination: addr_of(destination),
            payload: Payload::TcpOpen(local.port()),
        };
        let client = limited_source(&flow.source);
        if vip.flags & VipVal::BANS != 0 && self.bans.hold(client, now()) {
            listed.all |= AclVal::BANNED;
        }
        let verdict = decide(&flow, Target::Served(&vip), listed, |_, _| {
            covering().all(|policy| policy.admits(self, client, flow.destination))
        });
        (verdict.action() == Action::Drop)
            .then_some(Refusal { reason: verdict.reason, denied_by: denied_all.or(denied_scope) })
    }
}

impl EdgeRules {
    fn covers(&self, destination: IpAddr) -> bool {
        self.ranges.as_ref().is_none_or(|ranges| {
            ranges.iter().any(|range| range.first <= destination && destination <= range.last)
        })
    }

    fn admits(&self, table: &EdgeTable, client: Addr, address: Addr) -> bool {
        let now = now();
        self.limits.iter().all(|limit| {
            let whose = if limit.per == Limit::ADDRESS { address } else { client };
            let has_room = table.buckets.admit(&(&*self.name, limit.per, limit.bucket), whose, limit, now);
            if !has_room && limit.per == Limit::SOURCE {
                self.strike(table, client, now);
            }
            has_room
        })
    }

    /// Takes note of a refused connection, and bans its source when it is one too many.
    fn strike(&self, table: &EdgeTable, client: Addr, now: u64) {
        let Some(AcceptBan { strikes, lasts_ns, most }) = self.ban else { return };
        let has_room =
            strikes.is_some_and(|limit| table.buckets.admit(&(&*self.name, "strikes"), client, &limit, now));
        if !has_room {
            table.bans.enter(client, lasts_ns, most, now);
        }
    }
}

impl Bans {
    /// In the buckets, which know of more than one name.
    const NAME: &str = "bans";
    /// How long nobody looks for room again.
    const FULL_NS: u64 = 1_000_000_000;

    fn hold(&self, client: Addr, now: u64) -> bool {
        self.sources.is_busy(Self::NAME, client, now)
    }

    /// Bans a source, unless there are `most` already.
    fn enter(&self, client: Addr, lasts_ns: u64, most: usize, now: u64) {
        if now < self.full_until.load(Ordering::Relaxed) {
            return;
        }
        if self.sources.busy(now) >= most {
            self.full_until.store(now.saturating_add(Self::FULL_NS), Ordering::Relaxed);
            return;
        }
        self.sources.fill(Self::NAME, client, now.saturating_add(lasts_ns), now);
    }
}
