//! Limits per client: the buckets of one Ingress are those of all its paths.

use super::Owner;
use crate::annotation::connection_limit::Connections;
use crate::annotation::quota::Quota;
use crate::annotation::rate_limit::{Counted, Rates};
use crate::model::policy::{ConnectionLimit, Disclosure, RateLimit};

fn bucket(owner: &Owner<'_>) -> String {
    format!("{}/{}", owner.object.namespace, owner.object.name)
}

pub(super) fn rate(owner: &Owner<'_>) -> Option<RateLimit> {
    let Counted { key, exempt } = owner.settings.counted.clone();
    let Rates { rates, status } = owner.settings.rate.clone()?;
    Some(RateLimit { bucket: bucket(owner), rates, key, exempt, status, disclosure: Disclosure::Nothing })
}

pub(super) fn quota(owner: &Owner<'_>) -> Option<RateLimit> {
    let Quota { rates, key, status, disclosure } = owner.settings.quota.clone()?;
    let exempt = owner.settings.counted.exempt.clone();
    let bucket = format!("{} quota", bucket(owner));
    Some(RateLimit { bucket, rates, key, exempt, status, disclosure })
}

pub(super) fn connections(owner: &Owner<'_>) -> Option<ConnectionLimit> {
    let Counted { key, exempt } = owner.settings.counted.clone();
    let Connections { most, status } = owner.settings.connections?;
    Some(ConnectionLimit { bucket: bucket(owner), most, key, exempt, status })
}
