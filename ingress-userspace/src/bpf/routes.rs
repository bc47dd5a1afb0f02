//! Local routes of the VIPs: what makes the kernel take packets for an address that no interface has.
//!
//! `ip route add local VIP dev lo` is required (without it the packet is dropped in silence) and sufficient. Ours are
//! marked with a routing protocol number of our own, so that they are told from everyone else's.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::netlink::{NetlinkError, converse};
use crate::model::edge::{AddressRange, Edge};

/// The number of our routes in `ip route show table local proto 74`; nobody has registered it.
pub const PROTOCOL: u8 = 74;

/// Table `local`.
const LOCAL: u8 = 255;

/// The prefixes that cover the pools' addresses and no other.
pub fn desired(edge: &Edge) -> BTreeSet<IpNet> {
    edge.pools.iter().flat_map(|pool| &pool.blocks).flat_map(|range| prefixes(*range)).collect()
}

fn prefixes(range: AddressRange) -> Vec<IpNet> {
    match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            ipnet::Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            ipnet::Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        // A range of two families does not leave translation.
        _ => Vec::new(),
    }
}

/// What [`apply`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteChanges {
    /// Prefixes that became local.
    pub added: Vec<IpNet>,
    /// Prefixes that no longer are.
    pub removed: Vec<IpNet>,
}

/// Makes our routes those that are desired: adds first, then removes.
pub async fn apply(desired: &BTreeSet<IpNet>) -> Result<RouteChanges, NetlinkError> {
    converse(async |handle| {
        let present = present(&handle).await?;
        let mut changes = RouteChanges::default();
        for prefix in desired.difference(&present) {
            let message = message(&handle, *prefix).await?;
            let what = format!("add the local route of {prefix}");
            handle.route().add(message).execute().await.map_err(NetlinkError::refused(what))?;
            changes.added.push(*prefix);
        }
        for prefix in present.difference(desired) {
            let message = message(&handle, *prefix).await?;
            let what = format!("remove the local route of {prefix}");
            handle.route().del(message).execute().await.map_err(NetlinkError::refused(what))?;
            changes.removed.push(*prefix);
        }
        Ok(changes)
    })
    .await
}

async fn present(handle: &Handle) -> Result<BTreeSet<IpNet>, NetlinkError> {
    let questions =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    let mut found = BTreeSet::new();
    for question in questions {
        let mut routes = handle.route().get(question).execute();
        while let Some(route) = routes.try_next().await.map_err(NetlinkError::refused("list routes"))? {
            if route.header.protocol == RouteProtocol::Other(PROTOCOL)
                && route.header.kind == RouteType::Local
            {
                found.extend(prefix(&route));
            }
        }
    }
    Ok(found)
}

fn prefix(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    IpNet::new(address, length).ok()
}

async fn message(handle: &Handle, prefix: IpNet) -> Result<RouteMessage, NetlinkError> {
    let mut links = handle.link().get().match_name("lo".to_owned()).execute();
    let lo = links.try_next().await.map_err(NetlinkError::refused("find the loopback interface"))?;
    let index = lo.map_or(1, |link| link.header.index);
    let mut message = match prefix {
        IpNet::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .output_interface(index)
            .build(),
        IpNet::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .output_interface(index)
            .build(),
    };
    let RouteHeader { table, protocol, scope, kind, .. } = &mut message.header;
    (*table, *protocol, *scope, *kind) =
        (LOCAL, RouteProtocol::Other(PROTOCOL), RouteScope::Host, RouteType::Local);
    if prefix.addr().is_ipv6() {
        // IPv6 routes have no scope.
        message.header.scope = RouteScope::Universe;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edge::Pool;

    fn routes(first: &str, last: &str) -> Vec<String> {
        let blocks = vec![AddressRange { first: first.parse().unwrap(), last: last.parse().unwrap() }];
        let edge = Edge { pools: vec![Pool { name: "p".into(), blocks }], policies: vec![] };
        desired(&edge).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_becomes_the_fewest_prefixes_and_no_address_beside_it() {
        assert_eq!(routes("198.18.100.0", "198.18.100.15"), ["198.18.100.0/28"]);
        assert_eq!(routes("198.18.100.1", "198.18.100.3"), ["198.18.100.1/32", "198.18.100.2/31"]);
        assert_eq!(routes("198.18.100.7", "198.18.100.7"), ["198.18.100.7/32"]);
        assert_eq!(routes("2001:db8::10", "2001:db8::1f"), ["2001:db8::10/124"]);
    }
}
