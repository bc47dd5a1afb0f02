//! How other nodes are reached: interface, our address, the next hop's hardware address, MTU, VLAN; as rtnetlink says it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::netlink::{NetlinkError, converse};

/// The way to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The interface that packets leave by, as the programs see it: of a VLAN, the one beneath.
    pub interface: u32,
    /// Our address.
    pub source: Option<IpAddr>,
    /// Of the next hop, once it is known.
    pub mac: Option<[u8; 6]>,
    /// Of our interface.
    pub source_mac: [u8; 6],
    /// Bytes that an IP packet may have.
    pub mtu: u16,
    /// Tag of the frames; 0: none.
    pub vlan: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    mac: [u8; 6],
    mtu: u16,
    vlan: u16,
    beneath: Option<u32>,
}

/// The ways to these addresses; those without a route are left out.
pub async fn hops(to: &[IpAddr]) -> Result<BTreeMap<IpAddr, Hop>, NetlinkError> {
    converse(async |handle| {
        let links = links(&handle).await?;
        let neighbours = neighbours(&handle).await?;
        let mut hops = BTreeMap::new();
        for address in to {
            let Some(route) = route(&handle, *address).await? else { continue };
            let Some(link) = links.get(&route.interface).copied() else { continue };
            let next = route.gateway.unwrap_or(*address);
            hops.insert(
                *address,
                Hop {
                    interface: if link.vlan == 0 {
                        route.interface
                    } else {
                        link.beneath.unwrap_or(route.interface)
                    },
                    source: route.source,
                    mac: neighbours.get(&(route.interface, next)).copied(),
                    source_mac: link.mac,
                    mtu: route.mtu.unwrap_or(link.mtu).min(link.mtu),
                    vlan: link.vlan,
                },
            );
        }
        Ok(hops)
    })
    .await
}

async fn links(handle: &Handle) -> Result<BTreeMap<u32, Link>, NetlinkError> {
    let mut found = BTreeMap::new();
    let mut messages = handle.link().get().execute();
    while let Some(message) = messages.try_next().await.map_err(NetlinkError::refused("list interfaces"))? {
        let mut link = Link::default();
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = u16::try_from(*mtu).unwrap_or(u16::MAX),
                LinkAttribute::Link(beneath) => link.beneath = Some(*beneath),
                LinkAttribute::LinkInfo(infos) => link.vlan = infos.iter().find_map(vlan).unwrap_or(0),
                _ => {}
            }
        }
        found.insert(message.header.index, link);
    }
    Ok(found)
}

fn vlan(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vlan(data)) = info else { return None };
    data.iter().find_map(|info| match info {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

async fn neighbours(handle: &Handle) -> Result<BTreeMap<(u32, IpAddr), [u8; 6]>, NetlinkError> {
    let mut found = BTreeMap::new();
    let mut messages = handle.neighbours().get().execute();
    while let Some(message) = messages.try_next().await.map_err(NetlinkError::refused("list neighbours"))? {
        if matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete) {
            continue;
        }
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                    address = Some(IpAddr::V4(*ip))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                    address = Some(IpAddr::V6(*ip))
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
                _ => {}
            }
        }
        if let (Some(address), Some(mac)) = (address, mac) {
            found.insert((message.header.ifindex, address), mac);
        }
    }
    Ok(found)
}

struct Route {
    interface: u32,
    source: Option<IpAddr>,
    gateway: Option<IpAddr>,
    mtu: Option<u16>,
}

/// The route that the kernel would take; `None` where there is none, or where it leads to this node itself.
async fn route(handle: &Handle, to: IpAddr) -> Result<Option<Route>, NetlinkError> {
    let question = match to {
        IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).build(),
        IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).build(),
    };
    let mut answers = handle.route().get(question).execute();
    // An error is the kernel's word that there is no way.
    let Ok(Some(answer)) = answers.try_next().await else { return Ok(None) };
    Ok(read_route(&answer))
}

fn read_route(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = Route { interface: 0, source: None, gateway: None, mtu: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => route.interface = *index,
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    rtnetlink::packet_route::route::RouteMetric::Mtu(mtu) => u16::try_from(*mtu).ok(),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (route.interface != 0).then_some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
