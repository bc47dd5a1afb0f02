//! The interfaces of this network namespace: which carry the node's addresses, and what XDP runs on them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::packet_route::route::RouteAttribute;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::netlink::{NetlinkError, converse};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address; zeros: it has none, or one of another length.
    pub mac: [u8; 6],
    /// Its addresses, link-local ones left out.
    pub addresses: Vec<IpAddr>,
    /// The XDP program that runs on it, whoever attached it.
    pub xdp: Option<AttachedXdp>,
    /// What decides whether it is one of the node's own.
    pub nature: Nature,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// Number of the program.
    pub program: u32,
    /// Where it runs.
    pub mode: XdpMode,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

/// What sort of interface it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// Administratively up.
    pub is_up: bool,
    /// The loopback interface.
    pub is_loopback: bool,
    /// A default route leads through it.
    pub has_default_route: bool,
    /// Made in software to join containers or hosts (bridge, tunnel, dummy, …).
    pub is_overlay: bool,
    /// Its packets come without an Ethernet header (WireGuard, tun): the XDP program could not read them.
    pub is_bare: bool,
    /// What XDP in the driver sends back by it is lost: it is a veth, and its other end runs no XDP program (or cannot be
    /// asked), so that the kernel prepared no queue for such packets there.
    pub is_mute: bool,
}

impl Interface {
    /// Whether it carries the node's addresses, as far as can be told: it has one, and it either leads to the default
    /// gateway or is no software overlay as container networks make them.
    pub fn is_of_node(&self) -> bool {
        let Nature { is_up, is_loopback, has_default_route, is_overlay, is_bare, .. } = self.nature;
        is_up && !is_loopback && !is_bare && !self.addresses.is_empty() && (has_default_route || !is_overlay)
    }
}

/// All interfaces, by index.
pub async fn interfaces() -> Result<Vec<Interface>, NetlinkError> {
    converse(async |handle| {
        let mut interfaces = Vec::new();
        let mut veths = Vec::new();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(NetlinkError::refused("list interfaces"))? {
            interfaces.push(interface(&link));
            veths.extend(is_veth(&link).then(|| (link.header.index, other_end(&link))));
        }
        for (index, end) in veths {
            let runs_xdp = match end {
                Some(end) => runs_xdp(&handle, end).await,
                None => false,
            };
            if let Some(interface) = interfaces.iter_mut().find(|i| i.index == index) {
                interface.nature.is_mute = !runs_xdp;
            }
        }
        let mut addresses = handle.address().get().execute();
        while let Some(message) =
            addresses.try_next().await.map_err(NetlinkError::refused("list addresses"))?
        {
            let Some(interface) = interfaces.iter_mut().find(|i| i.index == message.header.index) else {
                continue;
            };
            // IFA_LOCAL is the address of this end of a point-to-point link, IFA_ADDRESS the other end's.
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let address = local.or(message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            }));
            if let Some(address) = address
                && message.header.scope != AddressScope::Link
            {
                interface.addresses.push(address);
            }
        }
        let default_routes =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        let mut uplinks = BTreeSet::new();
        for question in default_routes {
            let mut routes = handle.route().get(question).execute();
            while let Some(route) = routes.try_next().await.map_err(NetlinkError::refused("list routes"))? {
                if route.header.destination_prefix_length == 0 {
                    uplinks.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                        RouteAttribute::Oif(index) => Some(*index),
                        _ => None,
                    }));
                }
            }
        }
        for interface in &mut interfaces {
            interface.addresses.sort_unstable();
            interface.addresses.dedup();
            interface.nature.has_default_route = uplinks.contains(&interface.index);
        }
        interfaces.sort_unstable_by_key(|interface| interface.index);
        Ok(interfaces)
    })
    .await
}

