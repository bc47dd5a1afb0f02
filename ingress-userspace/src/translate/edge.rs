//! EdgePolicy and AddressPool → what the kernel half enforces.
//!
//! A mistake degrades its own entry, and towards less traffic: an allow list of which nothing could be read denies everything,
//! a deny entry with host bits is widened to its network, an exemption that cannot be read is none. What this version does
//! not enforce is a Problem, and the rest of the object holds.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Build;
use crate::annotation::value::unmapped;
use crate::k8s::cluster::{created_at, reference};
use crate::k8s::crd;
use crate::model::block::Blocked;
use crate::model::edge::{AddressRange, Edge, EdgeLimit, EdgePolicy, EdgeScope, Pool};
use crate::problem::{Code, ObjectRef, Severity, suggest};

/// Addresses of all pools together: each takes several rows of the kernel's table of 4096.
const MOST_ADDRESSES: u128 = 768;

/// All pools and policies, and what the ConfigMap blocks.
pub(super) fn edge(build: &mut Build<'_>, blocked: &Blocked) -> Edge {
    let pools = pools(build);
    let mut policies = Vec::new();
    for object in build.cluster.edge_policies.values() {
        policies.extend(policy(build, &reference(&**object), &object.spec, &pools));
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
        });
    }
    Edge { pools, policies }
}

fn pools(build: &mut Build<'_>) -> Vec<Pool> {
    // The older pool keeps a contested block; without time stamps the first by name.
    let mut objects: Vec<_> = build.cluster.address_pools.iter().collect();
    objects.sort_by_key(|(key, object)| {
        (created_at(&***object).is_none(), created_at(&***object), (*key).clone())
    });
    let mut taken: Vec<(AddressRange, String)> = Vec::new();
    let mut pools = Vec::new();
    let mut count = 0;
    for (key, object) in objects {
        let owner = reference(&**object);
        unsupported_pool_fields(build, &owner, &object.spec);
        let mut blocks = Vec::new();
        for (index, block) in object.spec.blocks.iter().enumerate() {
            let field = format!("spec.blocks[{index}]");
            let Some(range) = range(build, &owner, block, &field) else { continue };
            let overlaps =
                |(other, _): &&(AddressRange, String)| range.first <= other.last && other.first <= range.last;
            if let Some((other, winner)) = taken.iter().find(overlaps) {
                let shown = format!("{}-{}", range.first, range.last);
                let whose =
                    if *winner == key.name { "this pool".into() } else { format!("AddressPool {winner}") };
                let message = format!(
                    "overlaps {}-{} of {whose}, which keeps its addresses; this block is not served; remove the overlap",
                    other.first, other.last
                );
                build.problem(&owner, (Code::Conflict, Severity::Error), (field, &shown), message);
                continue;
            }
            count += size(&range);
            if count > MOST_ADDRESSES {
                count -= size(&range);
                let shown = format!("{}-{}", range.first, range.last);
                let message = format!(
                    "all pools together would hold more than the {MOST_ADDRESSES} addresses that can be served; this \
                     block is not served; make the blocks smaller"
                );
                build.problem(&owner, (Code::FieldInvalid, Severity::Error), (field, &shown), message);
                continue;
            }
            taken.push((range, key.name.clone()));
            blocks.push(range);
        }
        if object.spec.blocks.is_empty() {
            let message = "holds no block, so it has no address; add one";
            build.problem(&owner, (Code::FieldInvalid, Severity::Warning), ("spec.blocks", ""), message);
        }
        blocks.sort();
        pools.push(Pool { name: key.name.clone(), blocks });
    }
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    pools
}

