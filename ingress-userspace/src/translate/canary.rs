//! Canary Ingresses → the routes of the main Ingresses whose host, path and path type they share.
//!
//! A canary brings a Service, its rules and how its endpoints are chosen; whatever else it says is of no account. It adds
//! no host, path or certificate. Each path takes one canary: of the first Ingress (older, or by name) that offers one.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::IngressSpec;

use super::Build;
use super::hosts::{Draft, DraftPath};
use super::ingress::{action, host_pattern, read_path};
use super::policies::Owner;
use crate::annotation::canary::{CANARY, CanaryRules};
use crate::model::backend::BackendId;
use crate::model::host::HostPattern;
use crate::model::policy::delivery;
use crate::model::route::RouteAction;
use crate::problem::{Code, Severity};

/// A canary of a path.
#[derive(Clone, Debug)]
pub(super) struct DraftCanary {
    /// Index of its Ingress.
    pub(super) owner: usize,
    /// Its Service.
    backend: BackendId,
}

/// Whether an Ingress is a canary.
pub(super) fn is_canary(owner: &Owner<'_>) -> bool {
    owner.settings.canary.is_some()
}

/// Gives the paths their canaries.
pub(super) fn fold(build: &mut Build<'_>, drafts: &mut BTreeMap<HostPattern, Draft>, owners: &[Owner<'_>]) {
    for (index, owner) in owners.iter().enumerate().filter(|(_, owner)| is_canary(owner)) {
        report_ignored(build, owner);
        let none = IngressSpec::default();
        let spec = owner.ingress.spec.as_ref().unwrap_or(&none);
        if let Some(default) = &spec.default_backend {
            let field = "spec.defaultBackend";
            let backend = action(build, owner, default, field, None).as_ref().and_then(backend_of);
            let draft = drafts.get_mut(&HostPattern::Any);
            let main =
                draft.and_then(|draft| Some((draft.default.as_ref()?.1.clone(), &mut draft.default_canary)));
            attach(build, owners, index, backend, main, (field, "every path"));
        }
        for (number, rule) in spec.rules.as_deref().unwrap_or_default().iter().enumerate() {
            let written = rule.host.as_deref().unwrap_or_default();
            let field = format!("spec.rules[{number}]");
            let pattern = match host_pattern(written) {
                Ok(pattern) => pattern,
                Err(reason) => {
                    let message = format!("{reason}; the rule takes no request; correct the host");
                    let at = (format!("{field}.host"), written);
                    build.problem(&owner.object, (Code::FieldInvalid, Severity::Error), at, message);
                    continue;
                }
            };
            let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
            for (number, path) in paths.iter().enumerate() {
                let field = format!("{field}.http.paths[{number}]");
                let Some((kind, text)) = read_path(build, owner, path, &field) else { continue };
                let place = format!("{field}.backend");
                let backend = action(build, owner, &path.backend, &place, None).as_ref().and_then(backend_of);
                let draft = drafts.get_mut(&pattern);
                let paths = draft.into_iter().flat_map(|draft| &mut draft.paths);
                let main = paths.into_iter().find(|main| main.kind == kind && main.path == text);
                let main = main.map(|DraftPath { action, canary, .. }| (action.clone(), canary));
                let shown = if written.is_empty() { text } else { format!("{written}{text}") };
                attach(build, owners, index, backend, main, (&field, &shown));
            }
        }
    }
}

fn backend_of(action: &RouteAction) -> Option<BackendId> {
    match action {
        RouteAction::Forward { backends, .. } => backends.first().map(|share| share.backend.clone()),
        RouteAction::Redirect { .. } | RouteAction::Respond { .. } => None,
    }
}

/// Gives one path its canary, or says why not.
fn attach(
    build: &mut Build<'_>,
    owners: &[Owner<'_>],
    index: usize,
    backend: Option<BackendId>,
    main: Option<(RouteAction, &mut Option<DraftCanary>)>,
    (field, shown): (&str, &str),
) {
    // A backend that names no Service was reported when it was read.
    let (Some(owner), Some(backend)) = (owners.get(index), backend) else { return };
    let mut refuse = |code, message: &str| {
        build.problem(&owner.object, (code, Severity::Error), (field, shown), message);
    };
    let Some((action, canary)) = main else {
        let message = "no other Ingress has this host, path and path type, so the canary takes no request; create the main \
                       Ingress, or remove the canary annotation";
        refuse(Code::ReferenceMissing, message);
        return;
    };
    if backend_of(&action).as_ref() == Some(&backend) {
        let message = "the main Ingress sends to the same Service and port, so the canary takes no request; name another \
                       Service";
        refuse(Code::Conflict, message);
        return;
    }
    if let Some(first) = canary.as_ref().and_then(|first| owners.get(first.owner)) {
        let message = format!(
            "{} comes first (older, or by name) and is the canary of this path, which has only one; remove one of them",
            first.object
        );
        refuse(Code::Conflict, &message);
        return;
    }
    *canary = Some(DraftCanary { owner: index, backend });
}

/// The canary of a finished route, whose sessions follow the main Ingress unless they are of no account.
pub(super) fn policy(
    owners: &[Owner<'_>],
    canary: &DraftCanary,
    main: Option<&delivery::Affinity>,
    path: &str,
) -> Option<delivery::Canary> {
    let owner = owners.get(canary.owner)?;
    let CanaryRules { header, cookie, weight, weight_total, is_sticky } = owner.settings.canary.clone()?;
    let affinity = if is_sticky { main.cloned() } else { super::sessions::affinity(owner, path) };
    Some(delivery::Canary {
        backend: canary.backend.clone(),
        balance: owner.settings.balance.clone(),
        affinity,
        is_sticky,
        header,
        cookie,
        weight,
        weight_total,
    })
}

/// Names what a canary Ingress asks for in vain.
fn report_ignored(build: &mut Build<'_>, owner: &Owner<'_>) {
    let spec = owner.ingress.spec.as_ref();
    if let Some(tls) = spec.and_then(|spec| spec.tls.as_ref()).filter(|tls| !tls.is_empty()) {
        let shown: Vec<&str> = tls.iter().filter_map(|entry| entry.secret_name.as_deref()).collect();
        let message = format!(
            "of no account on a canary ({}: \"true\"): the main Ingress gives the host its certificate",
            CANARY.row.key
        );
        build.problem(
            &owner.object,
            (Code::FieldUnsupported, Severity::Note),
            ("spec.tls", &shown.join(", ")),
            message,
        );
    }
}
