//! Canary Ingresses → the routes of the main Ingresses whose host, path and path type they share.
//!
//! A canary brings a Service, its rules and how its endpoints are chosen; whatever else it says is of no account. It adds
//! no host, path or certificate. Each path takes one canary: of the first Ingress (older, or by name) that offers one.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{IngressBackend, IngressRule, IngressSpec};

use super::Build;
use super::hosts::{Draft, DraftPath};
use super::ingress::{action, host_pattern, read_path};
use super::paths::{PathKind, identity, written as written_path};
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
            let backend = backend(build, owner, default, field);
            let main = drafts.get_mut(&HostPattern::Any).and_then(|draft| {
                let (owner, action) = draft.default.as_ref()?;
                Some(Main { owner: *owner, action, canary: &mut draft.default_canary })
            });
            attach(build, owners, index, backend, main, (field, "every path"));
        }
        for (number, rule) in spec.rules.as_deref().unwrap_or_default().iter().enumerate() {
            let field = format!("spec.rules[{number}]");
            fold_rule(build, drafts, owners, index, rule, &field);
        }
    }
}

fn fold_rule(
    build: &mut Build<'_>,
    drafts: &mut BTreeMap<HostPattern, Draft>,
    owners: &[Owner<'_>],
    index: usize,
    rule: &IngressRule,
    field: &str,
) {
    let Some(owner) = owners.get(index) else { return };
    let written = rule.host.as_deref().unwrap_or_default();
    let pattern = match host_pattern(written) {
        Ok(pattern) => pattern,
        Err(reason) => {
            let message = format!("{reason}; the rule takes no request; correct the host");
            let at = (format!("{field}.host"), written);
            build.problem(&owner.object, (Code::FieldInvalid, Severity::Error), at, message);
            return;
        }
    };
    let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
    for (number, path) in paths.iter().enumerate() {
        let field = format!("{field}.http.paths[{number}]");
        let Some((kind, text)) = read_path(build, owner, path, &field) else { continue };
        let backend = backend(build, owner, &path.backend, &format!("{field}.backend"));
        let mut paths: Vec<&mut DraftPath> =
            drafts.get_mut(&pattern).into_iter().flat_map(|draft| &mut draft.paths).collect();
        let same = |of: fn(PathKind, &str) -> (PathKind, &str)| {
            paths.iter().position(|main| of(main.kind, &main.path) == of(kind, &text))
        };
        let main = same(written_path).or_else(|| same(identity)).map(|at| paths.swap_remove(at));
        let main = main.map(|DraftPath { owner, action, canary, .. }| Main { owner: *owner, action, canary });
        let shown = format!("{written}{text}");
        attach(build, owners, index, backend, main, (&field, &shown));
    }
}

/// The backend that a canary names. While it has none, the main Ingress serves, and that is what a Problem must say.
fn backend(
    build: &mut Build<'_>,
    owner: &Owner<'_>,
    target: &IngressBackend,
    field: &str,
) -> Option<BackendId> {
    let known = build.problems.len();
    let found = action(build, owner, target, field, None);
    for problem in build.problems.iter_mut().skip(known) {
        for without in ["its requests go to the default backend", "requests get 503"] {
            problem.message = problem.message.replace(without, "the main Ingress serves alone");
        }
    }
    found.as_ref().and_then(backend_of)
}

fn backend_of(action: &RouteAction) -> Option<BackendId> {
    match action {
        RouteAction::Forward { backends, .. } => backends.first().map(|share| share.backend.clone()),
        RouteAction::Redirect { .. } | RouteAction::Respond { .. } => None,
    }
}

/// A path that may get a canary.
struct Main<'a> {
    /// Index of its Ingress.
    owner: usize,
    action: &'a RouteAction,
    canary: &'a mut Option<DraftCanary>,
}

/// Gives one path its canary, or says why not.
fn attach(
    build: &mut Build<'_>,
    owners: &[Owner<'_>],
    index: usize,
    backend: Option<BackendId>,
    main: Option<Main<'_>>,
    (field, shown): (&str, &str),
) {
    // A backend that names no Service was reported when it was read.
    let (Some(owner), Some(backend)) = (owners.get(index), backend) else { return };
    let mut refuse = |code, message: &str| {
        build.problem(&owner.object, (code, Severity::Error), (field, shown), message);
    };
    let Some(Main { owner: main, action, canary }) = main else {
        let message = "no other Ingress has this host, path and path type, so the canary takes no request; create the main \
                       Ingress, or remove the canary annotation";
        refuse(Code::ReferenceMissing, message);
        return;
    };
    if backend_of(action).as_ref() == Some(&backend) {
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
    if let Some(main) = owners.get(main).filter(|main| main.object.namespace != owner.object.namespace) {
        let message = format!(
            "{}, of another namespace, is the canary of this path and takes a part of its requests, as ingress-nginx has it; \
             remove it there if that is not meant",
            owner.object
        );
        let at = ("metadata.annotations", shown);
        build.problem(&main.object, (Code::Conflict, Severity::Warning), at, message);
    }
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
    let is_one = canary.backend.is_of_service();
    let affinity = if is_one {
        None
    } else if is_sticky {
        main.cloned()
    } else {
        super::sessions::affinity(owner, path)
    };
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