fn unsupported_pool_fields(build: &mut Build<'_>, owner: &ObjectRef, spec: &crd::AddressPoolSpec) {
    let mut unsupported = |field: &str, value: &str, message: &str| {
        build.problem(owner, (Code::FieldUnsupported, Severity::Warning), (field, value), message);
    };
    match spec.announce.as_deref() {
        None | Some("None") => {}
        Some("L2") => unsupported(
            "spec.announce",
            "L2",
            "this version does not announce addresses; route them to the nodes, or let another speaker announce them, and \
             write None",
        ),
        Some(other) => {
            unsupported("spec.announce", other, "is none of L2 and None; read as None; correct it")
        }
    }
    if spec.node_selector.as_ref().is_some_and(|selector| !selector.is_empty()) {
        let message = "this version serves every pool on every node; remove it";
        unsupported("spec.nodeSelector", "", message);
    }
    if spec.service_selector.as_ref().is_some_and(|selector| !selector.is_empty()) {
        unsupported("spec.serviceSelector", "", "this version assigns no addresses to Services; remove it");
    }
    if spec.auto_assign == Some(true) {
        unsupported("spec.autoAssign", "true", "this version assigns no addresses to Services; remove it");
    }
    if let Some(value) = &spec.encapsulation {
        let message = "this version does not send packets from node to node; remove it";
        unsupported("spec.encapsulation", value, message);
    }
}

fn range(build: &mut Build<'_>, owner: &ObjectRef, block: &crd::Block, field: &str) -> Option<AddressRange> {
    let mut wrong = |part: &str, value: &str, message: &str| {
        let field = if part.is_empty() { field.to_owned() } else { format!("{field}.{part}") };
        let message = format!("{message}; the block is not served");
        build.problem(owner, (Code::FieldInvalid, Severity::Error), (field, value), message);
        None
    };
    let range = match (&block.cidr, &block.start, &block.stop) {
        (Some(text), None, None) => match text.parse::<IpNet>() {
            Ok(network) if network.trunc() != network => {
                let message =
                    format!("has bits after the prefix; write {} if that is meant", network.trunc());
                return wrong("cidr", text, &message);
            }
            Ok(network) => AddressRange { first: network.network(), last: network.broadcast() },
            Err(_) => return wrong("cidr", text, "is not a network such as 198.18.100.0/28"),
        },
        (None, Some(start), Some(stop)) => {
            let Ok(first) = start.parse::<IpAddr>() else {
                return wrong("start", start, "is not an address");
            };
            let Ok(last) = stop.parse::<IpAddr>() else { return wrong("stop", stop, "is not an address") };
            if first.is_ipv4() != last.is_ipv4() || last < first {
                return wrong(
                    "stop",
                    stop,
                    "comes before start or is of the other family; correct one of them",
                );
            }
            AddressRange { first, last }
        }
        _ => return wrong("", "", "give either cidr, or start and stop"),
    };
    let shown = format!("{}-{}", range.first, range.last);
    if size(&range) > MOST_ADDRESSES {
        let message =
            format!("holds more than the {MOST_ADDRESSES} addresses that can be served; make it smaller");
        return wrong("", &shown, &message);
    }
    let is_unusable = |address: IpAddr| {
        let is_local = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets().first() == Some(&0),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
        };
        is_local || address.is_loopback() || address.is_multicast() || address.is_unspecified()
    };
    if is_unusable(range.first) || is_unusable(range.last) {
        return wrong(
            "",
            &shown,
            "loopback, link-local, multicast and unspecified addresses cannot be served",
        );
    }
    Some(range)
}

fn size(range: &AddressRange) -> u128 {
    match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            u128::from(last.to_bits()).saturating_sub(first.to_bits().into()) + 1
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            last.to_bits().saturating_sub(first.to_bits()).saturating_add(1)
        }
        _ => 0,
    }
}

fn policy(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    spec: &crd::EdgePolicySpec,
    pools: &[Pool],
) -> Option<EdgePolicy> {
    let scope = scope(build, owner, spec, pools)?;
    let allow = list(build, owner, "allow", &spec.allow);
    let mut deny = list(build, owner, "deny", &spec.deny);
    let exempt = list(build, owner, "exempt", &spec.exempt);
    if allow.is_empty() && !spec.allow.is_empty() {
        let message = "no entry of the allow list can be read, so every source is denied; correct the list";
        build.problem(owner, (Code::FieldInvalid, Severity::Error), ("spec.allow", ""), message);
        deny = vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    }
    let limits = limits(build, owner, &spec.limits);
    match spec.syn_protection.as_deref() {
        None | Some("Off") => {}
        Some(value) => {
            let message = "this version does not answer with SYN cookies itself, the kernel's own setting holds; write Off";
            build.problem(
                owner,
                (Code::FieldUnsupported, Severity::Warning),
                ("spec.synProtection", value),
                message,
            );
        }
    }
    Some(EdgePolicy { name: owner.name.clone(), scope, allow, deny, exempt, limits })
}

