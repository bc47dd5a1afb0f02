//! Services of our load balancer class → addresses of pools.
//!
//! A Service of `loadBalancerClass: portcullis.dev/l4` that selects our proxies gets an address per family. Who has one
//! keeps it: what a Service was given stands in its status, so that a restart changes nothing. Of those without one, first
//! come those that ask for a certain address, the older first, then the others. In a folder there is no status, and the
//! order alone decides. Any other Service of the class is a Problem, never silence.

mod claim;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use super::super::{Assignment, Build, is_watched};
use crate::k8s::cluster::{Cluster, ObjectKey, created_at, reference};
use crate::k8s::crd::AddressPool;
use crate::k8s::selector::Selector;
use crate::model::edge::Pool;
use crate::problem::{Code, ObjectRef, Severity};
use claim::{Claim, Family, claim, published};

/// The load balancer class that is ours.
pub(super) const CLASS: &str = "portcullis.dev/l4";

/// What Services were given, ordered by namespace and name.
pub(super) fn assign(build: &mut Build<'_>, cluster: &Cluster, pools: &[Pool]) -> Vec<Assignment> {
    let offers: Vec<Offer<'_>> = pools.iter().map(|pool| offer(build, pool)).collect();
    let mut services: Vec<(&ObjectKey, &Arc<Service>)> = cluster
        .services
        .iter()
        .filter(|(key, _)| is_watched(cluster, build.settings, &key.namespace))
        .collect();
    services.sort_by_key(|(key, service)| {
        (created_at(&***service).is_none(), created_at(&***service), (*key).clone())
    });
    let (mut claims, mut others) = (Vec::new(), Vec::new());
    for (_, service) in services {
        match claim(build, service) {
            Some(claim) => claims.push(claim),
            None => others.extend(left_over(service, &offers)),
        }
    }
    let mut table = Table { offers, taken: BTreeMap::new() };
    for (at, claim) in claims.iter().enumerate() {
        table.keep(at, claim);
    }
    for at in 0..claims.len() {
        table.give_requested(build, at, &claims);
    }
    for (at, claim) in claims.iter().enumerate() {
        table.give_any(build, at, claim);
    }
    let mut assigned: Vec<Assignment> = claims
        .iter()
        .enumerate()
        .map(|(at, claim)| {
            let published = published(claim.service);
            Assignment { object: claim.object.clone(), addresses: table.of(at), published }
        })
        .chain(others)
        .collect();
    assigned.sort_by(|one, other| one.object.cmp(&other.object));
    assigned
}

/// A pool as Services see it.
struct Offer<'a> {
    pool: &'a Pool,
    /// Also for Services that do not name it.
    is_automatic: bool,
    /// The Services that may have its addresses; `None`: it cannot be read, so none may.
    selector: Option<Selector>,
}

fn offer<'a>(build: &mut Build<'_>, pool: &'a Pool) -> Offer<'a> {
    let object = build.cluster.address_pools.get(&ObjectKey::new("", &*pool.name));
    let selector = object.map_or_else(|| Ok(Selector::default()), |object| selector(object));
    if let (Err(reason), Some(object)) = (&selector, object) {
        let message = format!("{reason}, so no Service gets an address of the pool; correct it");
        let at = ("spec.serviceSelector", "");
        build.problem(&reference(&**object), (Code::FieldInvalid, Severity::Error), at, message);
    }
    let is_automatic = object.and_then(|object| object.spec.auto_assign).unwrap_or(true);
    Offer { pool, is_automatic, selector: selector.ok() }
}

fn selector(pool: &AddressPool) -> Result<Selector, String> {
    pool.spec.service_selector.as_ref().map_or_else(|| Ok(Selector::default()), Selector::of)
}

