//! Bans in the kernel: entered by the agent for sources that the program names, listed and lifted by people.
//!
//! The map is the whole truth: it outlives the agent, and what is removed from it is banned no more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use aya::maps::MapError;
use ingress_common::flow::{Addr, addr_of, ip_of, v4_of};
use ingress_common::maps::{BAN_ASKS, BANS, Ban, BanAsk, Limit};
use ingress_common::source::{SrcKey, limited_source};
use ipnet::IpNet;
use serde::Serialize;

use super::clock::now_ns;
use super::maps::{Maps, MapsError, is_absent};
use super::pins::Pins;
use super::sync;
use crate::compile::maps::bans::BanTerms;

/// Bans of all policies together: a table that is full to the brim would forget some.
const MOST: usize = BANS as usize / 2;
/// Every served address whose policies ban.
const SCOPE: u32 = 0;

/// A ban, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Banned {
    /// Who is banned: an address, or an IPv6 /64.
    pub source: IpNet,
    /// The policy whose limits were broken.
    pub policy: String,
    /// What there was too much of.
    pub too_many: &'static str,
    /// Seconds since it began.
    pub since_seconds: u64,
    /// Seconds until it ends.
    pub left_seconds: u64,
}

/// What came of the sources that the program named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// They are banned from now on.
    pub banned: Vec<Banned>,
    /// How many are not, by policy, because it bans as many as it may.
    pub refused: BTreeMap<String, u64>,
}

/// The sources that the program named since the last look.
pub fn asked(maps: &mut Maps) -> Result<Vec<BanAsk>, MapsError> {
    let mut asks = Vec::new();
    while asks.len() < BAN_ASKS as usize {
        match maps.ban_asks.pop(0) {
            Ok(ask) => asks.push(ask),
            Err(error) if is_absent(&error) => break,
            Err(error) => return Err(MapsError::of("ban_asks")(error)),
        }
    }
    Ok(asks)
}

/// Bans these sources on the terms of their policies, and removes bans that are over or whose policy bans no more.
pub fn enter(
    maps: &mut Maps,
    asks: &[BanAsk],
    terms: &BTreeMap<u32, BanTerms<'_>>,
) -> Result<Outcome, MapsError> {
    let now = now_ns();
    let mut bans = sync::read_hash(&maps.bans, "bans")?;
    let mut over = Vec::new();
    bans.retain(|key, ban| {
        let stays = ban.expires_ns > now && terms.contains_key(&ban.policy);
        if !stays {
            over.push(*key);
        }
        stays
    });
    for key in over {
        remove(maps, &key)?;
    }
    let mut outcome = Outcome::default();
    for ask in asks {
        let Some(terms) = terms.get(&ask.policy) else { continue };
        let key = SrcKey { addr: limited_source(&ask.source), bucket: SCOPE };
        if bans.contains_key(&key) || terms.exempts(ip_of(&key.addr)) {
            continue;
        }
        let of_policy = bans.values().filter(|ban| ban.policy == ask.policy).count();
        if bans.len() >= MOST || of_policy >= terms.rule.most as usize {
            *outcome.refused.entry(terms.name.to_owned()).or_default() += 1;
            continue;
        }
        let ban = Ban {
            expires_ns: now.saturating_add(u64::try_from(terms.rule.lasts.as_nanos()).unwrap_or(u64::MAX)),
            since_ns: now,
            policy: ask.policy,
            kind: ask.kind,
            name: cut(terms.name),
        };
        maps.bans.insert(key, ban, 0).map_err(MapsError::of("bans"))?;
        bans.insert(key, ban);
        outcome.banned.push(banned(&key.addr, &ban, now));
    }
    Ok(outcome)
}

/// The bans that hold, by source.
pub fn list(maps: &Maps) -> Result<Vec<Banned>, MapsError> {
    let now = now_ns();
    let all = sync::read_hash(&maps.bans, "bans")?;
    Ok(all
        .iter()
        .filter(|(_, ban)| ban.expires_ns > now)
        .map(|(key, ban)| banned(&key.addr, ban, now))
        .collect())
}

