//! AddressPools → pools: their blocks, who announces them, and the nodes that serve them.
//!
//! Of two pools that overlap the older keeps its addresses. The address of a node stays the node's, whatever block it lies in.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::Build;
use super::nodes::{Nodes, nodes};
use crate::k8s::cluster::{created_at, reference};
use crate::k8s::{crd, members};
use crate::model::edge::{AddressRange, Announce, Encapsulation, Pool};
use crate::problem::{Code, ObjectRef, Severity, suggest};

/// Addresses of all pools together: each takes several rows of the kernel's table of 4096.
const MOST_ADDRESSES: u128 = 768;

/// All pools, ordered by name.
pub(super) fn pools(build: &mut Build<'_>) -> Vec<Pool> {
    let nodes = nodes(build);
    // The older pool keeps a contested block; without time stamps the first by name.
    let mut objects: Vec<_> = build.cluster.address_pools.iter().collect();
    objects.sort_by_key(|(key, object)| {
        (created_at(&***object).is_none(), created_at(&***object), (*key).clone())
    });
    let mut taken = Taken::default();
    let mut pools = Vec::new();
    for (key, object) in objects {
        let owner = reference(&**object);
        let mut blocks = Vec::new();
        for (index, block) in object.spec.blocks.iter().enumerate() {
            let field = format!("spec.blocks[{index}]");
            let Some(range) = range(build, &owner, block, &field) else { continue };
            if taken.take(build, (&owner, &field), range) {
                blocks.extend(without_nodes(build, (&owner, &field), range, &nodes));
            }
        }
        if object.spec.blocks.is_empty() {
            let message = "holds no block, so it has no address; add one";
            build.problem(&owner, (Code::FieldInvalid, Severity::Warning), ("spec.blocks", ""), message);
        }
        let serving = nodes.of_pool(&key.name);
        if serving.is_empty() && nodes.are_known() {
            // A pool that is meant for others must not be served by all.
            blocks.clear();
            unselected(build, &owner, object);
        }
        blocks.sort();
        pools.push(Pool {
            name: key.name.clone(),
            blocks,
            announce: announce(build, &owner, &object.spec),
            encapsulation: encapsulation(build, &owner, &object.spec),
            nodes: serving,
        });
    }
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    pools
}

/// Says why no node serves a pool.
fn unselected(build: &mut Build<'_>, owner: &ObjectRef, object: &crd::AddressPool) {
    let (severity, message) = match members::selector(object) {
        Ok(_) => (
            Severity::Warning,
            "selects none of the nodes, so the addresses are not served; label nodes, or correct it"
                .to_owned(),
        ),
        Err(reason) => (
            Severity::Error,
            format!("{reason}, so it selects no node, and the addresses are not served; correct it"),
        ),
    };
    build.problem(owner, (Code::FieldInvalid, severity), ("spec.nodeSelector", ""), message);
}

/// The blocks of pools that were looked at before.
#[derive(Default)]
struct Taken {
    blocks: Vec<(AddressRange, String)>,
    count: u128,
}

impl Taken {
    /// Whether the pool may have the block.
    fn take(
        &mut self,
        build: &mut Build<'_>,
        (owner, field): (&ObjectRef, &str),
        range: AddressRange,
    ) -> bool {
        let shown = format!("{}-{}", range.first, range.last);
        let overlaps =
            |(other, _): &&(AddressRange, String)| range.first <= other.last && other.first <= range.last;
        if let Some((other, winner)) = self.blocks.iter().find(overlaps) {
            let whose =
                if *winner == owner.name { "this pool".into() } else { format!("AddressPool {winner}") };
            let message = format!(
                "overlaps {}-{} of {whose}, which keeps its addresses; this block is not served; remove the overlap",
                other.first, other.last
            );
            build.problem(owner, (Code::Conflict, Severity::Error), (field, &shown), message);
            return false;
        }
        if self.count + range.count() > MOST_ADDRESSES {
            let message = format!(
                "all pools together would hold more than the {MOST_ADDRESSES} addresses that can be served; this \
                 block is not served; make the blocks smaller"
            );
            build.problem(owner, (Code::FieldInvalid, Severity::Error), (field, &shown), message);
            return false;
        }
        self.count += range.count();
        self.blocks.push((range, owner.name.clone()));
        true
    }
}

