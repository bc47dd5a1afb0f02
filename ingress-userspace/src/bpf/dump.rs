//! The pinned maps decoded for people: addresses as text, flags by name.

use std::net::IpAddr;

use ingress_common::flow::{Addr, ip_of};
use ingress_common::maps::{
    AclVal, Ban, Cluster, Count, IfaceVal, Limit, NodeSeen, NodeVal, Strikes, VipKey, VipVal,
};
use ingress_common::source::{HitKey, SCOPE_BITS, SrcKey};
use serde_json::{Value, json};

use super::maps::{Maps, MapsError};
use super::{bans, counters, hits, sync};

/// One decoded map: column names and rows of as many values.
#[derive(Debug)]
pub struct Table {
    /// Names of the columns.
    pub columns: &'static [&'static str],
    /// The entries, in order of their keys.
    pub rows: Vec<Vec<Value>>,
}

/// Decodes a map; `None` when it has no readable entries (`socks`) or no such map exists.
pub fn dump(maps: &Maps, name: &str) -> Result<Option<Table>, MapsError> {
    let table = |columns, rows| Some(Table { columns, rows });
    Ok(match name {
        "meta" => {
            let meta = maps.meta.get(&0, 0).map_err(MapsError::of("meta"))?;
            let row = vec![
                json!(meta.layout),
                json!(meta.epoch),
                json!(meta.heartbeat_ns),
                json!(build(&meta.build)),
            ];
            table(&["layout", "epoch", "heartbeat_ns", "build"], vec![row])
        }
        "vips" => {
            let entry = |(key, value): (VipKey, VipVal)| {
                let limits = json!(format!("{}+{}", value.first_limit, value.limits));
                let mut row = key_cells(&key);
                row.extend([json!(value.vip_id), json!(vip_flags(value.flags)), json!(value.scope), limits]);
                row
            };
            table(
                &["address", "port", "protocol", "vip_id", "flags", "scope", "limits"],
                sync::read_hash(&maps.vips, "vips")?.into_iter().map(entry).collect(),
            )
        }
        "acl4" => {
            let entry = |((length, key), value): ((u32, ingress_common::source::Acl4Key), AclVal)| {
                acl_cells(u32::from_be_bytes(key.scope), IpAddr::from(key.addr), length, value)
            };
            table(ACL, sync::read_trie(&maps.acl4, "acl4")?.into_iter().map(entry).collect())
        }
        "acl6" => {
            let entry = |((length, key), value): ((u32, ingress_common::source::Acl6Key), AclVal)| {
                acl_cells(u32::from_be_bytes(key.scope), IpAddr::from(key.addr), length, value)
            };
            table(ACL, sync::read_trie(&maps.acl6, "acl6")?.into_iter().map(entry).collect())
        }
        "acl_hits" => {
            let entry = |(key, count): (HitKey, Count)| {
                let prefix = json!(hits::prefix(&key).to_string());
                vec![json!(key.scope), prefix, json!(count.packets), json!(count.bytes)]
            };
            let rows = hits::read(maps)?.into_iter().map(entry).collect();
            table(&["scope", "prefix", "packets", "bytes"], rows)
        }
        "limits" => {
            table(LIMIT, sync::read_array(&maps.limits, "limits")?.into_iter().map(limit_cells).collect())
        }
        "buckets" => {
            let rows = sync::read_hash(&maps.buckets, "buckets")?;
            let entry = |(key, value): (SrcKey, ingress_common::maps::Bucket)| {
                vec![json!(ip_of(&key.addr)), json!(key.bucket), json!(value.tat)]
            };
            table(&["source", "bucket", "tat"], rows.into_iter().map(entry).collect())
        }
        "bans" => {
            let entry = |(key, ban): (SrcKey, Ban)| {
                let mut row = vec![json!(bans::source(&key.addr).to_string()), json!(bans::name(&ban.name))];
                row.extend([json!(bans::kind(ban.kind)), json!(ban.since_ns), json!(ban.expires_ns)]);
                row
            };
            let rows = sync::read_hash(&maps.bans, "bans")?.into_iter().map(entry).collect();
            table(&["source", "policy", "too_many", "since_ns", "expires_ns"], rows)
        }
        "strikes" => {
            let entry = |(key, strikes): (SrcKey, Strikes)| {
                let mut row = vec![json!(bans::source(&key.addr).to_string()), json!(key.bucket)];
                row.extend([json!(strikes.drops), json!(strikes.since_ns), json!(strikes.asked_ns)]);
                row
            };
            let rows = sync::read_hash(&maps.strikes, "strikes")?.into_iter().map(entry).collect();
            table(&["source", "policy", "drops", "since_ns", "asked_ns"], rows)
        }
        "stats" => {
            let entry = |count: counters::PacketCount| {
                vec![
                    json!(count.address),
                    json!(count.reason),
                    json!(count.action),
                    json!(count.packets),
                    json!(count.bytes),
                ]
            };
            let rows = counters::packets(maps)?.into_iter().map(entry).collect();
            table(&["address", "reason", "action", "packets", "bytes"], rows)
        }
        "cluster" => {
            let cluster = maps.cluster.get(&0, 0).map_err(MapsError::of("cluster"))?;
            let tunnel = if cluster.flags & Cluster::IPIP == 0 { "UDP" } else { "IPIP" };
            table(&["me", "tunnel"], vec![vec![json!(cluster.me), json!(tunnel)]])
        }
        "nodes" => {
            let rows = sync::read_array(&maps.nodes, "nodes")?.into_iter().map(node_cells).collect();
            table(&["node", "address", "flags", "interface", "next_hop", "mtu", "recent_until_ns"], rows)
        }
        "node_seen" => {
            let entry = |(node, seen): (u32, NodeSeen)| {
                vec![json!(node), json!(seen.answered_ns), json!(seen.led_ns), json!(seen.absent_ns)]
            };
            let rows = sync::read_array(&maps.node_seen, "node_seen")?.into_iter().map(entry).collect();
            table(&["node", "answered_ns", "led_ns", "absent_ns"], rows)
        }
        "peers" => {
            let entry = |(addr, node): (Addr, u32)| vec![json!(ip_of(&addr)), json!(node)];
            table(
                &["address", "node"],
                sync::read_hash(&maps.peers, "peers")?.into_iter().map(entry).collect(),
            )
        }
        "node_stats" => {
            let entry =
                |(node, count): (u32, Count)| vec![json!(node), json!(count.packets), json!(count.bytes)];
            let rows = counters::sent_on(maps)?.into_iter().map(entry).collect();
            table(&["node", "packets", "bytes"], rows)
        }
        "ifaces" => {
            let entry = |(index, value): (u32, IfaceVal)| {
                vec![
                    json!(index),
                    json!(IpAddr::from(value.addr4)),
                    json!(mac(value.mac)),
                    json!(if value.flags & IfaceVal::MUTE == 0 { "" } else { "mute" }),
                ]
            };
            let rows = sync::read_hash(&maps.ifaces, "ifaces")?.into_iter().map(entry).collect();
            table(&["interface", "address", "mac", "flags"], rows)
        }
        "egress" => {
            let entry = |sent: counters::Sent| {
                vec![json!(sent.client), json!(sent.address), json!(sent.packets), json!(sent.bytes)]
            };
            let rows = counters::sent(maps)?.into_iter().map(entry).collect();
            table(&["client", "address", "packets", "bytes"], rows)
        }
        "listen" => {
            let entry = |(key, value): (VipKey, ingress_common::maps::ListenVal)| {
                let mut row = key_cells(&key);
                row.extend([json!(value.first_slot), json!(value.slots)]);
                row.extend([json!(value.spare_slot), json!(value.spare_slots), json!(value.port)]);
                row
            };
            table(
                &[
                    "address",
                    "port",
                    "protocol",
                    "first_slot",
                    "slots",
                    "spare_slot",
                    "spare_slots",
                    "group_port",
                ],
                sync::read_hash(&maps.listen, "listen")?.into_iter().map(entry).collect(),
            )
        }
        "slots" => {
            let entry = |(slot, value): (u32, ingress_common::maps::SlotVal)| {
                vec![json!(slot), json!(value.cookie), json!(value.pid), json!(value.handover)]
            };
            let rows = sync::read_array(&maps.slots, "slots")?.into_iter().map(entry).collect();
            table(&["slot", "cookie", "pid", "handover"], rows)
        }
        "assigned" => {
            let entry = |(slot, load): (u32, ingress_common::maps::WorkerLoad)| {
                vec![json!(slot), json!(load.published), json!(load.assigned)]
            };
            let rows = sync::read_array(&maps.assigned, "assigned")?.into_iter().map(entry).collect();
            table(&["slot", "published", "assigned"], rows)
        }
        "groups" => {
            let entry = |(key, value): (ingress_common::maps::GroupKey, ingress_common::maps::GroupVal)| {
                vec![json!(key.port), json!(key.family), json!(value.first_slot), json!(value.slots)]
            };
            let rows = sync::read_hash(&maps.groups, "groups")?.into_iter().map(entry).collect();
            table(&["port", "family", "first_slot", "slots"], rows)
        }
        "lk_stats" => {
            let rows = counters::lookups_by_slot(maps)?;
            let entry = |(slot, count): (u32, ingress_common::maps::LookupCount)| {
                vec![
                    json!(slot),
                    json!(count.lookups),
                    json!(count.misses),
                    json!(count.errors),
                    json!(count.moved),
                ]
            };
            table(&["slot", "lookups", "misses", "errors", "moved"], rows.into_iter().map(entry).collect())
        }
        "event_rate" => {
            let cpus = maps.event_rate.get(&0, 0).map_err(MapsError::of("event_rate"))?;
            let entry = |(cpu, rate): (usize, &ingress_common::event::EventRate)| {
                vec![json!(cpu), json!(rate.told), json!(rate.untold), json!(rate.untold_ever)]
            };
            table(&["cpu", "told", "untold", "untold_ever"], cpus.iter().enumerate().map(entry).collect())
        }
        _ => None,
    })
}