fn interface(link: &LinkMessage) -> Interface {
    let mut name = format!("#{}", link.header.index);
    let mut mac = [0; 6];
    let mut xdp = None;
    let mut is_overlay = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Address(address) => mac = address.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Xdp(attributes) => xdp = attached_xdp(attributes),
            LinkAttribute::LinkInfo(infos) => {
                is_overlay =
                    infos.iter().any(|info| matches!(info, LinkInfo::Kind(kind) if is_overlay_kind(kind)));
            }
            _ => {}
        }
    }
    let flags = link.header.flags;
    Interface {
        index: link.header.index,
        name,
        mac,
        addresses: Vec::new(),
        xdp,
        nature: Nature {
            is_up: flags.contains(LinkFlags::Up),
            is_loopback: flags.contains(LinkFlags::Loopback),
            has_default_route: false,
            is_overlay,
            is_bare: link.header.link_layer_type != LinkLayerType::Ether,
            is_mute: false,
        },
    }
}

fn is_veth(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos)
            if infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth))))
    })
}

/// The other end of a veth: its number, and the kernel's number here of the network namespace that it is in, if that is
/// another one.
fn other_end(link: &LinkMessage) -> Option<(u32, Option<i32>)> {
    let namespace = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(id) => Some(*id),
        _ => None,
    });
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some((*index, namespace)),
        _ => None,
    })
}

/// Whether an interface, maybe of another network namespace, runs an XDP program. One that must not be looked at does not.
async fn runs_xdp(handle: &Handle, (index, namespace): (u32, Option<i32>)) -> bool {
    let mut request = handle.link().get().match_index(index);
    if let Some(namespace) = namespace {
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(namespace));
    }
    let Ok(Some(link)) = request.execute().try_next().await else { return false };
    link.attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::Xdp(of) if attached_xdp(of).is_some()))
}

fn attached_xdp(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
    let program = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
            Some(*id)
        }
        _ => None,
    })?;
    let is_generic = attributes.iter().any(|a| matches!(a, LinkXdp::Attached(XdpAttached::SocketBuffer)));
    Some(AttachedXdp { program, mode: if is_generic { XdpMode::Generic } else { XdpMode::Native } })
}

/// Kinds that container networks, tunnels and tests make. A veth is none of them: it is the NIC of a node in a
/// namespace.
fn is_overlay_kind(kind: &InfoKind) -> bool {
    !matches!(
        kind,
        InfoKind::Veth
            | InfoKind::Vlan
            | InfoKind::Bond
            | InfoKind::Team
            | InfoKind::MacVlan
            | InfoKind::IpVlan
            | InfoKind::Vrf
    )
}

/// The addresses of the node itself: of every interface that is up, 127.0.0.1 and ::1 included.
pub fn node_addresses(interfaces: &[Interface]) -> BTreeSet<IpAddr> {
    let up = interfaces.iter().filter(|interface| interface.nature.is_up);
    up.flat_map(|interface| &interface.addresses).copied().filter(|a| !a.is_multicast()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(nature: Nature, address: &str) -> Interface {
        let addresses = address.parse().into_iter().collect();
        Interface { index: 2, name: "eth0".into(), mac: [2, 0, 0, 0, 0, 1], addresses, xdp: None, nature }
    }

    #[test]
    fn the_nodes_interfaces_are_told_from_those_of_container_networks() {
        let nic = Nature { is_up: true, ..Nature::default() };
        let cases = [
            ("a NIC with an address", with(nic, "198.18.0.2"), true),
            ("a NIC without one", with(nic, ""), false),
            ("a NIC that is down", with(Nature { is_up: false, ..nic }, "198.18.0.2"), false),
            ("a tunnel without Ethernet", with(Nature { is_bare: true, ..nic }, "198.18.0.2"), false),
            ("loopback", with(Nature { is_loopback: true, ..nic }, "127.0.0.1"), false),
            ("the bridge of containers", with(Nature { is_overlay: true, ..nic }, "198.18.0.2"), false),
            (
                "the bridge that the node's NIC is a port of",
                with(Nature { is_overlay: true, has_default_route: true, ..nic }, "198.18.0.2"),
                true,
            ),
        ];
        for (name, interface, expected) in cases {
            assert_eq!(interface.is_of_node(), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn loopback_is_found_with_its_addresses() {
        let interfaces = interfaces().await.unwrap();
        let lo = interfaces.iter().find(|i| i.nature.is_loopback).unwrap();
        assert_eq!(lo.name, "lo");
        assert!(lo.addresses.contains(&"127.0.0.1".parse().unwrap()), "{:?}", lo.addresses);
        assert_eq!(lo.xdp, None);
    }
}