fn scope(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    spec: &crd::EdgePolicySpec,
    pools: &[Pool],
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
    let mut names = Vec::new();
    for (index, target) in spec.target_refs.iter().enumerate() {
        let field = format!("spec.targetRefs[{index}]");
        if target.kind != "AddressPool" {
            let message =
                "only AddressPool is supported by this version; the target is ignored; name the pool";
            let at = (format!("{field}.kind"), target.kind.as_str());
            build.problem(owner, (Code::FieldUnsupported, Severity::Error), at, message);
        } else if pools.iter().any(|pool| pool.name == target.name) {
            names.push(target.name.clone());
        } else {
            let hint = suggest(&target.name, pools.iter().map(|pool| pool.name.as_str())).map_or_else(
                || "create it or correct the name".to_owned(),
                |near| format!("did you mean {near}?"),
            );
            let message = format!("there is no AddressPool of this name; the target is ignored; {hint}");
            let at = (format!("{field}.name"), target.name.as_str());
            build.problem(owner, (Code::ReferenceMissing, Severity::Error), at, message);
        }
    }
    if names.is_empty() {
        let message =
            "covers no address, so the policy is not enforced; name an AddressPool, or write scope: Cluster";
        build.problem(owner, (Code::FieldInvalid, Severity::Error), ("spec.targetRefs", ""), message);
        return None;
    }
    names.sort();
    names.dedup();
    Some(EdgeScope::Pools(names))
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

fn limits(build: &mut Build<'_>, owner: &ObjectRef, limits: &[crd::Limit]) -> Vec<EdgeLimit> {
    let mut supported = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let field = |part: &str| format!("spec.limits[{index}].{part}");
        if limit.per != "Source" {
            let message = "only Source is supported by this version; the limit is not enforced; remove it";
            build.problem(
                owner,
                (Code::FieldUnsupported, Severity::Warning),
                (field("per"), &limit.per),
                message,
            );
            continue;
        }
        for (part, value) in
            [("packetsPerSecond", limit.packets_per_second), ("bytesPerSecond", limit.bytes_per_second)]
        {
            if let Some(value) = value {
                let message =
                    "not supported by this version; the limit is not enforced; use connectionsPerSecond";
                let at = (field(part), value.to_string());
                build.problem(owner, (Code::FieldUnsupported, Severity::Warning), (at.0, &at.1), message);
            }
        }
        let Some(rate) = limit.connections_per_second else {
            if limit.packets_per_second.is_none() && limit.bytes_per_second.is_none() {
                let message = "names no rate, so it limits nothing; give connectionsPerSecond";
                let field = field("connectionsPerSecond");
                build.problem(owner, (Code::FieldInvalid, Severity::Error), (field, ""), message);
            }
            continue;
        };
        let in_range =
            |value: i64| u32::try_from(value).ok().filter(|value| (1..=1_000_000_000).contains(value));
        let burst = limit.burst.unwrap_or(rate);
        match (in_range(rate), in_range(burst)) {
            (Some(connections_per_second), Some(burst)) => {
                supported.push(EdgeLimit { connections_per_second, burst })
            }
            (None, _) => {
                let message = "must lie between 1 and 1000000000; the limit is not enforced; correct it";
                let at = (field("connectionsPerSecond"), rate.to_string());
                build.problem(owner, (Code::FieldInvalid, Severity::Error), (at.0, &at.1), message);
            }
            (Some(connections_per_second), None) => {
                let message = "must lie between 1 and 1000000000; one second's worth is taken; correct it";
                let at = (field("burst"), burst.to_string());
                build.problem(owner, (Code::FieldInvalid, Severity::Warning), (at.0, &at.1), message);
                supported.push(EdgeLimit { connections_per_second, burst: connections_per_second });
            }
        }
    }
    supported
}
