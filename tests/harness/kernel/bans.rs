//! Bans in the maps of a [`Rig`].
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a rig that cannot be set up fails its test at once, with the reason"
)]

use std::time::Duration;

use aya::maps::{HashMap, Queue};
use ingress_common::flow::addr_of;
use ingress_common::maps::{Ban, BanAsk, Strikes};
use ingress_common::source::{SrcKey, limited_source};
use ingress_userspace::model::edge::BanRule;

use super::Rig;

/// Bans after the first refused packet.
pub const BAN: BanRule =
    BanRule { after: 1, within: Duration::from_secs(10), lasts: Duration::from_secs(60), most: 10 };

impl Rig {
    /// Bans a source, or says when a ban ends.
    pub fn ban(&mut self, source: &str, expires_ns: u64) {
        let key = SrcKey { addr: limited_source(&addr_of(source.parse().unwrap())), bucket: 0 };
        let mut bans: HashMap<_, SrcKey, Ban> =
            HashMap::try_from(self.ebpf.map_mut("bans").unwrap()).unwrap();
        bans.insert(key, Ban { expires_ns, ..Ban::default() }, 0).unwrap();
    }

    /// The sources that the program names for a ban, taken out.
    pub fn asks(&mut self) -> Vec<BanAsk> {
        let mut asks: Queue<_, BanAsk> = Queue::try_from(self.ebpf.map_mut("ban_asks").unwrap()).unwrap();
        std::iter::from_fn(|| asks.pop(0).ok()).collect()
    }

    /// How many sources the program counts refused packets of.
    pub fn strikes(&self) -> usize {
        let strikes: HashMap<_, SrcKey, Strikes> =
            HashMap::try_from(self.ebpf.map("strikes").unwrap()).unwrap();
        strikes.keys().count()
    }
}
