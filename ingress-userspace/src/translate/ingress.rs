//! Rules and default backends of Ingresses → hosts and routes.
//!
//! Ingresses are read oldest first. Each host is drafted from the rules of all of them; when all are read, the draft's mode
//! (ordinary or regex) is known and its paths become routes in order of precedence. As in ingress-nginx, the host is
//! chosen first: a request for a known host whose path matches nothing goes to the default backend of the
//! Ingress that brought the host, else to the controller's, else it gets 404, and never to a catch-all Ingress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressSpec};

use super::classes::Classes;
use super::endpoints::{PortRef, backend, service_backend};
use super::hosts::{Draft, DraftPath, Shared, finish};
use super::paths::{PathKind, written};
use super::policies::Owner;
use super::tls::Entries;
use super::{Build, canary, health, names, policies};
use crate::k8s::cluster::ObjectKey;
use crate::model::backend::BackendId;
use crate::model::certificate::CertificateId;
use crate::model::host::{Host, HostPattern};
use crate::model::route::{RouteAction, WeightedBackend};
use crate::problem::{Code, ObjectRef, Severity};

/// All hosts of these Ingresses. `has_catch_all`: requests that no host takes are among them.
pub(super) fn hosts(
    build: &mut Build<'_>,
    classes: &Classes,
    ours: &[&Arc<Ingress>],
    has_catch_all: bool,
) -> Vec<Host> {
    let owners: Vec<Owner<'_>> =
        ours.iter().filter_map(|ingress| policies::owner(build, ingress, classes.of(ingress))).collect();
    let controller_default = controller_default(build);
    let mut shared = Shared {
        owners: &owners,
        defaults: &classes.cluster,
        controller_default,
        tls_suffixes: BTreeSet::new(),
    };
    let mut drafts: BTreeMap<HostPattern, Draft> = BTreeMap::new();
    for (index, owner) in owners.iter().enumerate().filter(|(_, owner)| !canary::is_canary(owner)) {
        read_ingress(build, &mut drafts, &owners, index, owner, shared.controller_default.as_ref());
    }
    canary::fold(build, &mut drafts, &owners);
    if shared.controller_default.is_some() && has_catch_all {
        drafts.entry(HostPattern::Any).or_default();
    }
    let with_tls = drafts.iter().filter(|(_, draft)| draft.tls.is_some());
    shared.tls_suffixes = with_tls
        .filter_map(|(pattern, _)| match pattern {
            HostPattern::Wildcard(suffix) => Some(suffix.clone()),
            HostPattern::Exact(_) | HostPattern::Any => None,
        })
        .collect();
    let asked = drafts
        .iter()
        .map(|(pattern, draft)| (pattern.clone(), names::asked(build, &owners, draft)))
        .collect();
    let mut hosts: Vec<Host> =
        drafts.into_iter().map(|(pattern, draft)| finish(build, &shared, pattern, draft)).collect();
    names::add(build, &shared, &asked, &mut hosts);
    build.checks = health::checks(build, &owners, &hosts);
    hosts
}

/// Where requests go that nothing else takes, by `--default-backend-service`.
fn controller_default(build: &mut Build<'_>) -> Option<RouteAction> {
    let key = build.settings.default_backend.clone()?;
    let owner = ObjectRef::flag("--default-backend-service");
    let port = PortRef {
        namespace: &key.namespace,
        service: &key.name,
        port: None,
        owner: &owner,
        field: "service",
    };
    Some(forward(backend(build, &port)))
}

fn forward(backend: BackendId) -> RouteAction {
    RouteAction::Forward { backends: vec![WeightedBackend { backend, weight: 1 }], fallback: None }
}

