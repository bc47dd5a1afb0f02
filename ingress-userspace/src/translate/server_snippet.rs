//! `server-snippet` → answers and headers of the routes of a host: that of the oldest Ingress that has one, then the
//! ConfigMap's. An Ingress says nothing about paths of other namespaces.

use super::Build;
use super::hosts::{Draft, Shared};
use super::policies::{Owner, unconfigured};
use crate::annotation::snippet::{Access, Reach, Server};
use crate::model::policy::answer::{Answer, Content};
use crate::model::policy::headers::HeaderAction;
use crate::model::policy::{AllowList, DenyList, Policies};
use crate::model::route::{PathMatch, Route, RouteAction, RouteMatch, RouteSource};
use crate::problem::{Code, Severity};

/// Puts them into the routes.
pub(super) fn apply(build: &mut Build<'_>, shared: &Shared<'_>, draft: &Draft, routes: &mut Vec<Route>) {
    let own = of_host(build, shared, draft);
    let of_ingress = own.and_then(|owner| owner.settings.server.as_ref());
    let of_config = Some(&shared.defaults.server).filter(|server| **server != Server::default());
    let servers = || of_ingress.into_iter().chain(of_config);
    if servers().next().is_none() {
        return;
    }
    let is_own = |route: &Route| own.is_some_and(|owner| owner.object.namespace == route.source.namespace);
    let is_everything =
        |route: &Route| matches!(&route.matches.path, PathMatch::Prefix(path) if path.is_empty());
    let answers = servers().any(|server| !server.answers.is_empty());
    if answers && !routes.iter().any(is_everything) {
        // They also answer what no path takes.
        routes.push(rest(shared, draft, own));
    }
    for route in routes {
        let mut first: Vec<Answer> = Vec::new();
        let mut headers = Vec::new();
        let adds = |action: &HeaderAction| matches!(action, HeaderAction::Add(_));
        let adds_own = route.policies.headers.response.iter().any(|change| adds(&change.action));
        let is_own = is_own(route);
        let restricts = route.policies.allow_list.is_some() || route.policies.deny_list.is_some();
        for server in of_ingress.filter(|_| is_own).into_iter().chain(of_config) {
            route.policies.is_logged &= !server.is_unlogged;
            if !restricts {
                // A path with rules of its own inherits none.
                restrict(&mut route.policies, &server.access);
            }
            let reaching = server.answers.iter().filter(|(reach, _)| reaches(reach, &route.matches.path));
            first.extend(reaching.map(|(_, answer)| answer.clone()));
            // nginx adds those of the server where a path adds none.
            let response = server.headers.response.iter();
            headers.extend(response.filter(|change| !(adds_own && adds(&change.action))).cloned());
            route.policies.headers.request.splice(..0, server.headers.request.iter().cloned());
        }
        for answer in &mut first {
            if let Content::Location { form, .. } = &mut answer.content
                && let Some(owner) = own
            {
                *form = owner.settings.redirect.form;
            }
        }
        route.policies.answers.splice(..0, first);
        route.policies.headers.response.splice(..0, headers);
    }
}

/// Lets in whom the rules let in; of two lists of rules the first that decides counts.
fn restrict(policies: &mut Policies, access: &Access) {
    if policies.allow_list.is_some() {
        return;
    }
    policies.allow_list = access.allowed.clone().map(|sources| AllowList { sources });
    if !access.denied.is_empty() {
        let list = policies.deny_list.get_or_insert_with(|| DenyList { sources: Vec::new() });
        list.sources.extend_from_slice(&access.denied);
    }
}

/// The oldest Ingress of the host with a snippet; the others are told.
fn of_host<'a>(build: &mut Build<'_>, shared: &'a Shared<'_>, draft: &Draft) -> Option<&'a Owner<'a>> {
    let mut winner: Option<&Owner<'_>> = None;
    for owner in draft.owners().into_iter().filter_map(|index| shared.owners.get(index)) {
        let Some(server) = owner.settings.server.as_ref().filter(|_| owner.settings.deny.is_none()) else {
            continue;
        };
        match winner {
            None => winner = Some(owner),
            Some(first) if first.settings.server.as_ref() != Some(server) => {
                let message = format!(
                    "{} comes first (older, or by name) and has the snippet of {}; this one has no effect there; write it all \
                     there",
                    first.object,
                    draft.shown()
                );
                let at = (owner.field("server-snippet"), draft.shown());
                build.problem(&owner.object, (Code::Conflict, Severity::Warning), (at.0, at.1), message);
            }
            Some(_) => {}
        }
    }
    winner
}

/// Whether a request that a route takes may come to a place of the snippet first.
fn reaches(reach: &Reach, matched: &PathMatch) -> bool {
    match (reach, matched) {
        (Reach::Everything | Reach::Exact, _) => true,
        (Reach::Expression, PathMatch::Exact(_)) | (Reach::Prefix { .. }, PathMatch::Exact(_)) => false,
        (Reach::Expression, _) => true,
        (Reach::Prefix { is_first, .. }, PathMatch::Regex(_)) => *is_first,
        (Reach::Prefix { path, .. }, PathMatch::Prefix(other)) => other.len() <= path.len(),
    }
}

/// What no path takes.
fn rest(shared: &Shared<'_>, draft: &Draft, owner: Option<&Owner<'_>>) -> Route {
    let (namespace, name) =
        owner.map(|owner| (owner.object.namespace.clone(), owner.object.name.clone())).unwrap_or_default();
    Route {
        source: RouteSource { namespace, name, host: draft.written.clone(), path: "/".into() },
        matches: RouteMatch { path: PathMatch::Prefix(String::new()) },
        policies: unconfigured(shared.defaults, shared.controller_default.as_ref()),
        action: RouteAction::Respond { status: 404 },
    }
}
