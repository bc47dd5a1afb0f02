//! Lists of several policies → one trie per family.
//!
//! The trie answers with the longest prefix alone, so each entry holds what all prefixes that cover it say together:
//! deny and exempt unite, allow intersects over the policies that have an allow list.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ingress_common::maps::{AclVal, LISTED, VipVal};
use ingress_common::source::{Acl4Key, Acl6Key, SCOPE_ALL, SCOPE_BITS};
use ipnet::IpNet;

use super::{PolicySet, is_v4};
use crate::model::edge::EdgePolicy;

type Acl4 = BTreeMap<(u32, Acl4Key), AclVal>;
type Acl6 = BTreeMap<(u32, Acl6Key), AclVal>;

/// What the policies say about one prefix.
#[derive(Clone, Default)]
struct Marks {
    /// It, or a prefix that covers it, is denied: the length of the longest that is.
    deny: Option<u8>,
    exempt: bool,
    /// Policies whose allow list has it.
    allow: BTreeSet<usize>,
}

/// A scope: which families have entries, and whether it is allow-only.
#[derive(Default)]
struct Scope {
    has_v4: bool,
    has_v6: bool,
    is_allow_only: bool,
}

/// The lists of every scope.
#[derive(Default)]
pub(super) struct Lists {
    acl4: Acl4,
    acl6: Acl6,
    scopes: BTreeMap<u32, Scope>,
}

impl Lists {
    /// Of the policies for all addresses, and of those of each scope.
    pub(super) fn of(policies: &[EdgePolicy], for_all: &[usize], scopes: &BTreeMap<PolicySet, u32>) -> Self {
        let mut lists = Self::default();
        lists.add(SCOPE_ALL, policies, for_all);
        for (set, scope) in scopes {
            lists.add(*scope, policies, set);
        }
        lists
    }

    /// Adds the lists of these policies under a scope.
    fn add(&mut self, scope: u32, policies: &[EdgePolicy], set: &[usize]) {
        let mut marks: BTreeMap<Prefix, Marks> = BTreeMap::new();
        let mut allowing = BTreeSet::new();
        for (at, policy) in set.iter().filter_map(|at| Some((*at, policies.get(*at)?))) {
            for net in &policy.deny {
                marks.entry(Prefix::of(*net)).or_default().deny = Some(net.prefix_len());
            }
            for net in &policy.exempt {
                marks.entry(Prefix::of(*net)).or_default().exempt = true;
            }
            for net in &policy.allow {
                marks.entry(Prefix::of(*net)).or_default().allow.insert(at);
                allowing.insert(at);
            }
        }
        let about = self.scopes.entry(scope).or_default();
        about.is_allow_only = !allowing.is_empty();
        for (prefix, marks) in flattened(marks) {
            let mut flags = 0;
            flags |= if marks.deny.is_some() { AclVal::DENY } else { 0 };
            flags |= if marks.exempt { AclVal::EXEMPT } else { 0 };
            flags |= if !allowing.is_empty() && marks.allow == allowing { AclVal::ALLOW } else { 0 };
            let value = AclVal { flags: flags as u16, deny_len: marks.deny.map_or(0, u16::from) };
            let scope = scope.to_be_bytes();
            let len = SCOPE_BITS + u32::from(prefix.len);
            match prefix.network {
                IpAddr::V4(v4) => {
                    about.has_v4 = true;
                    self.acl4.insert((len, Acl4Key { scope, addr: v4.octets() }), value);
                }
                IpAddr::V6(v6) => {
                    about.has_v6 = true;
                    self.acl6.insert((len, Acl6Key { scope, addr: v6.octets() }), value);
                }
            }
        }
    }

    /// The list flags of a served address: sources are of its own family.
    pub(super) fn flags(&self, ip: IpAddr, scope: u32) -> u32 {
        let mut flags = 0;
        if let Some(all) = self.scopes.get(&SCOPE_ALL) {
            flags |= if all.has(ip) { VipVal::LISTS_ALL } else { 0 };
            flags |= if all.is_allow_only { VipVal::ALLOW_ONLY_ALL } else { 0 };
        }
        if let Some(own) = self.scopes.get(&scope).filter(|_| scope != SCOPE_ALL) {
            flags |= if own.has(ip) { VipVal::LISTS_SCOPE } else { 0 };
            flags |= if own.is_allow_only { VipVal::ALLOW_ONLY_SCOPE } else { 0 };
        }
        flags
    }

    /// Whether the tries have room for them.
    pub(super) fn fit(&self) -> bool {
        self.acl4.len().max(self.acl6.len()) <= LISTED as usize
    }

    /// What the tries shall hold.
    pub(super) fn finish(self) -> (Acl4, Acl6) {
        (self.acl4, self.acl6)
    }
}

impl Scope {
    fn has(&self, ip: IpAddr) -> bool {
        if is_v4(ip) { self.has_v4 } else { self.has_v6 }
    }
}

/// A prefix without host bits. Ordered so that each stands right after the prefixes that cover it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    network: IpAddr,
    len: u8,
}

impl Prefix {
    fn of(net: IpNet) -> Self {
        Self { network: net.network(), len: net.prefix_len() }
    }

    fn covers(&self, other: &Self) -> bool {
        IpNet::new(self.network, self.len)
            .is_ok_and(|net| self.len <= other.len && net.contains(&other.network))
    }
}

/// Each prefix with the marks of all that cover it: one walk, with the chain of covering prefixes on a stack.
fn flattened(marks: BTreeMap<Prefix, Marks>) -> Vec<(Prefix, Marks)> {
    let mut chain: Vec<(Prefix, Marks)> = Vec::new();
    let mut all = Vec::with_capacity(marks.len());
    for (prefix, mut own) in marks {
        while chain.last().is_some_and(|(above, _)| !above.covers(&prefix)) {
            chain.pop();
        }
        if let Some((_, above)) = chain.last() {
            own.deny = own.deny.or(above.deny);
            own.exempt |= above.exempt;
            own.allow.extend(&above.allow);
        }
        chain.push((prefix, own.clone()));
        all.push((prefix, own));
    }
    all
}
