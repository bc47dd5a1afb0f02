//! The model → what the kernel maps shall hold, as ordered maps of `ingress_common` types.
//!
//! Pure. Ids are stable: an address keeps its `vip_id`, a limit its bucket and its rows, as long as they are in the
//! previous contents, which after a restart are read back from the pinned maps. The slots of `listen` are not here:
//! they follow the proxies, not the model.
//! Write `acl4`, `acl6` and `limits` first, then `vips`, then `listen`; remove in the opposite order.

pub mod announce;
pub mod bans;
pub mod bits;
mod limits;
mod lists;
pub mod owners;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ingress_common::flow::{TCP, UDP, addr_of, v4_of};
use ingress_common::maps::{AclVal, Limit, VIP_IDS, VIPS, VipKey, VipVal};
use ingress_common::source::{Acl4Key, Acl6Key, SCOPE_ALL};

use crate::compile::unmet::Unmet;
use crate::model::Model;
use crate::model::edge::{AddressRange, EdgePolicy, EdgeScope, Pool, SynProtection};
use crate::model::listener::ListenerName;

/// Desired contents of the kernel maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapContents {
    /// `vips`.
    pub vips: BTreeMap<VipKey, VipVal>,
    /// `acl4`: (prefix length with the 32 bits of scope, data) → flags.
    pub acl4: BTreeMap<(u32, Acl4Key), AclVal>,
    /// `acl6`, likewise.
    pub acl6: BTreeMap<(u32, Acl6Key), AclVal>,
    /// `limits`; rows that are not named are free.
    pub limits: BTreeMap<u32, Limit>,
    /// `listen`, with the listener whose sockets accept instead of their slots.
    pub listen: BTreeMap<VipKey, ListenerName>,
}

/// The addresses of the node itself.
#[derive(Clone, Copy, Debug)]
pub struct NodeAddresses<'a> {
    /// Those whose ports are served. Leave them out until a proxy is ready, since SK_LOOKUP goes before every other listener.
    pub served: &'a [IpAddr],
    /// All of them: none is a VIP, whatever pool it lies in.
    pub all: &'a BTreeSet<IpAddr>,
}

/// Contents, and what did not fit into them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What the maps shall hold.
    pub contents: MapContents,
    /// All lists are in.
    pub has_all_lists: bool,
    /// Parts that are not enforced or not served, for log and status.
    pub refused: Vec<Unmet>,
    /// The policies behind each scope of the lists, by their position in the model.
    pub scopes: BTreeMap<u32, Vec<usize>>,
}

/// One served address.
struct Served {
    ip: IpAddr,
    pool: Option<String>,
    is_node: bool,
}

/// Policies that hold for an address, by their position in the model: those for all, and those for its pool.
type PolicySet = Vec<usize>;

/// Compiles the edge of the model. `node_addresses` are the node's own addresses that are served (ports only).
pub fn compile(model: &Model, node_addresses: &[IpAddr], previous: &MapContents) -> Compiled {
    let all = node_addresses.iter().copied().collect();
    compile_on(model, NodeAddresses { served: node_addresses, all: &all }, previous, &[])
}

