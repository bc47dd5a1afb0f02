//! EdgePolicy and AddressPool → what the kernel half enforces.
//!
//! A mistake degrades its own entry, and towards less traffic: an allow list of which nothing could be read denies everything,
//! a deny entry with host bits is widened to its network, an exemption that cannot be read is none. What this version does
//! not enforce is a Problem, and the rest of the object holds.

mod addresses;
mod bans;
mod key;
mod limits;
mod nodes;
pub(super) mod pools;
mod scope;
mod service_ports;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Assignment, Build};
use crate::annotation::value::unmapped;
use crate::k8s::cluster::{Cluster, reference};
use crate::k8s::crd;
use crate::model::block::Blocked;
use crate::model::edge::{Edge, EdgePolicy, EdgeScope, SynProtection};
use crate::model::listener::Listener;
use crate::problem::{Code, ObjectRef, Severity};

/// All pools and policies, and what the ConfigMap blocks.
pub(super) fn edge(
    build: &mut Build<'_>,
    cluster: &Cluster,
    blocked: &Blocked,
    listeners: &[Listener],
) -> (Edge, Vec<Assignment>) {
    let pools = pools::pools(build);
    let assigned = addresses::assign(build, cluster, &pools);
    let services = service_ports::services(build, cluster, &assigned, listeners);
    let mut policies = Vec::new();
    for object in build.cluster.edge_policies.values() {
        policies.extend(policy(build, &reference(&**object), &object.spec, (&pools, &assigned)));
    }
    // Packets of clients behind a proxy are the proxy's.
    if !blocked.sources.is_empty() && !blocked.is_client_hidden {
        policies.push(EdgePolicy {
            name: "(block-cidrs)".to_owned(),
            scope: EdgeScope::Cluster,
            allow: Vec::new(),
            deny: blocked.sources.clone(),
            exempt: Vec::new(),
            limits: Vec::new(),
            syn_protection: None,
            ban: None,
        });
    }
    let cluster_key = key::cluster_key(build, &pools);
    (Edge { pools, services, policies, cluster_key }, assigned)
}

fn policy(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    spec: &crd::EdgePolicySpec,
    known: scope::Known<'_>,
) -> Option<EdgePolicy> {
    // What is wrong with the rest is told all the same.
    let scope = scope::scope(build, owner, spec, known);
    let allow = list(build, owner, "allow", &spec.allow);
    let mut deny = list(build, owner, "deny", &spec.deny);
    let exempt = list(build, owner, "exempt", &spec.exempt);
    if allow.is_empty() && !spec.allow.is_empty() {
        let message = "no entry of the allow list can be read, so every source is denied; correct the list";
        build.problem(owner, (Code::FieldInvalid, Severity::Error), ("spec.allow", ""), message);
        deny = vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    }
    let limits = limits::limits(build, owner, &spec.limits);
    let syn_protection = syn_protection(build, owner, spec.syn_protection.as_deref());
    let ban = spec.ban.as_ref().and_then(|ban| bans::rule(build, owner, ban, &limits));
    let name = owner.name.clone();
    Some(EdgePolicy { name, scope: scope?, allow, deny, exempt, limits, syn_protection, ban })
}

/// What cannot be read is no word against the default.
fn syn_protection(build: &mut Build<'_>, owner: &ObjectRef, value: Option<&str>) -> Option<SynProtection> {
    let known = [SynProtection::Off, SynProtection::Auto, SynProtection::Always];
    let value = value?;
    let found = known.into_iter().find(|protection| protection.name() == value);
    if found.is_none() {
        let message = "is not Auto, Always or Off; Auto is taken; correct it";
        build.problem(owner, (Code::FieldInvalid, Severity::Error), ("spec.synProtection", value), message);
    }
    found
}

fn list(build: &mut Build<'_>, owner: &ObjectRef, name: &str, entries: &[String]) -> Vec<IpNet> {
    let mut networks = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let field = format!("spec.{name}[{index}]");
        let network = entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
        let network = network.map(|network| match unmapped(network) {
            Some(plain) => {
                let message = format!("is an IPv4 network in IPv6 clothes; read as {plain}; write that");
                build.problem(owner, (Code::FieldInvalid, Severity::Warning), (&*field, entry), message);
                plain
            }
            None => network,
        });
        match network {
            Ok(network) if network.trunc() == network => networks.push(network),
            Ok(network) if name == "deny" => {
                let masked = network.trunc();
                let message = format!("has bits after the prefix; read as {masked}; write that");
                build.problem(owner, (Code::FieldInvalid, Severity::Warning), (field, entry), message);
                networks.push(masked);
            }
            Ok(network) => {
                let (masked, host) = (network.trunc(), network.addr());
                let message = format!(
                    "has bits after the prefix; the entry is ignored, since it would let in more than one address; write \
                     {masked} or {host}"
                );
                build.problem(owner, (Code::FieldInvalid, Severity::Error), (field, entry), message);
            }
            Err(_) => {
                let message = "is neither a network such as 203.0.113.0/24 nor an address; the entry is ignored; correct it";
                build.problem(owner, (Code::FieldInvalid, Severity::Error), (field, entry), message);
            }
        }
    }
    networks.sort();
    networks.dedup();
    networks
}
