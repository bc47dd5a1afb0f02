//! The pinned maps decoded for people: addresses as text, flags by name. A file for each part of the table.

mod limits;
mod lists;
mod sockets;
mod steering;

use std::net::IpAddr;

use ingress_common::event::EventRate;
use ingress_common::flow::ip_of;
use ingress_common::maps::{IfaceVal, Meta, VipKey, VipVal};
use serde_json::{Value, json};

use super::clock::now_ns;
use super::maps::{Maps, MapsError};
use super::pins::Pins;
use super::{counters, sync};
pub use limits::limit_in_words;

/// One decoded map: column names and rows of as many values.
#[derive(Debug)]
pub struct Table {
    /// Names of the columns.
    pub columns: &'static [&'static str],
    /// The entries, in order of their keys.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    fn of<T>(
        columns: &'static [&'static str],
        entries: impl IntoIterator<Item = T>,
        row: impl FnMut(T) -> Vec<Value>,
    ) -> Self {
        Self { columns, rows: entries.into_iter().map(row).collect() }
    }
}

/// Decodes a map; `None`: the kernel shows nothing of it, or no such map exists.
pub fn dump(maps: &Maps, pins: &Pins, name: &str) -> Result<Option<Table>, MapsError> {
    Ok(Some(match name {
        "meta" => meta(maps)?,
        "vips" => vips(maps)?,
        "acl4" => lists::acl4(maps)?,
        "acl6" => lists::acl6(maps)?,
        "acl4_bits" => lists::acl4_bits(maps)?,
        "acl6_bits" => lists::acl6_bits(maps)?,
        "acl_hits" => lists::acl_hits(maps)?,
        "limits" => limits::limits(maps)?,
        "gate" => limits::gate(maps)?,
        "globals" => limits::globals(maps)?,
        "buckets" => limits::buckets(maps)?,
        "bans" => limits::bans(maps)?,
        "strikes" => limits::strikes(maps)?,
        "ban_asks" => limits::ban_asks(pins)?,
        "stats" => stats(maps)?,
        "cluster" => steering::cluster(maps)?,
        "pools" => steering::pools(pins)?,
        "nodes" => steering::nodes(maps)?,
        "node_seen" => steering::node_seen(maps)?,
        "peers" => steering::peers(maps)?,
        "node_stats" => steering::node_stats(maps)?,
        "ifaces" => ifaces(maps)?,
        "egress" => egress(maps)?,
        "listen" => sockets::listen(maps)?,
        "listen_seen" => sockets::listen_seen(maps)?,
        // The kernel shows no sockets; what stands in their place is the same.
        "slots" | "socks" => sockets::slots(maps)?,
        "assigned" => sockets::assigned(maps)?,
        "groups" => sockets::groups(maps)?,
        "lk_stats" => sockets::lk_stats(maps)?,
        "event_rate" => event_rate(maps)?,
        _ => return Ok(None),
    }))
}

fn meta(maps: &Maps) -> Result<Table, MapsError> {
    let meta = maps.meta.get(&0, 0).map_err(MapsError::of("meta"))?;
    let ago = now_ns().saturating_sub(meta.heartbeat_ns) / 1_000_000;
    // Without the key: whoever sees a screen need not know it.
    Ok(Table::of(
        &["layout", "flags", "epoch", "heartbeat_ns", "heartbeat_ms_ago", "build"],
        [meta],
        |meta| {
            vec![
                json!(meta.layout),
                json!(flag_names(meta.flags, &[(Meta::ENDED, "ended")])),
                json!(meta.epoch),
                json!(meta.heartbeat_ns),
                json!(ago),
                json!(build(&meta.build)),
            ]
        },
    ))
}

fn vips(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] =
        &["address", "port", "protocol", "vip_id", "flags", "scope", "limits", "pool", "mss"];
    Ok(Table::of(COLUMNS, sync::read_hash(&maps.vips, "vips")?, |(key, value): (VipKey, VipVal)| {
        let mut row = key_cells(&key);
        row.extend([json!(value.vip_id), json!(vip_flags(value.flags)), json!(value.scope)]);
        row.extend([
            json!(format!("{}+{}", value.first_limit, value.limits)),
            json!(value.pool),
            json!(value.mss),
        ]);
        row
    }))
}

