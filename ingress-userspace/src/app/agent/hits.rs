//! What entries of deny lists caught: by policy as a metric, by entry for who asks.

use std::collections::BTreeMap;
use std::path::Path;

use ingress_common::maps::Count;
use ingress_common::source::HitKey;

use crate::bpf::hits;
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::pins::Pins;
use crate::compile::maps::owners::ListOwners;
use crate::error_chain::chain;
use crate::telemetry::metrics::{DENIED_PACKETS, Samples};

/// Packets by policy. The kernel forgets entries that catch little and those that are taken off their list; here what they
/// caught stays counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seen: BTreeMap<HitKey, Count>,
    packets: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts what is new and adds it all.
    pub(super) fn add(
        &mut self,
        maps: &Maps,
        owners: &ListOwners,
        samples: &mut Samples,
    ) -> Result<(), MapsError> {
        self.count(hits::read(maps)?, owners);
        for (policy, packets) in &self.packets {
            samples.add(&DENIED_PACKETS, &[policy], *packets as f64);
        }
        Ok(())
    }

    fn count(&mut self, hits: BTreeMap<HitKey, Count>, owners: &ListOwners) {
        let policies = owners.of(hits.keys().map(|key| (key.scope, hits::prefix(key))));
        for (key, count) in &hits {
            let before = self.seen.get(key).map_or(0, |count| count.packets);
            // Less than before: it was forgotten, and caught something again.
            let more = count.packets.checked_sub(before).unwrap_or(count.packets);
            // An entry that went off its list a moment ago has no policy any more.
            let policy = policies.get(&(key.scope, hits::prefix(key))).copied().unwrap_or_default();
            if more > 0 {
                *self.packets.entry(policy.to_owned()).or_default() += more;
            }
        }
        self.seen = hits;
    }
}

/// The answer to who asks the agent what each entry caught.
pub fn told(bpffs: &Path, owners: &ListOwners) -> Result<String, String> {
    let caught = match Maps::open(&Pins::new(bpffs)) {
        Err(MapsError::Missing { .. }) => Vec::new(),
        maps => maps.and_then(|maps| hits::caught(&maps, owners)).map_err(|error| chain(&error))?,
    };
    serde_json::to_string(&caught).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ingress_common::flow::addr_of;
    use ipnet::IpNet;

    use super::*;
    use crate::model::Model;
    use crate::model::edge::{Edge, EdgePolicy, EdgeScope};

    fn owners() -> ListOwners {
        let policy = EdgePolicy {
            name: "edge".to_owned(),
            scope: EdgeScope::Cluster,
            allow: vec![],
            deny: vec!["203.0.113.0/24".parse().unwrap(), "203.0.112.0/24".parse().unwrap()],
            exempt: vec![],
            limits: vec![],
            syn_protection: None,
            ban: None,
        };
        let edge = Edge { policies: vec![policy], ..Edge::default() };
        ListOwners {
            model: Arc::new(Model { edge, ..Model::default() }),
            scopes: BTreeMap::from([(0, vec![0])]),
        }
    }

    fn hit(prefix: &str, packets: u64) -> (HitKey, Count) {
        let net: IpNet = prefix.parse().unwrap();
        let key = HitKey { addr: addr_of(net.network()), scope: 0, len: net.prefix_len().into() };
        (key, Count { packets, bytes: 60 * packets })
    }

    #[test]
    fn what_the_kernel_forgot_stays_counted() {
        let mut tally = Tally::default();
        let owners = owners();
        let of_edge = |tally: &Tally| tally.packets.get("edge").copied();
        tally.count(BTreeMap::from([hit("203.0.113.0/24", 5), hit("203.0.112.0/24", 2)]), &owners);
        assert_eq!(of_edge(&tally), Some(7));
        tally.count(BTreeMap::from([hit("203.0.113.0/24", 6)]), &owners);
        assert_eq!(of_edge(&tally), Some(8), "one more, and one entry forgotten");
        tally.count(BTreeMap::from([hit("203.0.113.0/24", 6), hit("203.0.112.0/24", 1)]), &owners);
        assert_eq!(of_edge(&tally), Some(9), "the forgotten one caught something again");
        tally.count(BTreeMap::from([hit("198.18.0.0/16", 3)]), &owners);
        assert_eq!(tally.packets.get(""), Some(&3), "of no policy any more");
    }
}