fn read_ingress(
    build: &mut Build<'_>,
    drafts: &mut BTreeMap<HostPattern, Draft>,
    owners: &[Owner<'_>],
    index: usize,
    owner: &Owner<'_>,
    controller_default: Option<&RouteAction>,
) {
    let none = IngressSpec::default();
    let spec = owner.ingress.spec.as_ref().unwrap_or(&none);
    let default = spec.default_backend.as_ref();
    let default =
        default.and_then(|default| action(build, owner, default, "spec.defaultBackend", controller_default));
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() {
        let tls = Entries::read(build, &owner.object, spec.tls.as_deref().unwrap_or_default());
        let Some(default) = default else {
            if spec.default_backend.is_none() {
                build.problem(
                    &owner.object,
                    (Code::FieldInvalid, Severity::Warning),
                    ("spec", ""),
                    "has neither rules nor a default backend, so it serves nothing; add one",
                );
            }
            return;
        };
        let certificate = tls.certificate(build, &HostPattern::Any);
        let any = drafts.entry(HostPattern::Any).or_default();
        set_tls(build, any, owners, index, certificate);
        set_default(build, any, owners, index, default, "spec.defaultBackend");
        return;
    }
    let tls = Entries::read(build, &owner.object, spec.tls.as_deref().unwrap_or_default());
    for (number, rule) in rules.iter().enumerate() {
        let written = rule.host.as_deref().unwrap_or_default();
        let field = format!("spec.rules[{number}]");
        let pattern = match host_pattern(written) {
            Ok(pattern) => pattern,
            Err(reason) => {
                let message = format!("{reason}; the rule is not served; correct the host");
                let field = format!("{field}.host");
                build.problem(
                    &owner.object,
                    (Code::FieldInvalid, Severity::Error),
                    (field, written),
                    message,
                );
                continue;
            }
        };
        if written.contains(|c: char| c.is_ascii_uppercase()) {
            let message = "holds capital letters; read in lower case; write it so";
            let at = (format!("{field}.host"), written);
            build.problem(&owner.object, (Code::FieldInvalid, Severity::Warning), at, message);
        }
        let certificate = tls.certificate(build, &pattern);
        let draft = drafts.entry(pattern).or_insert_with(|| Draft {
            written: written.to_owned(),
            first: Some(index),
            ..Draft::default()
        });
        draft.has_tls_section |= !tls.is_empty();
        set_tls(build, draft, owners, index, certificate);
        let default_action = default.as_ref().or(controller_default);
        read_rule(build, draft, owners, index, rule, &field, default_action);
        if let Some(default) = &default {
            set_default(build, draft, owners, index, default.clone(), "spec.defaultBackend");
        }
    }
}

/// The first Ingress that gives a host TLS chooses its certificate.
fn set_tls(
    build: &mut Build<'_>,
    draft: &mut Draft,
    owners: &[Owner<'_>],
    index: usize,
    certificate: Option<Option<CertificateId>>,
) {
    let Some(certificate) = certificate else { return };
    let Some((first, served)) = &draft.tls else {
        draft.tls = Some((index, certificate));
        return;
    };
    if *served == certificate || *first == index {
        return;
    }
    if let (Some(winner), Some(loser)) = (owners.get(*first), owners.get(index)) {
        let shown = certificate.map(|id| id.name).unwrap_or_default();
        let message = format!(
            "{} comes first (older, or by name) and its certificate is served for {}; name the same Secret in both",
            winner.object,
            draft.shown()
        );
        build.problem(&loser.object, (Code::Conflict, Severity::Warning), ("spec.tls", &shown), message);
    }
}

fn set_default(
    build: &mut Build<'_>,
    draft: &mut Draft,
    owners: &[Owner<'_>],
    index: usize,
    default: RouteAction,
    field: &str,
) {
    match (&draft.default, owners.get(index)) {
        // The same host in two rules of one Ingress.
        (Some((first, _)), _) if *first == index => {}
        (Some((first, _)), Some(loser)) => {
            let winner = owners.get(*first).map(|owner| owner.object.to_string()).unwrap_or_default();
            let message = format!(
                "{winner} comes first (older, or by name) and serves what no rule of {} takes; remove one of them",
                draft.shown()
            );
            build.problem(&loser.object, (Code::Conflict, Severity::Error), (field, ""), message);
        }
        _ => draft.default = Some((index, default)),
    }
}

fn read_rule(
    build: &mut Build<'_>,
    draft: &mut Draft,
    owners: &[Owner<'_>],
    index: usize,
    rule: &IngressRule,
    field: &str,
    controller_default: Option<&RouteAction>,
) {
    let Some(owner) = owners.get(index) else { return };
    let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
    for (number, path) in paths.iter().enumerate() {
        let field = format!("{field}.http.paths[{number}]");
        let Some((kind, text)) = read_path(build, owner, path, &field) else { continue };
        let path_field = format!("{field}.path");
        let (as_kind, as_text) = written(kind, &text);
        let name = (as_kind, as_text.to_owned());
        if let Some(winner) = draft.taken.get(&name).and_then(|winner| owners.get(*winner)) {
            report_taken(build, winner, owner, (&path_field, &text), draft.shown());
            continue;
        }
        draft.taken.insert(name, index);
        let field = format!("{field}.backend");
        let default = controller_default.cloned();
        let action = action(build, owner, &path.backend, &field, controller_default)
            .or(default)
            .unwrap_or(RouteAction::Respond { status: 404 });
        draft.paths.push(DraftPath {
            owner: index,
            kind,
            path: text,
            field: path_field,
            action,
            canary: None,
        });
    }
}

/// Of two claims on a path the first counts.
pub(super) fn report_taken(
    build: &mut Build<'_>,
    winner: &Owner<'_>,
    loser: &Owner<'_>,
    at: (&str, &str),
    host: &str,
) {
    let message = if winner.object == loser.object {
        format!("the same path of {host} stands twice in this Ingress; the first is served; remove one")
    } else {
        format!(
            "{} comes first (older, or by name) and keeps this path of {host}; remove one of them",
            winner.object
        )
    };
    build.problem(&loser.object, (Code::Conflict, Severity::Error), at, message);
}

pub(super) fn read_path(
    build: &mut Build<'_>,
    owner: &Owner<'_>,
    path: &HTTPIngressPath,
    field: &str,
) -> Option<(PathKind, String)> {
    let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let kind = match path.path_type.as_str() {
        "Exact" => PathKind::Exact,
        "Prefix" => PathKind::Prefix,
        "ImplementationSpecific" => PathKind::Literal,
        other => {
            let message = if other.is_empty() {
                "is missing; read as Prefix; write Exact, Prefix or ImplementationSpecific"
            } else {
                "is no path type; read as Prefix; write Exact, Prefix or ImplementationSpecific"
            };
            let field = format!("{field}.pathType");
            build.problem(&owner.object, (Code::FieldInvalid, Severity::Warning), (field, other), message);
            PathKind::Prefix
        }
    };
    if !text.starts_with('/') {
        let message = "does not begin with /, so it can match no request; the path is not served; add the /";
        build.problem(
            &owner.object,
            (Code::FieldInvalid, Severity::Error),
            (format!("{field}.path"), text),
            message,
        );
        return None;
    }
    if text.contains(|c: char| c.is_control()) {
        let message = "holds control characters, which no request can; the path is not served; remove them";
        let field = format!("{field}.path");
        build.problem(&owner.object, (Code::FieldInvalid, Severity::Error), (field, text), message);
        return None;
    }
    Some((kind, text.to_owned()))
}

/// Where a backend of an Ingress sends its requests; `None` when it names nothing that we can send to.
pub(super) fn action(
    build: &mut Build<'_>,
    owner: &Owner<'_>,
    target: &IngressBackend,
    field: &str,
    controller_default: Option<&RouteAction>,
) -> Option<RouteAction> {
    if let Some(resource) = &target.resource {
        let shown = format!("{} {}", resource.kind, resource.name);
        let message =
            "resource backends are not supported; its requests go to the default backend; name a Service";
        let field = format!("{field}.resource");
        build.problem(&owner.object, (Code::FieldUnsupported, Severity::Error), (field, &shown), message);
        return controller_default.cloned();
    }
    let Some(service) = &target.service else {
        let message = "names no Service; its requests go to the default backend; name one";
        build.problem(&owner.object, (Code::FieldInvalid, Severity::Error), (field, ""), message);
        return controller_default.cloned();
    };
    let port = service.port.as_ref();
    let number = port.and_then(|port| port.number).map(|number| number.to_string());
    let written = port.and_then(|port| port.name.clone()).filter(|name| !name.is_empty()).or(number);
    if written.is_none() {
        let message = "names no port; the first one of the Service is taken; add name or number";
        let field = format!("{field}.service.port");
        build.problem(&owner.object, (Code::FieldInvalid, Severity::Warning), (field, ""), message);
    }
    let field = format!("{field}.service");
    let key = ObjectKey::new(owner.object.namespace.clone(), service.name.clone());
    let port = PortRef {
        namespace: &key.namespace,
        service: &key.name,
        port: written.as_deref(),
        owner: &owner.object,
        field: &field,
    };
    let found =
        if owner.settings.service_upstream { service_backend(build, &port) } else { backend(build, &port) };
    Some(forward(found))
}

/// Reads `spec.rules[].host`.
pub(super) fn host_pattern(written: &str) -> Result<HostPattern, &'static str> {
    if written.is_empty() {
        return Ok(HostPattern::Any);
    }
    let host = written.to_ascii_lowercase();
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Err("an address is not a host name");
    }
    let (suffix, is_wildcard) = match host.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (host.as_str(), false),
    };
    if suffix.contains('*') {
        return Err("a wildcard stands only as the first label, as in *.example.com");
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if suffix.len() > 253 || !suffix.split('.').all(is_label) {
        return Err("not a host name (letters, digits, '-' and '.', without a port)");
    }
    let suffix = suffix.to_owned();
    Ok(if is_wildcard { HostPattern::Wildcard(suffix) } else { HostPattern::Exact(suffix) })
}
