//! Drafts of hosts → finished hosts: the mode of their paths, precedence, policies.

mod remainder;

use std::collections::{BTreeSet, HashMap};

use super::canary::DraftCanary;
use super::paths::{PathKind, check_regex, has_regex_characters, is_unmatchable, literal_start, plain, rank};
use super::policies::{Owner, PathOf, fill_groups, path_matches, route_policies};
use super::{Build, ciphers, delivery, passthrough, proxy_ssl, server_snippet, sessions, twins};
use crate::annotation::config_map::Defaults;
use crate::annotation::value::text::is_url;
use crate::model::certificate::CertificateId;
use crate::model::host::{Host, HostPattern};
use crate::model::listener::ListenerName;
use crate::model::policy::answer::{Answer, Content, LocationForm};
use crate::model::policy::{Deny, Rewrite};
use crate::model::route::{PathMatch, Route, RouteAction, RouteMatch, RouteSource};
use crate::model::template::{Template, Variable};
use crate::problem::{Code, Severity};

/// A host while its Ingresses are read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) paths: Vec<DraftPath>,
    /// Which Ingress has a path, as it is written.
    pub(super) taken: HashMap<(PathKind, String), usize>,
    /// Serves what no path takes: the Ingress and where it sends.
    pub(super) default: Option<(usize, RouteAction)>,
    /// Takes a part of that.
    pub(super) default_canary: Option<DraftCanary>,
    /// The Ingress that gives it TLS and the certificate, `None` for the default one.
    pub(super) tls: Option<(usize, Option<CertificateId>)>,
    /// Some Ingress with rules for it has a TLS section, for whichever names; as in ingress-nginx, cleartext requests are
    /// redirected then.
    pub(super) has_tls_section: bool,
    /// The host as the first rule wrote it.
    pub(super) written: String,
    /// The Ingress of that rule, which has the requests that no path takes.
    pub(super) first: Option<usize>,
}

impl Draft {
    /// The Ingresses that it has paths or a default backend of, the oldest first.
    pub(super) fn owners(&self) -> BTreeSet<usize> {
        self.paths.iter().map(|path| path.owner).chain(self.default.iter().map(|(owner, _)| *owner)).collect()
    }

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
    /// Domains whose names have TLS by a wildcard host.
    pub(super) tls_suffixes: BTreeSet<String>,
}

impl Shared<'_> {
    fn owner(&self, path: &DraftPath) -> Option<&Owner<'_>> {
        self.owners.get(path.owner)
    }
}

/// How the paths of a host are matched, and what its routes need to know of it.
struct Mode<'a> {
    shared: &'a Shared<'a>,
    /// Every path is a regular expression, unless its Ingress is strict.
    is_regex: bool,
    has_tls: bool,
    https_port: u16,
}

/// Makes the host of a draft.
pub(super) fn finish(
    build: &mut Build<'_>,
    shared: &Shared<'_>,
    pattern: HostPattern,
    mut draft: Draft,
) -> Host {
    let is_regex = draft.paths.iter().any(|path| {
        shared.owner(path).is_some_and(|owner| {
            let rewriting = &owner.settings.rewriting;
            !rewriting.is_strict && (rewriting.use_regex || rewriting.target_for(&path.path).is_some())
        })
    });
    let has_tls = draft.tls.is_some()
        || draft.has_tls_section
        || matches!(&pattern, HostPattern::Exact(name)
            if name.split_once('.').is_some_and(|(_, suffix)| shared.tls_suffixes.contains(suffix)));
    // A catch-all host has the default certificate, which is none that a redirect could count on.
    let is_redirected = has_tls && pattern != HostPattern::Any;
    let mode = Mode { shared, is_regex, has_tls: is_redirected, https_port: build.settings.https_port };
    let mut routes = Vec::with_capacity(draft.paths.len() + 1);
    twins::drop_twins(build, shared, &mut draft, |owner, path| mode.is_expression(owner, path));
    for path in &draft.paths {
        let Some(owner) = shared.owner(path) else { continue };
        sessions::report_path(build, owner, &path.path, &path.field);
        if mode.is_expression(owner, path) {
            routes.extend(regex_route(build, &mode, &draft, owner, path));
        } else {
            warn_of_literals(build, owner, path);
            routes.push(plain_route(build, &mode, &draft, owner, path));
            routes.extend(slash_redirect(&mode, &draft, owner, path));
        }
    }
    // Beside expressions stand the paths of strict Ingresses alone, and what they name exactly is meant.
    let has_expressions = routes.iter().any(|route| matches!(route.matches.path, PathMatch::Regex(_)));
    routes.sort_by_cached_key(|route| {
        let is_first = has_expressions && matches!(route.matches.path, PathMatch::Exact(_));
        (!is_first, rank(&route.matches.path, &route.source.path))
    });
    if let Some(route) = start_page(build, shared, &mode, &draft) {
        routes.insert(0, route);
    }
    routes.extend(remainder::remainder(&mode, &pattern, &draft));
    set_upstream_tls(build, shared, &draft, &mut routes);
    server_snippet::apply(build, shared, &draft, &mut routes);
    let client_auth = super::client_certificate::of_host(build, shared, &draft);
    for route in &mut routes {
        route.policies.client_auth.clone_from(&client_auth);
    }
    let ciphers = ciphers::of_host(build, shared, &draft);
    let listeners = ["http", "https"].map(|name| ListenerName(name.to_owned())).to_vec();
    let passthrough = passthrough::backend(build, shared, &pattern, &draft);
    passthrough::speak_tls(passthrough.as_ref(), &mut routes);
    let certificate = draft.tls.and_then(|(_, certificate)| certificate);
    Host { pattern, listeners, certificate, ciphers, client_auth, passthrough, routes }
}

