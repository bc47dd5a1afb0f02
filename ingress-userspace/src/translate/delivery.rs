//! How the requests of a path are given to endpoints: its Ingress's settings, its sessions and its canary together.

use super::canary::{self, DraftCanary};
use super::hosts::Shared;
use super::policies::{self, Owner};
use super::sessions;
use crate::model::policy::delivery::Delivery;
use crate::model::route::{RouteAction, WeightedBackend};

/// How a path gives its requests to endpoints: its Ingress's settings, its sessions, its canary.
pub(super) fn delivery(
    shared: &Shared<'_>,
    owner: &Owner<'_>,
    (path, action): (&str, &RouteAction),
    canary: Option<&DraftCanary>,
) -> Delivery {
    let affinity = sessions::affinity(owner, path);
    let canary = canary.and_then(|draft| canary::policy(shared.owners, draft, affinity.as_ref(), path));
    let mut delivery = Delivery { affinity, canary, ..policies::delivery(&owner.settings) };
    let is_one = |share: &WeightedBackend| share.backend.is_of_service();
    if matches!(action, RouteAction::Forward { backends, .. } if backends.iter().any(is_one)) {
        // The Service's own address is one endpoint: there is nothing to choose, and no other to ask.
        delivery.affinity = None;
        delivery.retry.tries = 1;
    }
    delivery
}