/// The same where the node has addresses that are not served, and lists may be too long: `former` are the policies of when
/// all lists had room.
pub fn compile_on(
    model: &Model,
    node: NodeAddresses<'_>,
    previous: &MapContents,
    former: &[EdgePolicy],
) -> Compiled {
    let mut refused = Vec::new();
    let policies = &model.edge.policies;
    let for_all: PolicySet = positions(policies, |policy| matches!(policy.scope, EdgeScope::Cluster));
    let mut ids = Ids::new(previous);
    let served = served(model, node, &ids, &mut refused);

    // Addresses under the same policies of their pool share a scope.
    let mut sets: BTreeSet<PolicySet> = BTreeSet::new();
    for address in &served {
        sets.insert(set_of(address, policies));
    }
    let scopes = scopes(&sets, policies);
    let mut lists = lists::Lists::of(policies, &for_all, &scopes);
    let has_all_lists = lists.fit();
    if !has_all_lists {
        let number = |at: usize| {
            if for_all.contains(&at) { 1 } else { scopes.keys().filter(|set| set.contains(&at)).count() }
        };
        let fitting = room::fitting(policies, former, number, &mut refused);
        lists = lists::Lists::of(&fitting, &for_all, &scopes);
    }
    let mut rows = limits::Rows::new(previous);
    let mut vips = BTreeMap::new();
    let mut listen = BTreeMap::new();
    let mut left_out: BTreeMap<Option<&str>, (IpAddr, usize)> = BTreeMap::new();
    let ports = model.listeners.iter().fold(0, |ports, listener| ports | VipVal::port_bit(listener.port));
    for address in &served {
        let set = set_of(address, policies);
        let own = own_ports(model, address.ip);
        let ports = own.iter().fold(ports, |ports, (port, _)| ports | VipVal::port_bit(*port));
        let entries = 1 + model.listeners.len() + own.len();
        let addr = addr_of(address.ip);
        let had = previous.vips.get(&VipKey::address(addr)).map(|value| (value.first_limit, value.limits));
        let room = vips.len() + entries <= VIPS as usize;
        let Some(vip_id) = room.then(|| ids.of(address.ip)).flatten() else {
            left_out.entry(address.pool.as_deref()).or_insert((address.ip, 0)).1 += 1;
            continue;
        };
        let scope = scopes.get(&set).copied().unwrap_or(SCOPE_ALL);
        let (first_limit, limits) = rows.range(policies, (&for_all, &set), had, &mut refused);
        let cookies = match protection(policies, for_all.iter().chain(&set)) {
            SynProtection::Off => 0,
            SynProtection::Auto => VipVal::SYNCOOKIE,
            SynProtection::Always => VipVal::SYNCOOKIE | VipVal::SYNCOOKIE_ALWAYS,
        };
        let covering = for_all.iter().chain(&set).filter_map(|at| policies.get(*at));
        let flags = lists.flags(address.ip, scope)
            | rows.flags(first_limit, limits)
            | bans::flags(covering)
            | cookies;
        let ports_only = if address.is_node { VipVal::PORTS_ONLY } else { 0 };
        let value = VipVal { vip_id, flags, scope, first_limit, limits, ports, pool: 0, mss: 0 };
        vips.insert(VipKey::address(addr), VipVal { flags: flags | ports_only, ..value });
        for listener in &model.listeners {
            let proto = if listener.protocol.is_udp() { UDP } else { TCP };
            let key = VipKey::served(addr, listener.port, proto);
            vips.insert(key, value);
            listen.insert(key, listener.name.clone());
        }
        for (port, listener) in own {
            vips.insert(VipKey::served(addr, *port, TCP), value);
            listen.insert(VipKey::served(addr, *port, TCP), listener.clone());
        }
    }
    refused.extend(left_out.into_iter().map(no_room));
    let (acl4, acl6) = lists.finish();
    let contents = MapContents { vips, acl4, acl6, limits: rows.finish(), listen };
    let mut scopes: BTreeMap<u32, PolicySet> = scopes.into_iter().map(|(set, scope)| (scope, set)).collect();
    scopes.insert(SCOPE_ALL, for_all);
    Compiled { contents, has_all_lists, refused, scopes }
}

/// What is said of addresses that are left out, from the first of them on.
fn no_room((pool, (first, count)): (Option<&str>, (IpAddr, usize))) -> Unmet {
    let whose = pool.map_or_else(|| "the node".to_owned(), |pool| format!("AddressPool {pool}"));
    let sentence = format!(
        "{whose}: {count} addresses, {first} the first, are not served: the kernel maps hold {VIPS} entries, of which an \
         address takes one and one for each served port, and {} addresses; make the blocks smaller, or serve fewer ports",
        VIP_IDS - 1
    );
    Unmet { policy: None, sentence }
}

/// What is said of an address that a pool and the node have.
fn own_address(pool: &Pool, ip: IpAddr) -> Unmet {
    let sentence = format!(
        "AddressPool {}: {ip} is an address of this node and stays the node's: it is not announced, not steered, and served \
         on the ports that are; leave it out of spec.blocks",
        pool.name
    );
    Unmet { policy: None, sentence }
}

/// Something about a policy that is not enforced.
fn of_policy(policy: &EdgePolicy, what: &str) -> Unmet {
    // The name of what is no EdgePolicy stands in brackets.
    let (name, whose) = match policy.name.strip_prefix('(') {
        Some(key) => (None, format!("ConfigMap key {}", key.trim_end_matches(')'))),
        None => (Some(policy.name.clone()), format!("EdgePolicy {}", policy.name)),
    };
    Unmet { policy: name, sentence: format!("{whose}: {what}") }
}

/// The ports of the Service that has the address, beside those of all addresses.
fn own_ports(model: &Model, ip: IpAddr) -> &[(u16, ListenerName)] {
    let service = model.edge.services.iter().find(|service| service.addresses.contains(&ip));
    service.map(|service| service.ports.as_slice()).unwrap_or_default()
}

/// The strongest word of the policies that say one.
fn protection<'a>(policies: &[EdgePolicy], set: impl Iterator<Item = &'a usize>) -> SynProtection {
    set.filter_map(|at| policies.get(*at)?.syn_protection).max().unwrap_or_default()
}

/// For while no proxy listens: new connections to VIPs are dropped instead of refused, so that a client tries again and
/// finds the next proxy. The node's own addresses are not served then at all.
pub fn pause(contents: &mut MapContents) {
    for vip in contents.vips.values_mut() {
        vip.flags |= VipVal::PAUSED;
    }
}