const ACL: &[&str] = &["scope", "prefix", "flags"];

fn node_cells((node, value): (u32, NodeVal)) -> Vec<Value> {
    let flags = flag_names(value.flags, &[(NodeVal::DRAINING, "draining"), (NodeVal::DOWN, "down")]);
    let mac = mac(value.mac);
    vec![
        json!(node),
        json!(ip_of(&value.addr)),
        json!(flags),
        json!(value.ifindex),
        json!(mac),
        json!(value.mtu),
        json!(value.recent_until_ns),
    ]
}

fn key_cells(key: &VipKey) -> Vec<Value> {
    let protocol = match key.proto {
        ingress_common::flow::TCP => json!("tcp"),
        ingress_common::flow::UDP => json!("udp"),
        other => json!(other),
    };
    vec![json!(ip_of(&key.addr)), json!(key.port), protocol]
}

const LIMIT: &[&str] = &["row", "counts", "per", "bucket", "per_second", "burst_ns"];

fn limit_cells((row, limit): (u32, Limit)) -> Vec<Value> {
    let (counts, per_second) = per_second(&limit);
    let per = if limit.per == Limit::ADDRESS { "address" } else { "source" };
    vec![
        json!(row),
        json!(counts),
        json!(per),
        json!(limit.bucket),
        json!(per_second.unwrap_or(0)),
        json!(limit.burst_ns),
    ]
}

/// What a limit counts, and how many it admits in a second.
fn per_second(limit: &Limit) -> (&'static str, Option<u64>) {
    let second = 1_000_000_000_u64;
    match limit.kind {
        Limit::CONNECTIONS => ("connections", second.checked_div(limit.rate_ns)),
        Limit::PACKETS => ("packets", second.checked_div(limit.rate_ns)),
        Limit::BYTES => ("bytes", (second << 20).checked_div(limit.rate_q20)),
        _ => ("unknown", None),
    }
}

/// A limit as a person says it.
pub fn limit_in_words(limit: &Limit) -> String {
    let (counts, per_second) = per_second(limit);
    let per = if limit.per == Limit::ADDRESS { "address" } else { "source" };
    format!("{} {counts}/s per {per}", per_second.unwrap_or(0))
}

fn acl_cells(scope: u32, address: IpAddr, length: u32, value: AclVal) -> Vec<Value> {
    let prefix = format!("{address}/{}", length.saturating_sub(SCOPE_BITS));
    let names = [(AclVal::DENY, "deny"), (AclVal::ALLOW, "allow"), (AclVal::EXEMPT, "exempt")];
    vec![json!(scope), json!(prefix), json!(flag_names(value.flags.into(), &names))]
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
