//! Limits, what was used of them, and what they lead to.

use std::os::fd::AsFd as _;

use ingress_common::flow::ip_of;
use ingress_common::maps::{
    Ban, BanAsk, Bucket, GATE_SLOTS, GLOBALS, Limit, NEW_SOURCES_ROW, NEW_STRIKES_ROW, Strikes,
};
use ingress_common::source::SrcKey;
use serde_json::json;

use super::{Table, ahead};
use crate::bpf::clock::now_ns;
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::pins::Pins;
use crate::bpf::{bans, sync, syscall, words};

pub(super) fn limits(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] =
        &["row", "counts", "per", "bucket", "per_second", "burst_ns", "ban_after", "ban_within_ns", "policy"];
    Ok(Table::of(COLUMNS, sync::read_array(&maps.limits, "limits")?, |(row, limit): (u32, Limit)| {
        let (counts, per_second) = per_second(&limit);
        vec![
            json!(row),
            json!(counts),
            json!(per(&limit)),
            json!(limit.bucket),
            json!(per_second.unwrap_or(0)),
            json!(limit.burst_ns),
            json!(limit.ban_after),
            json!(limit.ban_within_ns),
            json!(limit.policy),
        ]
    }))
}

/// Slots that were used.
pub(super) fn gate(maps: &Maps) -> Result<Table, MapsError> {
    let words = words::read_rows(&maps.gate, GATE_SLOTS, 2).map_err(MapsError::of("gate"))?;
    let now = now_ns();
    let (slots, _) = words.as_chunks::<2>();
    let used = (0_u32..).zip(slots).filter(|(_, slot)| **slot != [0, 0]);
    Ok(Table::of(
        &["slot", "tat", "ahead_ms", "apart_until", "apart_ms"],
        used,
        |(slot, [tat, apart_until])| {
            vec![json!(slot), json!(tat), ahead(*tat, now), json!(apart_until), ahead(*apart_until, now)]
        },
    ))
}

pub(super) fn globals(maps: &Maps) -> Result<Table, MapsError> {
    let now = now_ns();
    let mut rows = Vec::new();
    for row in 0..GLOBALS {
        rows.push((row, maps.globals.get(&row, 0).map_err(MapsError::of("globals"))?));
    }
    let rows = rows.into_iter().filter_map(|(row, tat)| Some((row, limited(row)?, tat)));
    Ok(Table::of(&["row", "limits", "tat", "ahead_ms"], rows, |(row, limits, tat)| {
        vec![json!(row), json!(limits), json!(tat), ahead(tat, now)]
    }))
}

/// What a row of `globals` limits; `None`: it is not used.
fn limited(row: u32) -> Option<&'static str> {
    match row {
        NEW_SOURCES_ROW => Some("sources that get a bucket"),
        NEW_STRIKES_ROW => Some("sources that get an entry of strikes"),
        _ => None,
    }
}

pub(super) fn buckets(maps: &Maps) -> Result<Table, MapsError> {
    let now = now_ns();
    let rows = sync::read_hash(&maps.buckets, "buckets")?;
    Ok(Table::of(
        &["source", "bucket", "tat", "ahead_ms"],
        rows,
        |(key, Bucket { tat }): (SrcKey, Bucket)| {
            vec![json!(ip_of(&key.addr)), json!(key.bucket), json!(tat), ahead(tat, now)]
        },
    ))
}

pub(super) fn bans(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["source", "policy", "too_many", "since_ns", "expires_ns", "left_ms"];
    let now = now_ns();
    Ok(Table::of(COLUMNS, sync::read_hash(&maps.bans, "bans")?, |(key, ban): (SrcKey, Ban)| {
        vec![
            json!(bans::source(&key.addr).to_string()),
            json!(bans::name(&ban.name)),
            json!(bans::kind(ban.kind)),
            json!(ban.since_ns),
            json!(ban.expires_ns),
            ahead(ban.expires_ns, now),
        ]
    }))
}

pub(super) fn strikes(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["source", "policy", "drops", "since_ns", "asked_ns"];
    let rows = sync::read_hash(&maps.strikes, "strikes")?;
    Ok(Table::of(COLUMNS, rows, |(key, strikes): (SrcKey, Strikes)| {
        vec![
            json!(bans::source(&key.addr).to_string()),
            json!(key.bucket),
            json!(strikes.drops),
            json!(strikes.since_ns),
            json!(strikes.asked_ns),
        ]
    }))
}

/// The one that the agent takes out next: a queue shows no more.
pub(super) fn ban_asks(pins: &Pins) -> Result<Table, MapsError> {
    let failed = |call| move |error| MapsError::of("ban_asks")(words::failed(call)(error));
    let queue = syscall::open_pin(&pins.map("ban_asks")).map_err(failed("bpf_obj_get"))?;
    let mut value = [0; size_of::<BanAsk>()];
    let next = syscall::map_peek(queue.as_fd(), &mut value).map_err(failed("bpf_map_lookup_elem"))?;
    let next = next.and_then(|()| read_ask(&value));
    Ok(Table::of(&["source", "policy", "too_many"], next, |ask| {
        let source = bans::source(&ask.source).to_string();
        vec![json!(source), json!(ask.policy), json!(bans::kind(ask.kind))]
    }))
}

fn read_ask(value: &[u8]) -> Option<BanAsk> {
    let (source, rest) = value.split_first_chunk()?;
    let (policy, rest) = rest.split_first_chunk()?;
    let (kind, _) = rest.split_first_chunk()?;
    Some(BanAsk { source: *source, policy: u32::from_ne_bytes(*policy), kind: u32::from_ne_bytes(*kind) })
}

fn per(limit: &Limit) -> &'static str {
    if limit.per == Limit::ADDRESS { "address" } else { "source" }
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
    format!("{} {counts}/s per {}", per_second.unwrap_or(0), per(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_is_read_as_the_kernel_lays_it_out() {
        let mut value = [0; 24];
        value[..16].copy_from_slice(&ingress_common::flow::v4_mapped([198, 18, 0, 66]));
        value[16..20].copy_from_slice(&7_u32.to_ne_bytes());
        value[20..].copy_from_slice(&Limit::PACKETS.to_ne_bytes());
        let ask = read_ask(&value).unwrap();
        assert_eq!(
            (ip_of(&ask.source).to_string().as_str(), ask.policy, ask.kind),
            ("198.18.0.66", 7, Limit::PACKETS)
        );
        assert_eq!(read_ask(&value[..23]), None);
    }
}
