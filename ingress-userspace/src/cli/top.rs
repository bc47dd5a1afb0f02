//! `portcullis top sources`: who is sent most, whose limits are nearly used up, and whose packets are dropped.
//! `portcullis top lists`: what entries of deny lists caught.

mod lists;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ingress_common::flow::ip_of;
use ingress_common::maps::{Bucket, Limit};
use ingress_common::source::SrcKey;
use serde::Serialize;

use super::{drops, text_table};
use crate::args::tools::{OutputFormat, TopArgs, TopOf};
use crate::bpf::clock::now_ns;
use crate::bpf::counters::{self, Sent};
use crate::bpf::dump::limit_in_words;
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::pins::Pins;
use crate::bpf::sync;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The pins.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// JSON.
    #[error("cannot encode what is shown")]
    Encode(#[from] serde_json::Error),
    /// Standard output.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// Everything that is shown.
#[derive(Debug, Serialize)]
struct Sources {
    /// By bytes.
    sent: Vec<Sent>,
    /// By use.
    limits: Vec<Used>,
    /// By number; `None`: no agent remembers any.
    drops: Option<Vec<Drops>>,
}

/// How much of a limit a source has used.
#[derive(Debug, PartialEq, Serialize)]
struct Used {
    /// The source; where a limit is for an address, that.
    source: IpAddr,
    /// The limit in words.
    limit: String,
    /// Of what it may use at once.
    used_percent: u64,
}

/// Dropped packets of a source.
#[derive(Debug, Serialize)]
struct Drops {
    source: IpAddr,
    reason: String,
    sampled: u64,
}

/// Runs the command.
pub async fn run(args: &TopArgs, out: &mut (dyn io::Write + Send)) -> Result<(), TopError> {
    match args.what {
        TopOf::Sources => of_sources(args, out).await,
        TopOf::Lists => lists::run(args, out).await,
    }
}

async fn of_sources(args: &TopArgs, out: &mut (dyn io::Write + Send)) -> Result<(), TopError> {
    let maps = Maps::open(&Pins::new(&args.bpffs))?;
    let mut sent = counters::sent(&maps)?;
    sent.sort_by_key(|sent| std::cmp::Reverse(sent.bytes));
    sent.truncate(args.number);
    let buckets = sync::read_hash(&maps.buckets, "buckets")?;
    let mut limits = used(buckets, &sync::read_array(&maps.limits, "limits")?, now_ns());
    limits.truncate(args.number);
    let drops = drops::by_source(&args.admin_socket).await.map(|drops| {
        let drop = |(source, reason, sampled)| Drops { source, reason, sampled };
        drops.into_iter().take(args.number).map(drop).collect()
    });
    let sources = Sources { sent, limits, drops };
    match args.output {
        OutputFormat::Json => writeln!(out, "{:#}", serde_json::to_value(&sources)?)?,
        OutputFormat::Table => print(&sources, out)?,
    }
    Ok(())
}

/// Buckets that are not empty, the fullest first.
fn used(buckets: BTreeMap<SrcKey, Bucket>, limits: &BTreeMap<u32, Limit>, now: u64) -> Vec<Used> {
    let of_bucket: BTreeMap<u32, &Limit> = limits.values().map(|limit| (limit.bucket, limit)).collect();
    let mut used: Vec<Used> = buckets
        .into_iter()
        .filter_map(|(key, bucket)| {
            let limit = of_bucket.get(&key.bucket)?;
            let borrowed = bucket.tat.checked_sub(now)?;
            // What one packet costs may be borrowed beyond the burst.
            let most = limit.burst_ns.saturating_add(limit.rate_ns).max(1);
            let used_percent =
                u64::try_from(u128::from(borrowed) * 100 / u128::from(most)).unwrap_or(u64::MAX);
            Some(Used { source: ip_of(&key.addr), limit: limit_in_words(limit), used_percent })
        })
        .filter(|used| used.used_percent > 0)
        .collect();
    used.sort_by_key(|used| std::cmp::Reverse(used.used_percent));
    used
}

fn print(sources: &Sources, out: &mut (dyn io::Write + Send)) -> io::Result<()> {
    writeln!(out, "sent most (what is remembered; an IPv6 client by its /64):")?;
    let rows = sources.sent.iter().map(|sent| {
        let address = sent.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        vec![sent.client.to_string(), address, sent.packets.to_string(), sent.bytes.to_string()]
    });
    text_table::print(out, &["client", "from", "packets", "bytes"], &rows.collect::<Vec<_>>())?;
    writeln!(out, "\nnear their limit (of what may come at once):")?;
    let rows = sources
        .limits
        .iter()
        .map(|used| vec![used.source.to_string(), format!("{} %", used.used_percent), used.limit.clone()]);
    text_table::print(out, &["source", "used", "limit"], &rows.collect::<Vec<_>>())?;
    let Some(drops) = &sources.drops else {
        return writeln!(out, "\ndropped: no agent answers that remembers drops (--admin-socket)");
    };
    writeln!(out, "\ndropped (a sample; `portcullis status` has the whole numbers):")?;
    let rows =
        drops.iter().map(|drop| vec![drop.source.to_string(), drop.reason.clone(), drop.sampled.to_string()]);
    text_table::print(out, &["source", "reason", "sampled"], &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use ingress_common::bucket;
    use ingress_common::flow::v4_mapped;

    use super::*;

    #[test]
    fn the_fullest_bucket_comes_first_and_empty_ones_not_at_all() {
        let limit = bucket::limit(7, 10, 10);
        let key = |last| SrcKey { addr: v4_mapped([198, 18, 0, last]), bucket: 7 };
        let now = 100 * 1_000_000_000;
        let second = 1_000_000_000;
        let buckets = BTreeMap::from([
            (key(1), Bucket { tat: now + second / 2 }),
            (key(2), Bucket { tat: now + second }),
            (key(3), Bucket { tat: now - second }),
            (SrcKey { addr: v4_mapped([198, 18, 0, 4]), bucket: 9 }, Bucket { tat: now + second }),
        ]);
        let used = used(buckets, &BTreeMap::from([(0, limit)]), now);
        let shown: Vec<_> = used.iter().map(|used| (used.source.to_string(), used.used_percent)).collect();
        assert_eq!(shown, [("198.18.0.2".to_owned(), 99), ("198.18.0.1".to_owned(), 49)]);
        assert_eq!(used[0].limit, "10 connections/s per source");
    }

    #[test]
    fn the_three_tables_are_told_apart() {
        let sent = Sent { client: IpAddr::from([198, 18, 0, 10]), address: None, packets: 3, bytes: 1_500 };
        let drop = Drops { source: IpAddr::from([198, 18, 0, 66]), reason: "denied".to_owned(), sampled: 4 };
        let mut out = Vec::new();
        print(&Sources { sent: vec![sent], limits: Vec::new(), drops: Some(vec![drop]) }, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("198.18.0.10  -     3        1500\n"), "{text}");
        assert!(text.contains("198.18.0.66  denied  4\n"), "{text}");
    }
}
