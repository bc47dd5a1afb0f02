//! Health checks of Ingresses → checks of the backends that their routes send to.

use std::collections::BTreeMap;

use super::Build;
use super::canary::is_canary;
use super::policies::Owner;
use crate::annotation::OWN_PREFIX;
use crate::annotation::health_check::{Check, UPSTREAM_HEALTH_CHECK_PATH, UPSTREAM_HEALTH_CHECK_TYPE};
use crate::annotation::registry::Row;
use crate::model::backend::BackendId;
use crate::model::health::{HealthCheck, Question};
use crate::model::host::Host;
use crate::model::policy::upstream::UpstreamProtocol;
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
            let protocol = route.policies.upstream.protocol;
            let is_grpc = matches!(protocol, UpstreamProtocol::Grpc | UpstreamProtocol::Grpcs);
            if matches!(check.question, Question::Grpc(_)) && !is_grpc {
                let message = "needs backend-protocol GRPC or GRPCS; the endpoints are not checked; set it, or check a path";
                let at = (field(build, owner, &UPSTREAM_HEALTH_CHECK_TYPE.row), "grpc");
                build.problem(&owner.object, (Code::AnnotationInvalid, Severity::Warning), at, message);
                break;
            }
            let wanted = health_check(check, route);
            match checks.get(backend) {
                None => {
                    checks.insert(backend.clone(), (owner.object.clone(), wanted));
                }
                Some((first, known)) if *known != wanted && *first != owner.object => {
                    let message = format!(
                        "{first} comes first (older, or by name) and says how {backend} is checked; write the same in both"
                    );
                    let (row, value) = match &check.question {
                        Question::Get(path) => (&UPSTREAM_HEALTH_CHECK_PATH.row, path.as_str()),
                        Question::Grpc(_) => (&UPSTREAM_HEALTH_CHECK_TYPE.row, "grpc"),
                    };
                    let at = (field(build, owner, row), value);
                    build.problem(&owner.object, (Code::Conflict, Severity::Warning), at, message);
                }
                Some(_) => {}
            }
        }
    }
    checks.into_iter().map(|(backend, (_, check))| (backend, check)).collect()
}

/// The annotation as it is written.
fn field(build: &Build<'_>, owner: &Owner<'_>, row: &Row) -> String {
    let key = row.key;
    let own = format!("{OWN_PREFIX}/{key}");
    let annotations = owner.ingress.metadata.annotations.as_ref();
    let is_own = annotations.is_some_and(|annotations| annotations.contains_key(&own));
    let written = if is_own { own } else { format!("{}/{key}", build.settings.annotations_prefix) };
    format!("metadata.annotations[{written}]")
}

/// The backends that the routes of an Ingress send to; those of a canary Ingress that the routes of others send a part to.
fn backends<'a>(owner: &Owner<'_>, hosts: &'a [Host]) -> Vec<(&'a BackendId, &'a Route)> {
    let mut found = Vec::new();
    let routes = hosts.iter().flat_map(|host| &host.routes);
    if is_canary(owner) {
        let canaries =
            routes.filter_map(|route| Some((&route.policies.delivery.canary.as_ref()?.backend, route)));
        return canaries.filter(|(backend, _)| names(owner, backend)).collect();
    }
    for route in routes.filter(|route| is_of(owner, route)) {
        if let RouteAction::Forward { backends, .. } = &route.action {
            found.extend(backends.iter().map(|share| (&share.backend, route)));
        }
    }
    found
}

/// Whether the rules of an Ingress name the Service of a backend.
fn names(owner: &Owner<'_>, backend: &BackendId) -> bool {
    let services = owner.ingress.spec.iter().flat_map(|spec| {
        let rules = spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref());
        let paths = rules.flat_map(|http| http.paths.iter().map(|path| &path.backend));
        paths.chain(&spec.default_backend).filter_map(|backend| backend.service.as_ref())
    });
    let mut names = services.map(|service| &service.name);
    owner.object.namespace == backend.namespace && names.any(|name| *name == backend.service)
}

fn is_of(owner: &Owner<'_>, route: &Route) -> bool {
    route.source.namespace == owner.object.namespace && route.source.name == owner.object.name
}

fn health_check(check: &Check, route: &Route) -> HealthCheck {
    let Check { question, interval, timeout, unhealthy_threshold, healthy_threshold } = check.clone();
    HealthCheck {
        question,
        interval,
        timeout,
        unhealthy_threshold,
        healthy_threshold,
        upstream: route.policies.upstream.clone(),
    }
}
