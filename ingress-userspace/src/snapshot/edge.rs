//! The lists and limits of EdgePolicies, for connections that no kernel program has judged: all of them in `userspace`
//! mode, and those that never cross the NIC in the other modes. The decision itself is the kernel's, `decide`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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
    pub fn refuses(&self, peer: SocketAddr, local: SocketAddr, enforce: Enforce) -> Option<Reason> {
        if self.policies.is_empty() {
            return None;
        }
        let source = peer.ip().to_canonical();
        let destination = local.ip().to_canonical();
        let mut vip = VipVal::default();
        let mut listed = Listed { all: AclVal::ALLOW, scope: AclVal::ALLOW };
        let covering = || self.policies.iter().filter(|policy| policy.covers(destination));
        for policy in covering() {
            let (flags, only) = match policy.ranges {
                None => (&mut listed.all, VipVal::ALLOW_ONLY_ALL),
                Some(_) => (&mut listed.scope, VipVal::ALLOW_ONLY_SCOPE),
            };
            if policy.deny.contains(source) {
                *flags |= AclVal::DENY;
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
        }
        let flow = Flow {
            source: addr_of(source),
            destination: addr_of(destination),
            payload: Payload::TcpOpen(local.port()),
        };
        let client = limited_source(&flow.source);
        let verdict = decide(&flow, Target::Served(&vip), listed, |_, _| {
            covering().all(|policy| policy.admits(&self.buckets, client, flow.destination))
        });
        (verdict.action() == Action::Drop).then_some(verdict.reason)
    }
}

impl EdgeRules {
    fn covers(&self, destination: IpAddr) -> bool {
        self.ranges.as_ref().is_none_or(|ranges| {
            ranges.iter().any(|range| range.first <= destination && destination <= range.last)
        })
    }

    fn admits(&self, buckets: &Buckets, client: Addr, address: Addr) -> bool {
        let now = now();
        self.limits.iter().all(|limit| {
            let whose = if limit.per == Limit::ADDRESS { address } else { client };
            buckets.admit(&(&*self.name, limit.per, limit.bucket), whose, limit, now)
        })
    }
}