impl Offer<'_> {
    fn admits(&self, claim: &Claim<'_>) -> bool {
        let none = BTreeMap::new();
        let labels = claim.service.metadata.labels.as_ref().unwrap_or(&none);
        let is_named = claim.pool.as_ref().is_none_or(|(_, pool)| *pool == self.pool.name);
        is_named && self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.pool.blocks.iter().any(|block| block.contains(ip))
    }
}

/// Which Service has which address.
struct Table<'a> {
    offers: Vec<Offer<'a>>,
    taken: BTreeMap<IpAddr, usize>,
}

impl Table<'_> {
    /// The addresses of a Service, IPv4 first.
    fn of(&self, claim: usize) -> Vec<IpAddr> {
        self.taken.iter().filter(|(_, owner)| **owner == claim).map(|(ip, _)| *ip).collect()
    }

    fn missing(&self, at: usize, claim: &Claim<'_>) -> Vec<Family> {
        let has: BTreeSet<Family> = self.of(at).into_iter().map(Family::of).collect();
        claim.families.iter().copied().filter(|family| !has.contains(family)).collect()
    }

    /// What it had it keeps, as long as it may have it.
    fn keep(&mut self, at: usize, claim: &Claim<'_>) {
        for ip in &claim.held {
            let is_wanted =
                claim.requested.is_empty() || claim.requested.iter().any(|(_, wanted)| wanted == ip);
            let may = self.offers.iter().any(|offer| offer.has(*ip) && offer.admits(claim));
            let is_missing = self.missing(at, claim).contains(&Family::of(*ip));
            if is_wanted && may && is_missing && !self.taken.contains_key(ip) {
                self.taken.insert(*ip, at);
            }
        }
    }

    fn give_requested(&mut self, build: &mut Build<'_>, at: usize, claims: &[Claim<'_>]) {
        let Some(claim) = claims.get(at) else { return };
        for (field, ip) in &claim.requested {
            let mut refuse = |code, message: String| {
                let message = format!("{message}; the Service does not get it");
                build.problem(
                    &claim.object,
                    (code, Severity::Error),
                    (field.as_str(), &ip.to_string()),
                    message,
                );
            };
            let offer = self.offers.iter().find(|offer| offer.has(*ip));
            match (self.taken.get(ip), offer) {
                (Some(owner), _) if *owner == at => {}
                (_, None) => refuse(
                    Code::FieldInvalid,
                    "lies in no block of an AddressPool that is served; ask for another, or add it"
                        .to_owned(),
                ),
                (Some(owner), _) => {
                    let whose = claims.get(*owner).map(|owner| owner.object.to_string()).unwrap_or_default();
                    refuse(Code::Conflict, format!("is the address of {whose}; ask for another"));
                }
                (None, Some(offer)) if !offer.admits(claim) => {
                    let pool = &offer.pool.name;
                    refuse(
                        Code::FieldInvalid,
                        format!(
                            "belongs to AddressPool {pool}, which is not for this Service; label the Service, or ask for another"
                        ),
                    );
                }
                (None, Some(_)) if !self.missing(at, claim).contains(&Family::of(*ip)) => {
                    let families = claim.families.iter().map(|family| family.name()).collect::<Vec<_>>();
                    refuse(
                        Code::FieldInvalid,
                        format!(
                            "is one too many: the Service has one address per family, of {}",
                            families.join(" and ")
                        ),
                    );
                }
                (None, Some(_)) => {
                    self.taken.insert(*ip, at);
                }
            }
        }
    }

    /// An address for every family that has none, of one pool if one has all.
    fn give_any(&mut self, build: &mut Build<'_>, at: usize, claim: &Claim<'_>) {
        // Who asked for certain addresses gets no others in their stead.
        let asked: BTreeSet<Family> = claim.requested.iter().map(|(_, ip)| Family::of(*ip)).collect();
        let mut missing = self.missing(at, claim);
        missing.retain(|family| !asked.contains(family));
        if claim.is_flexible {
            // One family is enough: the first that there is.
            let found = missing.iter().find_map(|family| self.free(claim, &[*family]));
            if self.of(at).is_empty() && asked.is_empty() {
                match found {
                    Some(found) => self.taken.extend(found.into_iter().map(|ip| (ip, at))),
                    None => self.tell(build, claim, &missing),
                }
            }
            return;
        }
        if let Some(found) = self.free(claim, &missing) {
            self.taken.extend(found.into_iter().map(|ip| (ip, at)));
        } else {
            for family in &missing {
                let found = self.free(claim, &[*family]).unwrap_or_default();
                self.taken.extend(found.into_iter().map(|ip| (ip, at)));
            }
        }
        let left: Vec<Family> =
            self.missing(at, claim).into_iter().filter(|family| !asked.contains(family)).collect();
        if claim.needs_all && !self.missing(at, claim).is_empty() {
            self.taken.retain(|_, owner| *owner != at);
        }
        // A second family that is only preferred is no loss.
        if !left.is_empty() && (claim.needs_all || self.of(at).is_empty()) {
            self.tell(build, claim, &left);
        }
    }

    /// The lowest free address of each family in the first pool that has all of them.
    fn free(&self, claim: &Claim<'_>, families: &[Family]) -> Option<Vec<IpAddr>> {
        let offers = self.offers.iter().filter(|offer| offer.admits(claim));
        let mut offers = offers.filter(|offer| offer.is_automatic || claim.pool.is_some());
        offers.find_map(|offer| {
            let mut all = offer.pool.blocks.iter().flat_map(super::pools::addresses);
            let all: Vec<IpAddr> = all.by_ref().filter(|ip| !self.taken.contains_key(ip)).collect();
            let of = |family: &Family| all.iter().find(|ip| Family::of(**ip) == *family).copied();
            families.iter().map(of).collect()
        })
    }

    fn tell(&self, build: &mut Build<'_>, claim: &Claim<'_>, families: &[Family]) {
        let between = if claim.is_flexible { " or " } else { " and " };
        let names = families.iter().map(|family| family.name()).collect::<Vec<_>>().join(between);
        let all = if claim.needs_all { ", and RequireDualStack wants both, so it gets none" } else { "" };
        let (field, value, reason) = match &claim.pool {
            Some((field, pool)) if !self.offers.iter().any(|offer| offer.pool.name == *pool) => (
                field.as_str(),
                pool.as_str(),
                "there is no AddressPool of this name; create it or correct the name",
            ),
            Some((field, pool)) => {
                (field.as_str(), pool.as_str(), "the pool has no free one for this Service; make it larger")
            }
            None if self.offers.is_empty() => {
                ("spec.loadBalancerClass", CLASS, "there is no AddressPool; create one")
            }
            None if !self.offers.iter().any(|offer| offer.is_automatic && offer.admits(claim)) => (
                "spec.loadBalancerClass",
                CLASS,
                "no AddressPool with autoAssign is for this Service (serviceSelector); ask for an address or a pool, or add one",
            ),
            None => {
                ("spec.loadBalancerClass", CLASS, "the pools for this Service have no free one; add a block")
            }
        };
        let message = format!("the Service gets no {names} address{all}: {reason}");
        build.problem(&claim.object, (Code::FieldInvalid, Severity::Error), (field, value), message);
    }
}

/// A Service that is not ours, or not any more, and that holds what we gave it.
fn left_over(service: &Service, offers: &[Offer<'_>]) -> Option<Assignment> {
    let spec = service.spec.as_ref()?;
    let is_anothers =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.as_deref() != Some(CLASS);
    let published = published(service);
    let is_given = |ip: &IpAddr| offers.iter().any(|offer| offer.has(*ip));
    let is_ours = !is_anothers && !published.is_empty() && published.iter().all(is_given);
    let object: ObjectRef = reference(service);
    is_ours.then_some(Assignment { object, addresses: Vec::new(), published })
}