/// Every served address once: the node's first, then those that are served already, then new ones. One of the node's that
/// lies in a pool is under the pool's policies but stays the node's: its other ports must remain reachable.
fn served(model: &Model, node: NodeAddresses<'_>, ids: &Ids, refused: &mut Vec<Unmet>) -> Vec<Served> {
    let mut served = Vec::new();
    let mut seen = BTreeSet::new();
    for ip in node.served {
        let pool = model.edge.pools.iter().find(|pool| pool.blocks.iter().any(|block| block.contains(*ip)));
        if seen.insert(*ip) {
            served.push(Served { ip: *ip, pool: pool.map(|pool| pool.name.clone()), is_node: true });
        }
    }
    for pool in &model.edge.pools {
        let is_in = |ip: &&IpAddr| pool.blocks.iter().any(|block| block.contains(**ip));
        refused.extend(node.all.iter().filter(is_in).map(|ip| own_address(pool, *ip)));
        // More of one pool cannot be served in any case.
        for ip in pool.blocks.iter().flat_map(|block| addresses(*block)).take(VIP_IDS as usize) {
            if seen.insert(ip) && !node.all.contains(&ip) {
                served.push(Served { ip, pool: Some(pool.name.clone()), is_node: false });
            }
        }
    }
    served.sort_by_key(|address| (!address.is_node, !ids.has(address.ip)));
    let beyond = served.split_off(served.len().min(VIP_IDS as usize - 1));
    let mut told = BTreeSet::new();
    for Served { ip, pool, .. } in beyond.iter().filter(|address| told.insert(&address.pool)) {
        let whose = pool.as_ref().map_or_else(|| "the node".to_owned(), |pool| format!("AddressPool {pool}"));
        let sentence = format!(
            "{whose}: addresses from {ip} on are not served: all pools together may hold {}; use smaller blocks",
            VIP_IDS - 1
        );
        refused.push(Unmet { policy: None, sentence });
    }
    served
}

/// The addresses of a block, in order; never more than the caller takes.
fn addresses(block: AddressRange) -> Box<dyn Iterator<Item = IpAddr>> {
    match (block.first, block.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Box::new((u32::from(first)..=u32::from(last)).map(|bits| IpAddr::V4(Ipv4Addr::from(bits))))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Box::new((u128::from(first)..=u128::from(last)).map(|bits| IpAddr::V6(Ipv6Addr::from(bits))))
        }
        _ => Box::new(std::iter::empty()),
    }
}

fn positions(policies: &[EdgePolicy], holds: impl Fn(&EdgePolicy) -> bool) -> PolicySet {
    policies.iter().enumerate().filter(|(_, policy)| holds(policy)).map(|(at, _)| at).collect()
}

/// The policies for this address that are not for all.
fn set_of(address: &Served, policies: &[EdgePolicy]) -> PolicySet {
    let is_of = |pools: &[String]| address.pool.as_ref().is_some_and(|pool| pools.contains(pool));
    positions(policies, |policy| match &policy.scope {
        EdgeScope::Cluster => false,
        EdgeScope::Pools(pools) => is_of(pools),
        EdgeScope::Targets { pools, addresses } => is_of(pools) || addresses.contains(&address.ip),
    })
}

/// A scope for each set of policies, made from their names: the same on every node and after every restart.
fn scopes(sets: &BTreeSet<PolicySet>, policies: &[EdgePolicy]) -> BTreeMap<PolicySet, u32> {
    let mut taken = BTreeSet::from([SCOPE_ALL]);
    let mut scopes = BTreeMap::new();
    for set in sets.iter().filter(|set| !set.is_empty()) {
        let names = set.iter().filter_map(|at| policies.get(*at)).map(|policy| policy.name.as_str());
        scopes.insert(set.clone(), free_id(names.map(str::as_bytes), &mut taken));
    }
    scopes
}

/// A number made from the parts (FNV-1a), the next one where it is taken.
fn free_id<'a>(parts: impl Iterator<Item = &'a [u8]>, taken: &mut BTreeSet<u32>) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
    while !taken.insert(hash) {
        hash = hash.wrapping_add(1);
    }
    hash
}

/// Numbers of addresses: kept from before, else the lowest that neither side uses.
struct Ids {
    kept: BTreeMap<[u8; 16], u32>,
    taken: BTreeSet<u32>,
    next: u32,
}

impl Ids {
    fn new(previous: &MapContents) -> Self {
        let kept: BTreeMap<_, _> =
            previous.vips.iter().map(|(key, value)| (key.addr, value.vip_id)).collect();
        let taken = kept.values().copied().collect();
        Self { kept, taken, next: 1 }
    }

    /// Whether an address has one.
    fn has(&self, ip: IpAddr) -> bool {
        self.kept.contains_key(&addr_of(ip))
    }

    fn of(&mut self, ip: IpAddr) -> Option<u32> {
        let addr = addr_of(ip);
        if let Some(id) = self.kept.get(&addr) {
            return Some(*id);
        }
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        if self.next >= VIP_IDS {
            return None;
        }
        self.taken.insert(self.next);
        self.kept.insert(addr, self.next);
        Some(self.next)
    }
}

/// Whether a source prefix and an address are of one family is decided by the mapped form, as in the kernel.
fn is_v4(ip: IpAddr) -> bool {
    v4_of(&addr_of(ip)).is_some()
}
