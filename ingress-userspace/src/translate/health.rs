//! Health checks of Ingresses → checks of the backends that their routes send to.

use std::collections::BTreeMap;

use super::Build;
use super::policies::Owner;
use crate::annotation::OWN_PREFIX;
use crate::annotation::health_check::{Check, UPSTREAM_HEALTH_CHECK_PATH};
use crate::model::backend::BackendId;
use crate::model::health::HealthCheck;
use crate::model::host::Host;
use crate::model::route::{Route, RouteAction};
use crate::problem::{Code, ObjectRef, Severity};

/// The checks of all backends. Ingresses come oldest first, and the first one says how a backend is checked.
pub(super) fn checks(
    build: &mut Build<'_>,
    owners: &[Owner<'_>],
    hosts: &[Host],
) -> BTreeMap<BackendId, HealthCheck> {
    let mut checks: BTreeMap<BackendId, (ObjectRef, HealthCheck)> = BTreeMap::new();
    for owner in owners {
        let Some(check) = &owner.settings.health_check else { continue };
        for (backend, route) in backends(owner, hosts) {
            let wanted = health_check(check, route);
            match checks.get(backend) {
                None => {
                    checks.insert(backend.clone(), (owner.object.clone(), wanted));
                }
                Some((first, known)) if *known != wanted && *first != owner.object => {
                    let message = format!(
                        "{first} comes first (older, or by name) and says how {backend} is checked; write the same in both"
                    );
                    let at = (field(build, owner), check.path.as_str());
                    build.problem(&owner.object, (Code::Conflict, Severity::Warning), at, message);
                }
                Some(_) => {}
            }
        }
    }
    checks.into_iter().map(|(backend, (_, check))| (backend, check)).collect()
}

/// The annotation as it is written.
fn field(build: &Build<'_>, owner: &Owner<'_>) -> String {
    let key = UPSTREAM_HEALTH_CHECK_PATH.row.key;
    let own = format!("{OWN_PREFIX}/{key}");
    let annotations = owner.ingress.metadata.annotations.as_ref();
    let is_own = annotations.is_some_and(|annotations| annotations.contains_key(&own));
    let written = if is_own { own } else { format!("{}/{key}", build.settings.annotations_prefix) };
    format!("metadata.annotations[{written}]")
}

/// The backends that the routes of an Ingress send to.
fn backends<'a>(owner: &Owner<'_>, hosts: &'a [Host]) -> Vec<(&'a BackendId, &'a Route)> {
    let mut found = Vec::new();
    let routes = hosts.iter().flat_map(|host| &host.routes);
    for route in routes.filter(|route| is_of(owner, route)) {
        if let RouteAction::Forward { backends, .. } = &route.action {
            found.extend(backends.iter().map(|share| (&share.backend, route)));
        }
    }
    found
}

fn is_of(owner: &Owner<'_>, route: &Route) -> bool {
    route.source.namespace == owner.object.namespace && route.source.name == owner.object.name
}

fn health_check(check: &Check, route: &Route) -> HealthCheck {
    let Check { path, interval, timeout, unhealthy_threshold, healthy_threshold } = check.clone();
    HealthCheck {
        path,
        interval,
        timeout,
        unhealthy_threshold,
        healthy_threshold,
        upstream: route.policies.upstream.clone(),
    }
}
