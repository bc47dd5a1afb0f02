//! What programs must know of the interfaces that they run on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ingress_common::maps::IfaceVal;
use tracing::warn;

use super::interfaces::Interface;
use super::maps::{Maps, MapsError};
use super::sync;
use crate::error_chain::chain;

/// Fills the map `ifaces`; `is_native` says where the program runs in the driver.
pub(super) fn fill_ifaces(
    maps: &mut Maps,
    interfaces: &[Interface],
    is_native: impl Fn(&Interface) -> bool,
) -> Result<(), MapsError> {
    let value = |interface: &Interface| {
        let own = interface.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(address.octets()),
            IpAddr::V6(_) => None,
        });
        let flags = if interface.nature.is_mute && is_native(interface) { IfaceVal::MUTE } else { 0 };
        IfaceVal { addr4: own.unwrap_or_default(), mac: interface.mac, flags }
    };
    let desired = interfaces.iter().map(|interface| (interface.index, value(interface))).collect();
    let synced = sync::apply_hash(&mut maps.ifaces, "ifaces", &desired)?;
    for (map, entries, error) in synced.refused {
        warn!(map, entries, error = %chain(&error), "the kernel refused entries of interfaces");
    }
    Ok(())
}

/// Whether the maps name another node that packets may be sent on to.
pub(super) fn steers(maps: &Maps) -> Result<bool, MapsError> {
    let nodes: BTreeSet<u32> = sync::read_hash(&maps.peers, "peers")?.into_values().collect();
    Ok(nodes.len() > 1)
}