fn stats(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["address", "reason", "action", "packets", "bytes"];
    Ok(Table::of(COLUMNS, counters::packets(maps)?, |count| {
        vec![
            json!(count.address),
            json!(count.reason),
            json!(count.action),
            json!(count.packets),
            json!(count.bytes),
        ]
    }))
}

fn ifaces(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["interface", "address", "mac", "flags"];
    Ok(Table::of(COLUMNS, sync::read_hash(&maps.ifaces, "ifaces")?, |(index, value): (u32, IfaceVal)| {
        let flags = flag_names(value.flags.into(), &[(IfaceVal::MUTE.into(), "mute")]);
        vec![json!(index), json!(IpAddr::from(value.addr4)), json!(mac(value.mac)), json!(flags)]
    }))
}

fn egress(maps: &Maps) -> Result<Table, MapsError> {
    Ok(Table::of(&["client", "address", "packets", "bytes"], counters::sent(maps)?, |sent| {
        vec![json!(sent.client), json!(sent.address), json!(sent.packets), json!(sent.bytes)]
    }))
}

fn event_rate(maps: &Maps) -> Result<Table, MapsError> {
    let cpus = maps.event_rate.get(&0, 0).map_err(MapsError::of("event_rate"))?;
    let now = now_ns();
    let row = |(cpu, rate): (usize, &EventRate)| {
        let counts = [json!(rate.told), json!(rate.untold), json!(rate.untold_ever)];
        [vec![json!(cpu)], counts.to_vec(), vec![json!(rate.tat), ahead(rate.tat, now)]].concat()
    };
    let columns = &["cpu", "told", "untold", "untold_ever", "tat", "ahead_ms"];
    Ok(Table::of(columns, cpus.iter().enumerate(), row))
}

/// Milliseconds from now to a moment; 0: it is over.
fn ahead(moment_ns: u64, now_ns: u64) -> Value {
    json!(moment_ns.saturating_sub(now_ns) / 1_000_000)
}

fn key_cells(key: &VipKey) -> Vec<Value> {
    let protocol = match key.proto {
        ingress_common::flow::TCP => json!("tcp"),
        ingress_common::flow::UDP => json!("udp"),
        other => json!(other),
    };
    vec![json!(ip_of(&key.addr)), json!(key.port), protocol]
}

fn vip_flags(flags: u32) -> String {
    flag_names(
        flags,
        &[
            (VipVal::LIMIT, "limit"),
            (VipVal::ALLOW_ONLY_ALL, "allow-only-all"),
            (VipVal::ALLOW_ONLY_SCOPE, "allow-only-scope"),
            (VipVal::PAUSED, "paused"),
            (VipVal::LISTS_ALL, "lists-all"),
            (VipVal::LISTS_SCOPE, "lists-scope"),
            (VipVal::PORTS_ONLY, "ports-only"),
            (VipVal::ANNOUNCE, "announce"),
            (VipVal::LIMIT_PACKETS, "limit-packets"),
            (VipVal::QUIET, "quiet"),
            (VipVal::SYNCOOKIE, "syn-cookies"),
            (VipVal::SYNCOOKIE_ALWAYS, "always"),
            (VipVal::BANS, "bans"),
        ],
    )
}

/// Names of the bits that are set; unknown ones as a number.
fn flag_names(flags: u32, names: &[(u32, &str)]) -> String {
    let mut parts: Vec<String> =
        names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let unknown = names.iter().fold(flags, |rest, (bit, _)| rest & !bit);
    if unknown != 0 {
        parts.push(format!("{unknown:#x}"));
    }
    parts.join(",")
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// The version in `meta`.
pub fn build(bytes: &[u8; 16]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_and_unknown_bits_are_not_hidden() {
        assert_eq!(vip_flags(VipVal::LIMIT | VipVal::PAUSED), "limit,paused");
        assert_eq!(flag_names(0b1001, &[(1, "one")]), "one,0x8");
        assert_eq!(flag_names(0, &[(1, "one")]), "");
    }

    #[test]
    fn a_build_is_read_without_its_padding() {
        assert_eq!(build(b"0.1.0\0\0\0\0\0\0\0\0\0\0\0"), "0.1.0");
    }
}