impl Mode<'_> {
    fn is_expression(&self, owner: &Owner<'_>, path: &DraftPath) -> bool {
        let rewriting = &owner.settings.rewriting;
        if rewriting.is_strict {
            rewriting.use_regex && path.kind == PathKind::Literal
        } else {
            self.is_regex
        }
    }

    fn path<'p>(&self, path: &'p str, is_rewritten: bool) -> PathOf<'p> {
        PathOf { path, has_tls: self.has_tls, https_port: self.https_port, is_rewritten }
    }
}

/// TLS towards the backends: as the oldest Ingress of the host says, or each for its own paths.
fn set_upstream_tls(build: &mut Build<'_>, shared: &Shared<'_>, draft: &Draft, routes: &mut [Route]) {
    let of_paths = draft.paths.iter().map(|path| path.owner);
    let of_default = draft.default.iter().map(|(owner, _)| *owner);
    let of_host = proxy_ssl::of_host(build, shared.owners, of_paths.chain(of_default), draft.shown());
    let of_paths = draft.paths.iter().map(|path| path.owner);
    let of_default = draft.default.iter().map(|(owner, _)| *owner);
    let indices: BTreeSet<usize> = of_paths.chain(of_default).collect();
    for route in routes.iter_mut().filter(|route| proxy_ssl::is_spoken(route.policies.upstream.protocol)) {
        let is_own = |owner: &&Owner<'_>| {
            owner.object.namespace == route.source.namespace && owner.object.name == route.source.name
        };
        let owner = indices.iter().filter_map(|index| shared.owners.get(*index)).find(is_own);
        // Who asks for verification has it, whatever an older Ingress of the host says.
        let verifies = |owner: &&Owner<'_>| owner.proxy_ssl.as_ref().is_some_and(|tls| tls.verify.is_some());
        let own = owner.filter(|owner| owner.settings.proxy_ssl_location_only || verifies(owner));
        let tls = own.map_or_else(|| of_host.clone(), |owner| owner.proxy_ssl.clone());
        route.policies.upstream.tls = tls.unwrap_or_default();
        proxy_ssl::name_server(owner, &mut route.policies.upstream.tls);
    }
}

