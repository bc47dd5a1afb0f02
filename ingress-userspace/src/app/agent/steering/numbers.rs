//! Numbers that an earlier process gave.

use std::collections::BTreeMap;

use crate::compile::maps::MapContents;
use crate::model::Model;

/// The numbers of the pools in the maps, by the addresses that name them.
pub(super) fn pools_of(model: &Model, contents: &MapContents) -> BTreeMap<String, u16> {
    let mut numbers = BTreeMap::new();
    for (key, value) in contents.vips.iter().filter(|(_, value)| value.pool != 0) {
        let ip = ingress_common::flow::ip_of(&key.addr);
        let pool = model.edge.pools.iter().find(|pool| pool.blocks.iter().any(|block| block.contains(ip)));
        if let Some(pool) = pool {
            numbers.insert(pool.name.clone(), value.pool);
        }
    }
    numbers
}
