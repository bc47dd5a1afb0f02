//! Which VIPs neighbours are told of, and by whom.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ingress_common::flow::ip_of;
use ingress_common::maps::{VipKey, VipVal};

use super::MapContents;
use crate::model::Model;
use crate::model::edge::Announce;

/// Notes on the entries of VIPs that one of our nodes announces them and, for the pools given, that it is this one. A
/// node's own address is left to its stack.
pub fn announce(contents: &mut MapContents, model: &Model, pools: &BTreeSet<String>) {
    let announced: Vec<_> = model.edge.pools.iter().filter(|pool| pool.announce == Announce::L2).collect();
    for (key, vip) in &mut contents.vips {
        let ip = ip_of(&key.addr);
        let is_vip = key.port == 0 && vip.flags & VipVal::PORTS_ONLY == 0;
        vip.flags &= !(VipVal::QUIET | VipVal::ANNOUNCE);
        if is_vip
            && let Some(pool) =
                announced.iter().find(|pool| pool.blocks.iter().any(|block| block.contains(ip)))
        {
            let own = if pools.contains(&pool.name) { VipVal::ANNOUNCE } else { 0 };
            vip.flags |= VipVal::QUIET | own;
        }
    }
}

/// The VIPs that this node announces by these contents.
pub fn announced(contents: &MapContents) -> BTreeSet<IpAddr> {
    let is_ours = |key: &VipKey, vip: &VipVal| key.port == 0 && vip.flags & VipVal::ANNOUNCE != 0;
    let ours = contents.vips.iter().filter(|(key, vip)| is_ours(key, vip));
    ours.map(|(key, _)| ip_of(&key.addr)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::maps::compile;
    use crate::model::edge::{AddressRange, Pool};
    use crate::model::listener::{Listener, ListenerName, ListenerProtocol};

    #[test]
    fn only_vips_are_announced_and_only_by_the_pools_of_this_node() {
        let pool = |name: &str, ip: &str, announce| {
            let ip = ip.parse().unwrap();
            Pool { announce, ..Pool::new(name, vec![AddressRange { first: ip, last: ip }]) }
        };
        let mut model = Model::default();
        model.listeners.push(Listener {
            name: ListenerName("http".to_owned()),
            port: 80,
            protocol: ListenerProtocol::Http,
        });
        model.edge.pools = vec![
            pool("mine", "198.18.100.1", Announce::L2),
            pool("theirs", "2001:db8::1", Announce::L2),
            pool("routed", "198.18.100.3", Announce::None),
            pool("node", "198.18.0.1", Announce::L2),
        ];
        let node = "198.18.0.1".parse().unwrap();
        let mut contents = compile(&model, &[node], &MapContents::default()).contents;
        let pools = ["mine", "routed", "node"].map(str::to_owned).into();
        announce(&mut contents, &model, &pools);
        let flags = |ip: &str, port| {
            let ip: IpAddr = ip.parse().unwrap();
            let of = |key: &VipKey| ip_of(&key.addr) == ip && key.port == port;
            let vip = contents.vips.iter().find(|(key, _)| of(key)).unwrap().1;
            vip.flags & (VipVal::QUIET | VipVal::ANNOUNCE)
        };
        assert_eq!(flags("198.18.100.1", 0), VipVal::QUIET | VipVal::ANNOUNCE);
        assert_eq!(flags("198.18.100.1", 80), 0, "ports do not carry it");
        assert_eq!(flags("2001:db8::1", 0), VipVal::QUIET);
        assert_eq!(flags("198.18.100.3", 0), 0);
        assert_eq!(flags("198.18.0.1", 0), 0);
        assert_eq!(announced(&contents), BTreeSet::from(["198.18.100.1".parse().unwrap()]));
        announce(&mut contents, &model, &BTreeSet::new());
        assert_eq!(announced(&contents), BTreeSet::new(), "and taken back");
    }
}