/// `app-root`: exactly `/` is redirected, before everything else. The oldest Ingress of the host with it counts; one that
/// answers 503 takes nothing from the others.
fn start_page(build: &mut Build<'_>, shared: &Shared<'_>, mode: &Mode<'_>, draft: &Draft) -> Option<Route> {
    let mut winner: Option<(&Owner<'_>, &Template)> = None;
    for owner in draft.owners().into_iter().filter_map(|index| shared.owners.get(index)) {
        let Some(path) = owner.settings.redirect.app_root.as_ref().filter(|_| owner.settings.deny.is_none())
        else {
            continue;
        };
        match winner {
            None => winner = Some((owner, path)),
            Some((first, chosen)) if chosen != path => {
                let message = format!(
                    "{} comes first (older, or by name) and has the start page of {}; remove one of them",
                    first.object,
                    draft.shown()
                );
                let at = (owner.field("app-root"), path.to_string());
                build.problem(&owner.object, (Code::Conflict, Severity::Warning), (at.0, &at.1), message);
            }
            Some(_) => {}
        }
    }
    let (owner, path) = winner?;
    let mut policies = route_policies(owner, &mode.path("/", false));
    let mut to = Template::parse("$scheme://$best_http_host").ok()?;
    to.0.extend(path.0.iter().cloned());
    let content = Content::Location { to, keeps_query: false, form: LocationForm::Host };
    policies.answers = vec![Answer::always(302, content)];
    Some(Route {
        source: source(owner, draft, "/"),
        matches: RouteMatch { path: PathMatch::Exact("/".to_owned()) },
        policies,
        action: RouteAction::Respond { status: 404 },
    })
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

fn route(
    mode: &Mode<'_>,
    draft: &Draft,
    owner: &Owner<'_>,
    path: &DraftPath,
    matched: PathMatch,
    rewrite: Option<Rewrite>,
) -> Route {
    let mut policies = route_policies(owner, &mode.path(&path.path, rewrite.is_some()));
    if let PathMatch::Regex(pattern) = &matched {
        fill_groups(&mut policies.answers, pattern);
    }
    match rewrite {
        Some(rewrite) if is_url(&rewrite.replacement) => policies.answers.push(elsewhere(owner, rewrite)),
        rewrite => policies.rewrite = rewrite,
    }
    policies.delivery =
        delivery::delivery(mode.shared, owner, (&path.path, &path.action), path.canary.as_ref());
    Route {
        source: source(owner, draft, &path.path),
        matches: RouteMatch { path: matched },
        policies,
        action: with_fallback(owner, &path.action),
    }
}

/// A rewrite to a URL is a redirect.
fn elsewhere(owner: &Owner<'_>, rewrite: Rewrite) -> Answer {
    let condition = path_matches(&rewrite.pattern);
    let content =
        Content::Location { to: rewrite.replacement, keeps_query: true, form: owner.settings.redirect.form };
    Answer { conditions: vec![condition], ..Answer::always(302, content) }
}

/// A path that is compared as it is written. Its target, if it has one, replaces all of the request's path.
fn plain_route(
    build: &mut Build<'_>,
    mode: &Mode<'_>,
    draft: &Draft,
    owner: &Owner<'_>,
    path: &DraftPath,
) -> Route {
    let target = owner.settings.rewriting.target_for(&path.path);
    if target.is_some_and(|target| highest_group(target).is_some()) {
        let message = "the rewrite target uses groups, but the path is no regular expression in strict mode; they stay \
                       empty; set use-regex, and the type ImplementationSpecific";
        let at = (path.field.as_str(), path.path.as_str());
        build.problem(&owner.object, (Code::FieldInvalid, Severity::Warning), at, message);
    }
    let rewrite = target.map(|target| Rewrite { pattern: ".*".to_owned(), replacement: target.clone() });
    route(mode, draft, owner, path, plain(path.kind, &path.path), rewrite)
}

/// A path of a host in regex mode. One that is no expression answers 503 on the literal text that it begins with, so that
/// requests meant for it do not fall to a broader path with other policies.
fn regex_route(
    build: &mut Build<'_>,
    mode: &Mode<'_>,
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
            let mut route = route(mode, draft, owner, path, PathMatch::Regex(regex::escape(start)), None);
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
    let target = owner.settings.rewriting.target_for(text);
    if let Some(missing) = target.and_then(highest_group).filter(|group| *group > groups) {
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
    let pattern = if owner.settings.rewriting.is_strict {
        format!("(?-i:{})", text.strip_prefix('^').unwrap_or(text))
    } else {
        text.to_owned()
    };
    let rewrite = target.map(|target| Rewrite { pattern: pattern.clone(), replacement: target.clone() });
    Some(route(mode, draft, owner, path, PathMatch::Regex(pattern), rewrite))
}

/// The highest `$1`…`$9` of a rewrite target.
fn highest_group(target: &Template) -> Option<usize> {
    let groups = target.variables().filter_map(|variable| match variable {
        Variable::Group(number) => Some(usize::from(*number)),
        _ => None,
    });
    groups.max()
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
fn slash_redirect(mode: &Mode<'_>, draft: &Draft, owner: &Owner<'_>, path: &DraftPath) -> Option<Route> {
    let is_asked = !owner.settings.rewriting.is_strict
        && (path.kind == PathKind::Literal
            || (path.kind == PathKind::Prefix && owner.defaults.is_slash_redirected));
    let bare = path.path.strip_suffix('/').filter(|bare| !bare.is_empty())?;
    if !is_asked || draft.paths.iter().any(|other| other.path == bare) {
        return None;
    }
    let mut route = route(mode, draft, owner, path, PathMatch::Exact(bare.to_owned()), None);
    let form = owner.settings.redirect.form;
    route.action = RouteAction::Redirect { status: 301, path: path.path.clone(), form };
    Some(route)
}
