//! The addresses that an EdgePolicy covers: those of pools, of Services, of Ingresses of a class, or all.

use std::collections::BTreeSet;

use super::super::{Assignment, Build};
use crate::k8s::class::is_our_class;
use crate::k8s::cluster::ObjectKey;
use crate::k8s::crd;
use crate::model::edge::{EdgeScope, Pool};
use crate::problem::{Code, ObjectRef, Severity, suggest};

/// What targets may name: pools, and what Services were given.
pub(super) type Known<'a> = (&'a [Pool], &'a [Assignment]);

/// What a policy covers; `None`: nothing, so it is not enforced.
pub(super) fn scope(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    spec: &crd::EdgePolicySpec,
    known: Known<'_>,
) -> Option<EdgeScope> {
    if let Some(scope) = &spec.scope {
        if !spec.target_refs.is_empty() {
            let message = "stands beside targetRefs; only targetRefs count; remove one of them";
            build.problem(owner, (Code::FieldInvalid, Severity::Error), ("spec.scope", scope), message);
        } else if scope == "Cluster" {
            return Some(EdgeScope::Cluster);
        } else {
            let message = "is not Cluster; the policy is not enforced; correct it or name targetRefs";
            build.problem(owner, (Code::FieldInvalid, Severity::Error), ("spec.scope", scope), message);
            return None;
        }
    }
    let (mut pools, mut addresses, mut is_all) = (BTreeSet::new(), BTreeSet::new(), false);
    for (index, target) in spec.target_refs.iter().enumerate() {
        let at = Target { owner, field: format!("spec.targetRefs[{index}]"), target };
        match target.kind.as_str() {
            "AddressPool" => pools.extend(at.pool(build, known.0)),
            "Service" => addresses.extend(at.service(build, known.1)),
            "IngressClass" => is_all |= at.class(build),
            other => {
                let kinds = ["AddressPool", "Service", "IngressClass"];
                let hint = suggest(other, kinds)
                    .map_or_else(|| "correct it".to_owned(), |near| format!("did you mean {near}?"));
                let message = format!(
                    "is none of AddressPool, Service and IngressClass; the target is ignored; {hint}"
                );
                build.problem(
                    owner,
                    (Code::FieldInvalid, Severity::Error),
                    (format!("{}.kind", at.field), other),
                    message,
                );
            }
        }
    }
    if is_all {
        return Some(EdgeScope::Cluster);
    }
    let pools: Vec<String> = pools.into_iter().collect();
    match (pools.is_empty(), addresses.is_empty()) {
        (true, true) => {
            let message = "covers no address, so the policy is not enforced; name an AddressPool, a Service with an address, an \
                 IngressClass, or write scope: Cluster";
            build.problem(owner, (Code::FieldInvalid, Severity::Error), ("spec.targetRefs", ""), message);
            None
        }
        (false, true) => Some(EdgeScope::Pools(pools)),
        _ => Some(EdgeScope::Targets { pools, addresses: addresses.into_iter().collect() }),
    }
}

/// One entry of `targetRefs`.
struct Target<'a> {
    owner: &'a ObjectRef,
    field: String,
    target: &'a crd::TargetRef,
}

impl Target<'_> {
    fn missing(&self, build: &mut Build<'_>, message: &str) {
        let at = (format!("{}.name", self.field), self.target.name.as_str());
        build.problem(self.owner, (Code::ReferenceMissing, Severity::Error), at, message);
    }

    fn pool(&self, build: &mut Build<'_>, pools: &[Pool]) -> Option<String> {
        let name = &self.target.name;
        if pools.iter().any(|pool| pool.name == *name) {
            return Some(name.clone());
        }
        let hint = suggest(name, pools.iter().map(|pool| pool.name.as_str())).map_or_else(
            || "create it or correct the name".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        self.missing(build, &format!("there is no AddressPool of this name; the target is ignored; {hint}"));
        None
    }

    /// The addresses that a Service was given.
    fn service(&self, build: &mut Build<'_>, assigned: &[Assignment]) -> Vec<std::net::IpAddr> {
        let Some(namespace) = &self.target.namespace else {
            let message = "is missing; the target is ignored; name the namespace of the Service";
            let at = (format!("{}.namespace", self.field), "");
            build.problem(self.owner, (Code::FieldInvalid, Severity::Error), at, message);
            return Vec::new();
        };
        let key = ObjectKey::new(&**namespace, &*self.target.name);
        let is_it =
            |given: &&Assignment| given.object.namespace == key.namespace && given.object.name == key.name;
        let found = assigned.iter().find(is_it).filter(|given| !given.addresses.is_empty());
        match found {
            Some(given) => given.addresses.clone(),
            None if build.cluster.services.contains_key(&key) => {
                let message = format!(
                    "Service {key} has no address of an AddressPool; the target is ignored; a Service gets one by \
                     loadBalancerClass {}",
                    super::addresses::CLASS
                );
                self.missing(build, &message);
                Vec::new()
            }
            None => {
                self.missing(
                    build,
                    &format!(
                        "there is no Service {key}; the target is ignored; create it or correct the name"
                    ),
                );
                Vec::new()
            }
        }
    }

    /// Whether the class is ours: each of its Ingresses is served on every address.
    fn class(&self, build: &mut Build<'_>) -> bool {
        let (origin, rules) = (build.cluster.origin, &build.settings.classes);
        let class = build.cluster.ingress_classes.get(&ObjectKey::new("", &*self.target.name));
        match class {
            Some(class) if is_our_class(origin, rules, class) => return true,
            Some(_) => self.missing(
                build,
                "the IngressClass belongs to another controller; the target is ignored; remove it",
            ),
            None => self.missing(
                build,
                "there is no IngressClass of this name; the target is ignored; create it or correct the name",
            ),
        }
        false
    }
}
