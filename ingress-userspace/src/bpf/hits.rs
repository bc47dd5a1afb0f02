//! What the entries of deny lists caught, as the program counts it in `acl_hits`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::MapError;
use ingress_common::flow::{ip_of, v4_of};
use ingress_common::maps::{AclVal, Count};
use ingress_common::source::{Acl4Key, Acl6Key, HitKey, SCOPE_ALL, SCOPE_BITS};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::maps::{Maps, MapsError, is_absent};
use super::{counters, sync};
use crate::compile::maps::MapContents;
use crate::compile::maps::owners::ListOwners;

/// An entry, and the packets that were dropped for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caught {
    /// The prefix, as the policy has it.
    pub prefix: IpNet,
    /// The policy that denies it; `None`: that is not known without an agent.
    pub policy: Option<String>,
    /// The served addresses that it holds for; `None`: all of them.
    pub addresses: Option<Vec<IpAddr>>,
    /// Packets.
    pub packets: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
}

/// What is in the map, over all CPUs.
pub fn read(maps: &Maps) -> Result<BTreeMap<HitKey, Count>, MapsError> {
    let mut all = BTreeMap::new();
    for entry in maps.acl_hits.iter() {
        match entry {
            Err(error) if is_absent(&error) => {}
            entry => {
                let (key, values) = entry.map_err(MapsError::of("acl_hits"))?;
                all.insert(key, counters::sum(&values));
            }
        }
    }
    Ok(all)
}

/// The entries that caught something, that with the most packets first.
pub fn caught(maps: &Maps, owners: &ListOwners) -> Result<Vec<Caught>, MapsError> {
    let hits = read(maps)?;
    let mut scopes: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for (key, vip) in sync::read_hash(&maps.vips, "vips")?.into_iter().filter(|(key, _)| key.port == 0) {
        scopes.entry(vip.scope).or_default().push(ip_of(&key.addr));
    }
    let policies = owners.of(hits.keys().map(|key| (key.scope, prefix(key))));
    let mut all: Vec<Caught> = hits
        .iter()
        .map(|(key, count)| Caught {
            prefix: prefix(key),
            policy: policies.get(&(key.scope, prefix(key))).map(|name| (*name).to_owned()),
            addresses: (key.scope != SCOPE_ALL).then(|| scopes.get(&key.scope).cloned().unwrap_or_default()),
            packets: count.packets,
            bytes: count.bytes,
        })
        .collect();
    all.sort_by_key(|caught| std::cmp::Reverse(caught.packets));
    Ok(all)
}

/// The prefix of an entry.
pub fn prefix(key: &HitKey) -> IpNet {
    let ip = ip_of(&key.addr);
    // A longer one is in no list.
    u8::try_from(key.len).ok().and_then(|len| IpNet::new(ip, len).ok()).unwrap_or_else(|| IpNet::from(ip))
}

/// Takes out what was counted for entries that the lists do not have any more.
pub(super) fn forget(maps: &mut Maps, desired: &MapContents) -> Result<Vec<Result<(), MapError>>, MapsError> {
    let mut gone = Vec::new();
    for key in maps.acl_hits.keys() {
        match key {
            Err(error) if is_absent(&error) => {}
            key => gone.push(key.map_err(MapsError::of("acl_hits"))?),
        }
    }
    gone.retain(|key| !denies(desired, key));
    Ok(gone.iter().map(|key| maps.acl_hits.remove(key)).collect())
}

/// Whether the lists deny by this very prefix.
fn denies(desired: &MapContents, HitKey { addr, scope, len }: &HitKey) -> bool {
    let scope = scope.to_be_bytes();
    let found = match v4_of(addr) {
        Some(addr) => desired.acl4.get(&(SCOPE_BITS.saturating_add(*len), Acl4Key { scope, addr })),
        None => desired.acl6.get(&(SCOPE_BITS.saturating_add(*len), Acl6Key { scope, addr: *addr })),
    };
    found.is_some_and(|value| u32::from(value.flags) & AclVal::DENY != 0 && u32::from(value.deny_len) == *len)
}

/// The addresses that an entry holds for, in words.
pub fn in_words(addresses: Option<&[IpAddr]>) -> String {
    match addresses {
        None => "every address".to_owned(),
        Some([]) => "-".to_owned(),
        Some([one]) => one.to_string(),
        Some([first, others @ ..]) => format!("{first} and {} more", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use ingress_common::flow::addr_of;

    use super::*;

    fn key(prefix: &str, scope: u32) -> HitKey {
        let net: IpNet = prefix.parse().unwrap();
        HitKey { addr: addr_of(net.network()), scope, len: net.prefix_len().into() }
    }

    #[test]
    fn an_entry_is_shown_as_the_policy_has_it() {
        for text in ["198.18.0.0/15", "198.18.0.1/32", "0.0.0.0/0", "2001:db8::/32", "::/0"] {
            assert_eq!(prefix(&key(text, 7)).to_string(), text);
        }
    }

    #[test]
    fn what_a_prefix_inherits_is_counted_for_the_one_that_denies() {
        let scope = 7_u32.to_be_bytes();
        let value = |deny_len| AclVal { flags: AclVal::DENY as u16, deny_len };
        let acl4 = BTreeMap::from([
            ((SCOPE_BITS + 24, Acl4Key { scope, addr: [203, 0, 113, 0] }), value(24)),
            ((SCOPE_BITS + 32, Acl4Key { scope, addr: [203, 0, 113, 5] }), value(24)),
        ]);
        let lists = MapContents { acl4, ..MapContents::default() };
        assert!(denies(&lists, &key("203.0.113.0/24", 7)));
        assert!(!denies(&lists, &key("203.0.113.5/32", 7)), "exempt, say, and denied by the other");
        assert!(!denies(&lists, &key("203.0.113.0/24", 8)), "of other addresses");
        assert!(!denies(&lists, &key("203.0.0.0/16", 7)));
    }

    #[test]
    fn many_addresses_are_told_in_few_words() {
        let ips: Vec<IpAddr> = (1..=3).map(|n| IpAddr::from([198, 18, 100, n])).collect();
        assert_eq!(in_words(None), "every address");
        assert_eq!(in_words(Some(&ips[..1])), "198.18.100.1");
        assert_eq!(in_words(Some(&ips)), "198.18.100.1 and 2 more");
    }
}
