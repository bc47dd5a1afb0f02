//! Drafts of hosts → finished hosts: the mode of their paths, precedence, policies.

use super::canary::{self, DraftCanary};
use super::paths::{PathKind, check_regex, has_regex_characters, is_unmatchable, literal_start, plain, rank};
use super::policies::{Owner, route_policies};
use super::{Build, policies, proxy_ssl, sessions};
use crate::annotation::config_map::Defaults;
use crate::model::certificate::CertificateId;
use crate::model::host::{Host, HostPattern};
use crate::model::listener::ListenerName;
use crate::model::policy::delivery::Delivery;
use crate::model::policy::{Deny, Rewrite};
use crate::model::route::{PathMatch, Route, RouteAction, RouteMatch, RouteSource};
use crate::problem::{Code, Severity};

/// A host while its Ingresses are read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) paths: Vec<DraftPath>,
    /// Serves what no path takes: the Ingress and where it sends.
    pub(super) default: Option<(usize, RouteAction)>,
    /// Takes a part of that.
    pub(super) default_canary: Option<DraftCanary>,
    /// The Ingress that gives it TLS and the certificate, `None` for the default one.
    pub(super) tls: Option<(usize, Option<CertificateId>)>,
    /// The host as the first rule wrote it.
    pub(super) written: String,
}

impl Draft {
    /// The host in messages.
    pub(super) fn shown(&self) -> &str {
        if self.written.is_empty() { "every host" } else { &self.written }
    }
}

/// A path that a host has, and whose it is.
pub(super) struct DraftPath {
    /// Index of the Ingress.
    pub(super) owner: usize,
    pub(super) kind: PathKind,
    pub(super) path: String,
    /// Path of the field.
    pub(super) field: String,
    pub(super) action: RouteAction,
    /// Takes a part of its requests.
    pub(super) canary: Option<DraftCanary>,
}

/// What all hosts share.
pub(super) struct Shared<'a> {
    pub(super) owners: &'a [Owner<'a>],
    pub(super) defaults: &'a Defaults,
    /// Where requests go that no rule takes.
    pub(super) controller_default: Option<RouteAction>,
}

impl Shared<'_> {
    fn owner(&self, path: &DraftPath) -> Option<&Owner<'_>> {
        self.owners.get(path.owner)
    }
}

/// Makes the host of a draft.
pub(super) fn finish(build: &mut Build<'_>, shared: &Shared<'_>, pattern: HostPattern, draft: Draft) -> Host {
    let is_regex = draft.paths.iter().any(|path| {
        shared.owner(path).is_some_and(|owner| {
            let target = owner.settings.rewrite_target.as_ref();
            owner.settings.use_regex || target.is_some_and(|target| *target != path.path)
        })
    });
    let mut routes = Vec::with_capacity(draft.paths.len() + 1);
    for path in &draft.paths {
        let Some(owner) = shared.owner(path) else { continue };
        sessions::report_path(build, owner, &path.path, &path.field);
        if is_regex {
            routes.extend(regex_route(build, shared, &draft, owner, path));
        } else {
            warn_of_literals(build, owner, path);
            routes.push(route(shared, &draft, owner, path, plain(path.kind, &path.path), None));
            routes.extend(slash_redirect(shared, &draft, owner, path));
        }
    }
    routes.sort_by_cached_key(|route| rank(&route.matches.path, &route.source.path));
    let everything = || RouteMatch { path: PathMatch::Prefix(String::new()) };
    let default = draft.default.as_ref();
    let default = default.and_then(|(owner, action)| shared.owners.get(*owner).map(|owner| (owner, action)));
    if let Some((owner, action)) = default {
        let mut policies = route_policies(owner, "/", draft.tls.is_some());
        policies.delivery = delivery(shared, owner, "/", draft.default_canary.as_ref());
        let source = source(owner, &draft, "/");
        routes.push(Route { source, matches: everything(), policies, action: with_fallback(owner, action) });
    } else if let Some(action) = &shared.controller_default {
        let source = RouteSource {
            namespace: String::new(),
            name: String::new(),
            host: draft.written.clone(),
            path: "/".into(),
        };
        let policies = policies::unconfigured(shared.defaults);
        routes.push(Route { source, matches: everything(), policies, action: action.clone() });
    }
    set_upstream_tls(build, shared, &draft, &mut routes);
    let listeners = ["http", "https"].map(|name| ListenerName(name.to_owned())).to_vec();
    Host {
        pattern,
        listeners,
        certificate: draft.tls.and_then(|(_, certificate)| certificate),
        ciphers: None,
        routes,
    }
}

/// TLS towards the backends: as the oldest Ingress of the host says, or each for its own paths.
fn set_upstream_tls(build: &mut Build<'_>, shared: &Shared<'_>, draft: &Draft, routes: &mut [Route]) {
    let of_paths = draft.paths.iter().map(|path| path.owner);
    let of_default = draft.default.iter().map(|(owner, _)| *owner);
    let of_host = proxy_ssl::of_host(build, shared.owners, of_paths.chain(of_default), draft.shown());
    for route in routes.iter_mut().filter(|route| proxy_ssl::is_spoken(route.policies.upstream.protocol)) {
        let is_own = |owner: &&Owner<'_>| {
            owner.object.namespace == route.source.namespace && owner.object.name == route.source.name
        };
        let owner = shared.owners.iter().find(is_own);
        // Who asks for verification has it, whatever an older Ingress of the host says.
        let verifies = |owner: &&Owner<'_>| owner.proxy_ssl.as_ref().is_some_and(|tls| tls.verify.is_some());
        let own = owner.filter(|owner| owner.settings.proxy_ssl_location_only || verifies(owner));
        let tls = own.map_or_else(|| of_host.clone(), |owner| owner.proxy_ssl.clone());
        route.policies.upstream.tls = tls.unwrap_or_default();
    }
}

