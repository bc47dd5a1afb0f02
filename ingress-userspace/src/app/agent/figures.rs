//! What the kernel counted, as metrics.

use ingress_common::maps::LookupCount;

use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::{bans, counters};
use crate::telemetry::metrics::{
    BANS, DROPS_TOLD, PACKET_BYTES, PACKETS, SOCKET_LOOKUPS, STEERED_BYTES, STEERED_PACKETS, Samples,
    TUNNEL_PACKETS,
};

/// Adds them.
pub(super) fn add(maps: &Maps, samples: &mut Samples) -> Result<(), MapsError> {
    for count in counters::packets(maps)? {
        let address = count.address.map_or_else(String::new, |address| address.to_string());
        samples.add(&PACKETS, &[&address, count.reason], count.packets as f64);
        samples.add(&PACKET_BYTES, &[&address, count.reason], count.bytes as f64);
    }
    let LookupCount { lookups, misses, errors, moved } = counters::lookups(maps)?;
    for (result, count) in [("assigned", lookups), ("missed", misses), ("refused", errors), ("moved", moved)]
    {
        samples.add(&SOCKET_LOOKUPS, &[result], count as f64);
    }
    for node in counters::nodes(maps)? {
        let name = node.address.to_string();
        samples.add(&STEERED_PACKETS, &[&name], node.packets as f64);
        samples.add(&STEERED_BYTES, &[&name], node.bytes as f64);
    }
    let received = counters::sent_on(maps)?.get(&0).map_or(0, |count| count.packets);
    samples.add(&TUNNEL_PACKETS, &[], received as f64);
    let (told, untold) = counters::drops_told(maps)?;
    samples.add(&DROPS_TOLD, &["told"], told as f64);
    samples.add(&DROPS_TOLD, &["untold"], untold as f64);
    for (policy, count) in bans::by_policy(maps)? {
        samples.add(&BANS, &[&policy], count as f64);
    }
    Ok(())
}
