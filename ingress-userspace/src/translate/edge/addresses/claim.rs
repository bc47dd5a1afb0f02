//! What a Service of our load balancer class asks for.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::super::super::{Build, Proxies};
use super::CLASS;
use crate::k8s::cluster::{Origin, reference};
use crate::problem::{Code, ObjectRef, Severity};

/// Annotations that ask for addresses, with commas between them; the first that is there counts.
const ADDRESSES: [&str; 4] = [
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/loadBalancerIPs",
    "lbipam.cilium.io/ips",
    "io.cilium/lb-ipam-ips",
];
/// Annotations that ask for a pool.
const POOLS: [&str; 3] =
    ["portcullis.dev/address-pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool"];

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A Service that shall get addresses.
pub(super) struct Claim<'c> {
    pub(super) service: &'c Service,
    pub(super) object: ObjectRef,
    /// One address of each.
    pub(super) families: Vec<Family>,
    /// Any one of the families is enough.
    pub(super) is_flexible: bool,
    /// All of them, or none.
    pub(super) needs_all: bool,
    /// What it asks for by address, with the field that says so.
    pub(super) requested: Vec<(String, IpAddr)>,
    /// What it asks for by pool.
    pub(super) pool: Option<(String, String)>,
    /// What it was given before.
    pub(super) held: Vec<IpAddr>,
}

/// What a Service asks for; `None`: nothing, or it may not, which is a Problem.
pub(super) fn claim<'c>(build: &mut Build<'_>, service: &'c Service) -> Option<Claim<'c>> {
    let spec = service.spec.as_ref()?;
    if spec.load_balancer_class.as_deref() != Some(CLASS) {
        return None;
    }
    let object = reference(service);
    if !is_of_proxies(build, &object, spec) {
        return None;
    }
    let requested = requested(build, &object, service, spec);
    let pool = annotation(service, &POOLS).map(|(field, pool)| (field, pool.trim().to_owned()));
    let held = held(service);
    let named: Vec<Family> = spec.ip_families.iter().flatten().filter_map(|name| family(name)).collect();
    let policy = spec.ip_family_policy.as_deref();
    let asked = requested.iter().map(|(_, ip)| Family::of(*ip));
    // An API server says the families; a folder may leave them open.
    let is_open = named.is_empty() && build.cluster.origin == Origin::Folder;
    let is_single = !matches!(policy, Some("PreferDualStack" | "RequireDualStack"));
    let families = match (named.is_empty(), is_single) {
        (false, true) => named.into_iter().take(1).collect(),
        (false, false) => named,
        (true, true) => match asked.clone().next() {
            Some(first) => vec![first],
            None => vec![Family::V4, Family::V6],
        },
        (true, false) => vec![Family::V4, Family::V6],
    };
    let is_flexible = (is_open || families.len() > 1) && is_single && requested.is_empty();
    let needs_all = policy == Some("RequireDualStack");
    Some(Claim { service, object, families, is_flexible, needs_all, requested, pool, held })
}

fn family(name: &str) -> Option<Family> {
    match name {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

/// Whether the Service selects our proxies. We carry nothing to the pods of others.
fn is_of_proxies(build: &mut Build<'_>, object: &ObjectRef, spec: &ServiceSpec) -> bool {
    let Proxies { namespace, labels } = &build.settings.proxies;
    let mut refuse = |field: &str, value: &str, message: String| {
        build.problem(object, (Code::FieldUnsupported, Severity::Error), (field, value), message);
        false
    };
    let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
    if type_ != "LoadBalancer" {
        return refuse(
            "spec.type",
            type_,
            format!(
                "loadBalancerClass {CLASS} counts for type LoadBalancer alone, so the Service gets no address; write that"
            ),
        );
    }
    let wanted =
        || labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
    let selector = spec.selector.clone().unwrap_or_default();
    if selector.is_empty() || selector.iter().any(|(name, value)| labels.get(name) != Some(value)) {
        let shown =
            selector.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
        let message = format!(
            "does not select the proxies ({}), and addresses are given to their Services alone, so this one gets none; select \
             them and name the Service in an Ingress, or give it another load balancer class",
            wanted()
        );
        return refuse("spec.selector", &shown, message);
    }
    match namespace {
        Some(namespace) if *namespace != object.namespace => {
            let message = format!(
                "the proxies are in namespace {namespace}, and a Service selects pods of its own, so this one gets no address; \
                 create it there"
            );
            refuse("metadata.namespace", &object.namespace, message)
        }
        _ => true,
    }
}

/// The addresses that a Service asks for. One that cannot be read is a Problem.
fn requested(
    build: &mut Build<'_>,
    object: &ObjectRef,
    service: &Service,
    spec: &ServiceSpec,
) -> Vec<(String, IpAddr)> {
    let of_field = spec.load_balancer_ip.as_ref().filter(|text| !text.is_empty());
    let of_field = || of_field.map(|text| ("spec.loadBalancerIP".to_owned(), text.as_str()));
    let Some((field, text)) = annotation(service, &ADDRESSES).or_else(of_field) else { return Vec::new() };
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<IpAddr>() {
            Ok(ip) => found.push((field.clone(), ip)),
            Err(_) => {
                let message =
                    "is no address, so it is not looked for; write single addresses with commas between them";
                build.problem(object, (Code::AnnotationInvalid, Severity::Error), (&*field, part), message);
            }
        }
    }
    found
}

fn annotation<'s>(service: &'s Service, names: &[&str]) -> Option<(String, &'s str)> {
    let all = service.metadata.annotations.as_ref()?;
    let name = names.iter().find(|name| all.get(**name).is_some_and(|text| !text.trim().is_empty()))?;
    Some((format!("metadata.annotations[{name}]"), all.get(*name)?))
}

/// The addresses in the status, whoever wrote them.
fn held(service: &Service) -> Vec<IpAddr> {
    entries(service, |_| true)
}

/// The addresses in the status that are written as we write them: clients reach the proxies by them, not kube-proxy.
pub(super) fn published(service: &Service) -> Vec<IpAddr> {
    entries(service, |mode| mode == Some("Proxy"))
}

fn entries(service: &Service, holds: impl Fn(Option<&str>) -> bool) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let ours = entries.iter().filter(|entry| holds(entry.ip_mode.as_deref()));
    ours.filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}