fn source(owner: &Owner<'_>, draft: &Draft, path: &str) -> RouteSource {
    RouteSource {
        namespace: owner.object.namespace.clone(),
        name: owner.object.name.clone(),
        host: draft.written.clone(),
        path: path.to_owned(),
    }
}

fn with_fallback(owner: &Owner<'_>, action: &RouteAction) -> RouteAction {
    match action {
        RouteAction::Forward { backends, fallback: None } => {
            RouteAction::Forward { backends: backends.clone(), fallback: owner.fallback.clone() }
        }
        other => other.clone(),
    }
}

/// How a path gives its requests to endpoints: its Ingress's settings, its sessions, its canary.
fn delivery(shared: &Shared<'_>, owner: &Owner<'_>, path: &str, canary: Option<&DraftCanary>) -> Delivery {
    let affinity = sessions::affinity(owner, path);
    let canary = canary.and_then(|draft| canary::policy(shared.owners, draft, affinity.as_ref(), path));
    Delivery { affinity, canary, ..policies::delivery(&owner.settings) }
}

fn route(
    shared: &Shared<'_>,
    draft: &Draft,
    owner: &Owner<'_>,
    path: &DraftPath,
    matched: PathMatch,
    rewrite: Option<Rewrite>,
) -> Route {
    let mut policies = route_policies(owner, &path.path, draft.tls.is_some());
    policies.rewrite = rewrite;
    policies.delivery = delivery(shared, owner, &path.path, path.canary.as_ref());
    Route {
        source: source(owner, draft, &path.path),
        matches: RouteMatch { path: matched },
        policies,
        action: with_fallback(owner, &path.action),
    }
}

/// A path of a host in regex mode. One that is no expression answers 503 on the literal text that it begins with, so that
/// requests meant for it do not fall to a broader path with other policies.
fn regex_route(
    build: &mut Build<'_>,
    shared: &Shared<'_>,
    draft: &Draft,
    owner: &Owner<'_>,
    path: &DraftPath,
) -> Option<Route> {
    let text = path.path.as_str();
    let groups = match check_regex(text) {
        Ok(groups) => groups,
        Err(reason) => {
            let start = literal_start(text);
            let consequence = match start.len() {
                0 | 1 => "the path is not served".to_owned(),
                _ => format!("everything under {start} answers 503"),
            };
            let message =
                format!("not a regular expression that can be used ({reason}); {consequence}; correct it");
            build.problem(
                &owner.object,
                (Code::FieldInvalid, Severity::Error),
                (path.field.as_str(), text),
                message,
            );
            if start.len() < 2 {
                return None;
            }
            let mut route = route(shared, draft, owner, path, PathMatch::Regex(regex::escape(start)), None);
            route.policies.deny = Some(Deny { reason: format!("path {text} is not a regular expression") });
            return Some(route);
        }
    };
    if path.kind != PathKind::Literal && has_regex_characters(text) {
        let message = "read as a regular expression, since the host is in regex mode; ingress-nginx refuses it with this \
                       path type; write ImplementationSpecific";
        build.problem(
            &owner.object,
            (Code::FieldInvalid, Severity::Warning),
            (path.field.as_str(), text),
            message,
        );
    }
    let target = owner.settings.rewrite_target.as_ref().filter(|target| *target != text);
    if let Some(missing) = target.and_then(|target| highest_group(target)).filter(|group| *group > groups) {
        let message = format!(
            "the rewrite target uses ${missing}, but the groups of this path end at {groups}; it stays empty"
        );
        build.problem(
            &owner.object,
            (Code::FieldInvalid, Severity::Warning),
            (path.field.as_str(), text),
            message,
        );
    }
    let rewrite = target.map(|target| Rewrite { pattern: text.to_owned(), replacement: target.clone() });
    Some(route(shared, draft, owner, path, PathMatch::Regex(text.to_owned()), rewrite))
}

/// The highest `$1`…`$9` of a rewrite target.
fn highest_group(target: &str) -> Option<usize> {
    let digits =
        target.split('$').skip(1).filter_map(|rest| rest.chars().next().and_then(|c| c.to_digit(10)));
    digits.max().and_then(|digit| usize::try_from(digit).ok())
}

fn warn_of_literals(build: &mut Build<'_>, owner: &Owner<'_>, path: &DraftPath) {
    let message = if has_regex_characters(&path.path) {
        "compared as literal text, since no Ingress of the host asks for regular expressions; set use-regex to true if one \
         is meant"
    } else if is_unmatchable(&path.path) {
        "can match no request: paths are compared after // was merged, dots resolved and the query cut off; correct it"
    } else {
        return;
    };
    let at = (path.field.as_str(), path.path.as_str());
    build.problem(&owner.object, (Code::FieldInvalid, Severity::Warning), at, message);
}

/// nginx answers `/p` by a redirect to `/p/` where only a literal `/p/` exists.
fn slash_redirect(shared: &Shared<'_>, draft: &Draft, owner: &Owner<'_>, path: &DraftPath) -> Option<Route> {
    let is_asked = path.kind == PathKind::Literal
        || (path.kind == PathKind::Prefix && owner.defaults.is_slash_redirected);
    let bare = path.path.strip_suffix('/').filter(|bare| !bare.is_empty())?;
    if !is_asked || draft.paths.iter().any(|other| other.path == bare) {
        return None;
    }
    let mut route = route(shared, draft, owner, path, PathMatch::Exact(bare.to_owned()), None);
    route.action = RouteAction::Redirect { status: 301, path: path.path.clone() };
    Some(route)
}