/// What is left of a block without the addresses of nodes, each of which is a Problem.
fn without_nodes(
    build: &mut Build<'_>,
    (owner, field): (&ObjectRef, &str),
    range: AddressRange,
    nodes: &Nodes,
) -> Vec<AddressRange> {
    let mut left = vec![range];
    for (address, node) in nodes.addresses().filter(|(address, _)| range.contains(*address)) {
        let message = format!(
            "is the address of Node {node}; it stays the node's and is none of the pool; leave it out of the block"
        );
        build.problem(owner, (Code::Conflict, Severity::Error), (field, &address.to_string()), message);
        left = left.into_iter().flat_map(|range| without(range, address)).collect();
    }
    left
}

/// The addresses of a block, in order.
pub(in crate::translate) fn addresses(block: &AddressRange) -> Box<dyn Iterator<Item = IpAddr>> {
    match (block.first, block.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Box::new((first.to_bits()..=last.to_bits()).map(|bits| IpAddr::V4(bits.into())))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Box::new((first.to_bits()..=last.to_bits()).map(|bits| IpAddr::V6(bits.into())))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// The range without one address.
fn without(range: AddressRange, address: IpAddr) -> Vec<AddressRange> {
    if !range.contains(address) {
        return vec![range];
    }
    let (before, after) = match address {
        IpAddr::V4(v4) => {
            let step = |bits: Option<u32>| bits.map(|bits| IpAddr::V4(bits.into()));
            (step(v4.to_bits().checked_sub(1)), step(v4.to_bits().checked_add(1)))
        }
        IpAddr::V6(v6) => {
            let step = |bits: Option<u128>| bits.map(|bits| IpAddr::V6(bits.into()));
            (step(v6.to_bits().checked_sub(1)), step(v6.to_bits().checked_add(1)))
        }
    };
    let lower = before.map(|last| AddressRange { last, ..range });
    let upper = after.map(|first| AddressRange { first, ..range });
    [lower, upper].into_iter().flatten().filter(|range| range.first <= range.last).collect()
}

fn announce(build: &mut Build<'_>, owner: &ObjectRef, spec: &crd::AddressPoolSpec) -> Announce {
    match spec.announce.as_deref() {
        None | Some("L2") => Announce::L2,
        Some("None") => Announce::None,
        Some(other) => {
            one_of(build, owner, ("spec.announce", other), &["L2", "None"], "None");
            Announce::None
        }
    }
}

fn encapsulation(build: &mut Build<'_>, owner: &ObjectRef, spec: &crd::AddressPoolSpec) -> Encapsulation {
    match spec.encapsulation.as_deref() {
        None | Some("UDP") => Encapsulation::Udp,
        Some("IPIP") => Encapsulation::Ipip,
        Some(other) => {
            one_of(build, owner, ("spec.encapsulation", other), &["UDP", "IPIP"], "UDP");
            Encapsulation::Udp
        }
    }
}

/// A word that is none of those that the field may have.
fn one_of(build: &mut Build<'_>, owner: &ObjectRef, at: (&str, &str), words: &[&str], taken: &str) {
    let hint = suggest(at.1, words.iter().copied())
        .map_or_else(|| "correct it".to_owned(), |near| format!("did you mean {near}?"));
    let message = format!("is none of {}; read as {taken}; {hint}", words.join(" and "));
    build.problem(owner, (Code::FieldInvalid, Severity::Warning), at, message);
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
    if range.count() > MOST_ADDRESSES {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_out_of_a_range() {
        let range = |first: &str, last: &str| AddressRange {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        };
        let whole = range("198.18.0.1", "198.18.0.3");
        for (address, left) in [
            ("198.18.0.1", vec![range("198.18.0.2", "198.18.0.3")]),
            ("198.18.0.2", vec![range("198.18.0.1", "198.18.0.1"), range("198.18.0.3", "198.18.0.3")]),
            ("198.18.0.3", vec![range("198.18.0.1", "198.18.0.2")]),
            ("198.18.0.4", vec![whole]),
            ("2001:db8::1", vec![whole]),
        ] {
            assert_eq!(without(whole, address.parse().unwrap()), left, "{address}");
        }
        let one = range("2001:db8::1", "2001:db8::1");
        assert_eq!(without(one, one.first), []);
    }
}