/// How many hold, by policy.
pub fn by_policy(maps: &Maps) -> Result<BTreeMap<String, u64>, MapsError> {
    let mut counts = BTreeMap::new();
    for banned in list(maps)? {
        *counts.entry(banned.policy).or_default() += 1;
    }
    Ok(counts)
}

/// The same of an installation; `None`: there is none.
pub fn list_pinned(bpffs: &Path) -> Result<Option<Vec<Banned>>, MapsError> {
    match Maps::open(&Pins::new(bpffs)) {
        Err(MapsError::Missing { .. }) => Ok(None),
        maps => list(&maps?).map(Some),
    }
}

/// Ends the bans of every source in a network; which. What led to them is forgotten, too: a source has all of its drops again.
pub fn lift(maps: &mut Maps, of: &IpNet) -> Result<Vec<Banned>, MapsError> {
    let now = now_ns();
    let mut lifted = Vec::new();
    for (key, ban) in sync::read_hash(&maps.bans, "bans")? {
        let banned = banned(&key.addr, &ban, now);
        if !of.contains(&banned.source) && !banned.source.contains(of) {
            continue;
        }
        let strikes = SrcKey { addr: key.addr, bucket: ban.policy };
        gone(maps.strikes.remove(&strikes)).map_err(MapsError::of("strikes"))?;
        remove(maps, &key)?;
        lifted.extend((ban.expires_ns > now).then_some(banned));
    }
    Ok(lifted)
}

fn remove(maps: &mut Maps, key: &SrcKey) -> Result<(), MapsError> {
    gone(maps.bans.remove(key)).map_err(MapsError::of("bans"))
}

/// Gone already is as good as removed.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(error) if is_absent(&error) => Ok(()),
        result => result,
    }
}

fn banned(addr: &Addr, ban: &Ban, now: u64) -> Banned {
    let seconds = |ns: u64| Duration::from_nanos(ns).as_secs();
    Banned {
        source: source(addr),
        policy: name(&ban.name),
        too_many: kind(ban.kind),
        since_seconds: seconds(now.saturating_sub(ban.since_ns)),
        left_seconds: seconds(ban.expires_ns.saturating_sub(now)),
    }
}

/// A source as the kernel counts it.
pub(super) fn source(addr: &Addr) -> IpNet {
    match (v4_of(addr), ip_of(addr)) {
        (None, ip @ IpAddr::V6(_)) => IpNet::new(ip, 64).unwrap_or_else(|_| IpNet::from(ip)),
        (_, ip) => IpNet::from(ip),
    }
}

/// What a limit of this kind counts.
pub(super) fn kind(kind: u32) -> &'static str {
    match kind {
        Limit::CONNECTIONS => "connections",
        Limit::PACKETS => "packets",
        Limit::BYTES => "bytes",
        _ => "unknown",
    }
}

fn cut(name: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// The name of a policy, without its padding.
pub(super) fn name(bytes: &[u8; 32]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

/// The network of one source, as `lift` takes it.
pub fn single(ip: IpAddr) -> IpNet {
    source(&limited_source(&addr_of(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_as_it_is_counted() {
        assert_eq!(single("198.18.0.1".parse().unwrap()).to_string(), "198.18.0.1/32");
        assert_eq!(single("2001:db8:1:2:3::1".parse().unwrap()).to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_ban_tells_who_why_and_for_how_long() {
        let ban = Ban {
            expires_ns: 90_000_000_000,
            since_ns: 10_000_000_000,
            policy: 7,
            kind: Limit::CONNECTIONS,
            name: cut("edge"),
        };
        let told = banned(&addr_of("198.18.0.66".parse().unwrap()), &ban, 30_000_000_000);
        let expected = Banned {
            source: "198.18.0.66/32".parse().unwrap(),
            policy: "edge".to_owned(),
            too_many: "connections",
            since_seconds: 20,
            left_seconds: 60,
        };
        assert_eq!(told, expected);
        let long = "a-name-that-is-longer-than-what-fits-into-a-ban";
        assert_eq!(name(&cut(long)), long[..32]);
    }
}
