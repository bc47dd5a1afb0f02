//! Local routes of the VIPs: what makes the kernel take packets for an address that no interface has.
//!
//! `ip route add local VIP dev lo` is required (without it the packet is dropped in silence) and sufficient. Ours are
//! marked with a routing protocol number of our own, so that they are told from everyone else's.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ingress_common::flow::ip_of;
use ingress_common::maps::{VipKey, VipVal};
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::netlink::{NetlinkError, converse};
use crate::compile::maps::MapContents;

/// The number of our routes in `ip route show table local proto 74`; nobody has registered it.
pub const PROTOCOL: u8 = 74;

/// Table `local`.
const LOCAL: u8 = 255;

/// The prefixes that cover the VIPs in these map contents and no other address. Only what is served becomes local: a
/// pool that is far too large must not take half of the network away from the node.
pub fn desired(contents: &MapContents) -> BTreeSet<IpNet> {
    // A node's own address (`PORTS_ONLY`) is local anyway.
    let is_vip = |key: &VipKey, value: &VipVal| key.port == 0 && value.flags & VipVal::PORTS_ONLY == 0;
    let vips = contents.vips.iter().filter(|(key, value)| is_vip(key, value));
    let single: Vec<IpNet> = vips.map(|(key, _)| IpNet::from(ip_of(&key.addr))).collect();
    IpNet::aggregate(&single).into_iter().collect()
}

/// What [`apply`] did.
#[derive(Debug, Default)]
pub struct RouteChanges {
    /// Prefixes that became local.
    pub added: Vec<IpNet>,
    /// Prefixes that no longer are.
    pub removed: Vec<IpNet>,
    /// Prefixes that the kernel refused, each with its reason; they do not keep others back.
    pub refused: Vec<(IpNet, NetlinkError)>,
}

/// Which routes may go when they are not desired.
#[derive(Clone, Copy, Debug)]
pub enum Removable<'a> {
    /// All with our mark, whichever process made them: for who owns the node's kernel half.
    Marked,
    /// Only these: for a process beside which another may serve.
    Only(&'a BTreeSet<IpNet>),
}

/// Makes our routes those that are desired: adds first, then removes.
pub async fn apply(
    desired: &BTreeSet<IpNet>,
    removable: Removable<'_>,
) -> Result<RouteChanges, NetlinkError> {
    converse(async |handle| {
        let present = present(&handle).await?;
        let mut changes = RouteChanges::default();
        for prefix in desired.difference(&present) {
            let message = message(&handle, *prefix).await?;
            let what = format!("add the local route of {prefix}");
            match handle.route().add(message).execute().await {
                Ok(()) => changes.added.push(*prefix),
                Err(error) => changes.refused.push((*prefix, NetlinkError::refused(what)(error))),
            }
        }
        let may_go = |prefix: &&IpNet| match removable {
            Removable::Marked => true,
            Removable::Only(known) => known.contains(*prefix),
        };
        for prefix in present.difference(desired).filter(may_go) {
            let message = message(&handle, *prefix).await?;
            let what = format!("remove the local route of {prefix}");
            match handle.route().del(message).execute().await {
                Ok(()) => changes.removed.push(*prefix),
                Err(error) => changes.refused.push((*prefix, NetlinkError::refused(what)(error))),
            }
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
    use ingress_common::flow::{TCP, addr_of};

    use super::*;

    fn routes(addresses: &[(&str, u32)]) -> Vec<String> {
        let mut contents = MapContents::default();
        for (address, flags) in addresses {
            let addr = addr_of(address.parse().unwrap());
            let value = VipVal { vip_id: 1, flags: *flags, ..VipVal::default() };
            contents.vips.insert(VipKey::address(addr), value);
            contents.vips.insert(VipKey::served(addr, 80, TCP), value);
        }
        desired(&contents).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn vips_become_the_fewest_prefixes_and_no_address_beside_them() {
        assert_eq!(routes(&[("198.18.100.7", 0)]), ["198.18.100.7/32"]);
        let three = [("198.18.100.1", 0), ("198.18.100.2", 0), ("198.18.100.3", 0)];
        assert_eq!(routes(&three), ["198.18.100.1/32", "198.18.100.2/31"]);
        assert_eq!(routes(&[("2001:db8::10", 0), ("2001:db8::11", 0)]), ["2001:db8::10/127"]);
    }

    #[test]
    fn an_address_of_the_node_needs_no_route() {
        assert_eq!(routes(&[("198.18.0.1", VipVal::PORTS_ONLY)]), Vec::<String>::new());
    }
}
