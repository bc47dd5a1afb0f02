//! What no path of a host takes.

use super::{Draft, DraftPath, Mode, source, with_fallback};
use crate::model::host::HostPattern;
use crate::model::route::{PathMatch, Route, RouteAction, RouteMatch, RouteSource};
use crate::translate::paths::PathKind;
use crate::translate::policies::route_policies;
use crate::translate::{delivery, policies};

/// What no path takes: the host's default backend, else the controller's, else 404. The requests have the annotations of
/// the Ingress that brought the host, as in ingress-nginx, unless it is strict; those of a catch-all Ingress without its
/// redirects.
pub(super) fn remainder(mode: &Mode<'_>, pattern: &HostPattern, draft: &Draft) -> Option<Route> {
    let shared = mode.shared;
    let matches = RouteMatch { path: PathMatch::Prefix(String::new()) };
    let default = draft.default.as_ref();
    let default = default.and_then(|(owner, action)| shared.owners.get(*owner).map(|owner| (owner, action)));
    if let Some((owner, action)) = default {
        let mut policies = route_policies(owner, &mode.path("/", false));
        if *pattern == HostPattern::Any {
            policies.answers = policies::snippet_answers(owner);
            policies.https_redirect = None;
        }
        policies.delivery = delivery::delivery(shared, owner, ("/", action), draft.default_canary.as_ref());
        let source = source(owner, draft, "/");
        return Some(Route { source, matches, policies, action: with_fallback(owner, action) });
    }
    let is_taken = |path: &DraftPath| path.path == "/" && (mode.is_regex || path.kind != PathKind::Exact);
    if draft.paths.iter().any(is_taken) {
        return None;
    }
    let action = shared.controller_default.clone();
    let first =
        draft.first.and_then(|index| shared.owners.get(index)).filter(|_| *pattern != HostPattern::Any);
    if let Some(owner) = first.filter(|owner| !owner.settings.rewriting.is_strict) {
        let policies = policies::unserved(owner, &mode.path("/", false), action.as_ref());
        if action.is_some() || policies.answers_requests() {
            let action = action.unwrap_or(RouteAction::Respond { status: 404 });
            return Some(Route { source: source(owner, draft, "/"), matches, policies, action });
        }
    }
    let policies = policies::unconfigured(shared.defaults, action.as_ref());
    let (namespace, name, host) = (String::new(), String::new(), draft.written.clone());
    let source = RouteSource { namespace, name, host, path: "/".into() };
    action.map(|action| Route { source, matches, policies, action })
}
