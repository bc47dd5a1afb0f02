//! `service-upstream`: the address of the Service instead of those of its pods.

use super::registry::{Row, annotations};
use super::{Effect, Reader, affinity, balance, health_check, next_upstream, value};

annotations! { "The Service's own address";
    /// Requests go to the cluster IP of the Service and not to its pods, so that the cluster's own load balancing chooses
    /// the pod. Sessions, `upstream-hash-by` and further tries are of no account then. A Service without an address of its own
    /// is served as without the annotation.
    SERVICE_UPSTREAM: bool = "service-upstream", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> bool {
    let is_on = reader.value(&SERVICE_UPSTREAM);
    if is_on {
        let idle: [&'static Row; 4] = [
            &affinity::AFFINITY.row,
            &balance::UPSTREAM_HASH_BY.row,
            &next_upstream::PROXY_NEXT_UPSTREAM_TRIES.row,
            &health_check::UPSTREAM_HEALTH_CHECK_PATH.row,
        ];
        for row in idle {
            let message = "of no account with service-upstream, for which a Service is one endpoint; remove one of them";
            reader.note_given(row, Effect::Note, message);
        }
    }
    is_on
}
