//! The pinned maps decoded for people: addresses as text, flags by name.

use std::net::IpAddr;

use ingress_common::flow::ip_of;
use ingress_common::maps::{AclVal, VipKey, VipVal};
use ingress_common::source::SCOPE_BITS;
use serde_json::{Value, json};

use super::maps::{Maps, MapsError};
use super::{counters, sync};

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
        "limits" => {
            let rows = sync::read_array(&maps.limits, "limits")?;
            let entry = |(row, limit): (u32, ingress_common::maps::Limit)| {
                let per_second = 1_000_000_000_u64.checked_div(limit.rate_ns).unwrap_or(0);
                vec![
                    json!(row),
                    json!(limit.bucket),
                    json!(limit.rate_ns),
                    json!(limit.burst_ns),
                    json!(per_second),
                ]
            };
            table(
                &["row", "bucket", "rate_ns", "burst_ns", "per_second"],
                rows.into_iter().map(entry).collect(),
            )
        }
        "buckets" => {
            let rows = sync::read_hash(&maps.buckets, "buckets")?;
            let entry = |(key, value): (ingress_common::source::SrcKey, ingress_common::maps::Bucket)| {
                vec![json!(ip_of(&key.addr)), json!(key.bucket), json!(value.tat)]
            };
            table(&["source", "bucket", "tat"], rows.into_iter().map(entry).collect())
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
        "listen" => {
            let entry = |(key, value): (VipKey, ingress_common::maps::ListenVal)| {
                let mut row = key_cells(&key);
                row.extend([json!(value.first_slot), json!(value.slots), json!(value.port)]);
                row
            };
            table(
                &["address", "port", "protocol", "first_slot", "slots", "group_port"],
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
        "lk_stats" => {
            let rows = counters::lookups_by_slot(maps)?;
            let entry = |(slot, count): (u32, ingress_common::maps::LookupCount)| {
                vec![json!(slot), json!(count.lookups), json!(count.misses), json!(count.errors)]
            };
            table(&["slot", "lookups", "misses", "errors"], rows.into_iter().map(entry).collect())
        }
        _ => None,
    })
}

const ACL: &[&str] = &["scope", "prefix", "flags"];

fn key_cells(key: &VipKey) -> Vec<Value> {
    let protocol = match key.proto {
        ingress_common::flow::TCP => json!("tcp"),
        ingress_common::flow::UDP => json!("udp"),
        other => json!(other),
    };
    vec![json!(ip_of(&key.addr)), json!(key.port), protocol]
}

fn acl_cells(scope: u32, address: IpAddr, length: u32, value: AclVal) -> Vec<Value> {
    let prefix = format!("{address}/{}", length.saturating_sub(SCOPE_BITS));
    let names = [(AclVal::DENY, "deny"), (AclVal::ALLOW, "allow"), (AclVal::EXEMPT, "exempt")];
    vec![json!(scope), json!(prefix), json!(flag_names(value.flags, &names))]
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
