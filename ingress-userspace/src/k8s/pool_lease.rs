//! The Lease by which one node announces the addresses of a pool.
//!
//! One per pool, in the namespace of the copies, held by the name of a node: an agent that starts again on its node goes on.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::cluster::ObjectKey;
use super::copies;

/// The label of every such Lease.
pub const LABEL: &str = "portcullis.dev/pool-lease";
/// The pool, which a label could not always hold.
const POOL: &str = "portcullis.dev/pool";
/// A holder that has not renewed for this long has lost it.
pub const DURATION: Duration = Duration::from_secs(2);

/// The name of the Lease of a pool. The name of a node can hardly be the same.
pub fn name(pool: &str) -> String {
    copies::name(&ObjectKey::new("portcullis-pool", pool))
}

/// The pool that a Lease is of; `None` for one of something else.
pub fn pool(lease: &Lease) -> Option<String> {
    lease.metadata.labels.as_ref()?.get(LABEL)?;
    lease.metadata.annotations.as_ref()?.get(POOL).cloned()
}

/// The Lease as its holder writes it on top of what it read.
pub fn held(pool: &str, node: &str, before: &Lease, now: Timestamp) -> Lease {
    let spec = before.spec.clone().unwrap_or_default();
    let was_ours = spec.holder_identity.as_deref() == Some(node);
    let transitions = spec.lease_transitions.unwrap_or_default();
    let now = MicroTime(now);
    let acquired = spec.acquire_time.filter(|_| was_ours).unwrap_or_else(|| now.clone());
    let spec = LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(acquired),
        renew_time: Some(now),
        lease_transitions: Some(if was_ours { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    };
    Lease { metadata: metadata(pool, before), spec: Some(spec) }
}

/// The Lease without a holder, for the next one to take at once.
pub fn released(pool: &str, before: &Lease) -> Lease {
    let mut spec = before.spec.clone().unwrap_or_default();
    spec.holder_identity = Some(String::new());
    spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
    Lease { metadata: metadata(pool, before), spec: Some(spec) }
}

/// With the version that was read: of two that write at once, one gets a conflict.
fn metadata(pool: &str, before: &Lease) -> ObjectMeta {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    ObjectMeta {
        name: Some(name(pool)),
        labels: Some([pair(LABEL, "true")].into()),
        annotations: Some([pair(POOL, pool)].into()),
        resource_version: before.metadata.resource_version.clone(),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_tells_its_pool_and_counts_its_holders() {
        let now = Timestamp::UNIX_EPOCH;
        let first = held("edge", "a", &Lease::default(), now);
        assert_eq!((pool(&first).as_deref(), name("edge").as_str()), (Some("edge"), "portcullis-pool.edge"));
        assert_eq!(pool(&Lease::default()), None);
        let transitions = |lease: &Lease| lease.spec.as_ref().unwrap().lease_transitions.unwrap();
        let renewed = held("edge", "a", &first, now);
        assert_eq!(transitions(&renewed), transitions(&first));
        let other = held("edge", "b", &released("edge", &renewed), now);
        assert_eq!(transitions(&other), transitions(&first) + 2);
    }
}
