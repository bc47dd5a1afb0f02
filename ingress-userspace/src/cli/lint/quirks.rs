//! The behaviours of ingress-nginx that surprise, and which Ingresses depend on them. They are kept by default; what would
//! change without them (`portcullis.dev/strict: "true"`) is said for each.
//!
//! What is served says so: the routes of the model are looked at, and annotations only for who asked for it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use crate::annotation::rewrite::{REWRITE_TARGET, USE_REGEX};
use crate::annotation::{OWN_PREFIX, value};
use crate::cli::objects::Objects;
use crate::k8s::cluster::ObjectKey;
use crate::model::host::Host;
use crate::model::route::{PathMatch, Route, RouteAction};

/// One surprise in one Ingress.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Quirk {
    /// The path it concerns.
    pub(super) path: String,
    /// Which of the five.
    pub(super) name: &'static str,
    /// What happens, and which requests would change without it.
    pub(super) message: String,
}

/// All surprises, by Ingress.
pub(super) fn quirks(objects: &Objects) -> BTreeMap<ObjectKey, BTreeSet<Quirk>> {
    let mut found: BTreeMap<ObjectKey, BTreeSet<Quirk>> = BTreeMap::new();
    for host in &objects.translation.model.hosts {
        let asking = host.routes.iter().find(|route| asks(objects, route));
        for route in &host.routes {
            let key = key(route);
            let Some(ingress) = objects.cluster.ingresses.get(&key) else { continue };
            let quirks = of_route(objects, route, asking);
            let quirks = quirks.into_iter().chain(of_path(ingress, host, route));
            let path = &route.source.path;
            for (name, message) in quirks {
                found.entry(key.clone()).or_default().insert(Quirk { path: path.clone(), name, message });
            }
        }
    }
    found
}

fn key(route: &Route) -> ObjectKey {
    ObjectKey::new(route.source.namespace.clone(), route.source.name.clone())
}

/// The text of an annotation under either prefix.
fn text<'a>(objects: &'a Objects, route: &Route, name: &str) -> Option<&'a str> {
    let ingress = objects.cluster.ingresses.get(&key(route))?;
    let annotations = ingress.metadata.annotations.as_ref()?;
    let prefixes = [OWN_PREFIX, &objects.settings.annotations_prefix];
    let found = prefixes.into_iter().find_map(|prefix| annotations.get(&format!("{prefix}/{name}")));
    found.map(|text| text.trim())
}

fn uses_regex(objects: &Objects, route: &Route) -> bool {
    text(objects, route, USE_REGEX.row.key).is_some_and(|text| value::boolean(text) == Ok(true))
}

/// Whether a target of the Ingress takes effect on the path of the route.
fn rewrites(objects: &Objects, route: &Route) -> bool {
    text(objects, route, REWRITE_TARGET.row.key)
        .is_some_and(|target| target != route.source.path && (REWRITE_TARGET.row.check)(target).is_ok())
}

/// Not one of a strict Ingress, which are compared with case.
fn is_loose(route: &Route) -> bool {
    matches!(&route.matches.path, PathMatch::Regex(text) if !text.starts_with("(?-i:"))
}

/// Whether a route is the reason that the paths of its host are expressions.
fn asks(objects: &Objects, route: &Route) -> bool {
    is_loose(route) && (uses_regex(objects, route) || rewrites(objects, route))
}

fn of_route(objects: &Objects, route: &Route, asking: Option<&Route>) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if is_loose(route) {
        let own = asks(objects, route);
        if own && !uses_regex(objects, route) {
            found.push((
                "rewrite-implies-regex",
                "rewrite-target makes a regular expression of this path without use-regex; strict mode reads it as its path \
                 type says, and `.` or `+` in it mean themselves"
                    .to_owned(),
            ));
        }
        if own {
            found.push((
                "regex-is-case-insensitive-prefix",
                "the expression is matched without case and only at its start; strict mode takes only requests in the same case"
                    .to_owned(),
            ));
        } else if let Some(other) = asking {
            found.push((
                "regex-spreads-over-host",
                format!(
                    "Ingress {} asks for regular expressions on this host, so this path is one too: case-insensitive and open \
                     at its end; without that, requests that differ in case or go on after it without a / are no longer \
                     taken",
                    key(other)
                ),
            ));
        }
    }
    if let (RouteAction::Redirect { path, .. }, PathMatch::Exact(bare)) = (&route.action, &route.matches.path)
    {
        found.push((
            "trailing-slash-redirect",
            format!("{bare} is answered by 301 to {path}; strict mode answers what serves {bare} otherwise, or 404"),
        ));
    }
    found
}

/// A path that is not as those that it is compared with.
fn of_path(ingress: &Ingress, host: &Host, route: &Route) -> Option<(&'static str, String)> {
    let path = &route.source.path;
    let is_written = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten()).any(|rule| {
        let paths = rule.http.iter().flat_map(|http| &http.paths);
        paths.into_iter().any(|written| written.path.as_deref() == Some(path))
    });
    let is_odd =
        path.contains("//") || path.contains('%') || path.split('/').any(|part| part == "." || part == "..");
    (is_written && is_odd && !host.routes.is_empty()).then(|| {
        (
            "path-is-normalised",
            "paths of requests are decoded, `//` merged and dots resolved before they are compared, so this text as written \
             may never match"
                .to_owned(),
        )
    })
}
