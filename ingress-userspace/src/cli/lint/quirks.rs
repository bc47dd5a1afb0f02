//! The behaviours of ingress-nginx that surprise, and which Ingresses depend on them. They are kept by default; what would
//! change without them (`portcullis.dev/strict: "true"`) is said for each.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use crate::annotation::OWN_PREFIX;
use crate::cli::objects::Objects;
use crate::k8s::cluster::ObjectKey;

/// One surprise in one Ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Quirk {
    /// Which of the five.
    pub(super) name: &'static str,
    /// The path it concerns.
    pub(super) path: String,
    /// What happens, and which requests would change without it.
    pub(super) message: String,
}

struct Path<'a> {
    owner: &'a ObjectKey,
    host: &'a str,
    path: &'a str,
    kind: &'a str,
}

/// All surprises, by Ingress.
pub(super) fn quirks(objects: &Objects) -> Vec<(ObjectKey, Quirk)> {
    let mut paths = Vec::new();
    let mut modes: BTreeMap<&ObjectKey, Mode> = BTreeMap::new();
    for (key, ingress) in &objects.cluster.ingresses {
        let is_ours = objects
            .translation
            .ingresses
            .iter()
            .any(|ours| ours.object.namespace == key.namespace && ours.object.name == key.name);
        if is_ours {
            modes.insert(key, mode(objects, ingress));
            paths.extend(paths_of(key, ingress));
        }
    }
    let mut found = Vec::new();
    for path in &paths {
        let mode = modes.get(path.owner).copied().unwrap_or_default();
        if !mode.is_strict {
            found.extend(
                of_path(path, mode, &paths, &modes).into_iter().map(|quirk| (path.owner.clone(), quirk)),
            );
        }
    }
    found
}

#[derive(Clone, Copy, Debug, Default)]
struct Mode {
    uses_regex: bool,
    rewrites: bool,
    is_strict: bool,
}

fn mode(objects: &Objects, ingress: &Ingress) -> Mode {
    let text = |key: &str| {
        let annotations = ingress.metadata.annotations.as_ref()?;
        let prefixes = [OWN_PREFIX, &objects.settings.annotations_prefix];
        prefixes.into_iter().find_map(|prefix| annotations.get(&format!("{prefix}/{key}")))
    };
    let is_on = |key: &str| text(key).is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
    Mode {
        uses_regex: is_on("use-regex"),
        rewrites: text("rewrite-target").is_some(),
        is_strict: is_on("strict"),
    }
}

fn paths_of<'a>(owner: &'a ObjectKey, ingress: &'a Ingress) -> Vec<Path<'a>> {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    rules
        .flat_map(|rule| {
            let host = rule.host.as_deref().unwrap_or_default();
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            paths.map(move |path| Path {
                owner,
                host,
                path: path.path.as_deref().unwrap_or("/"),
                kind: path.path_type.as_str(),
            })
        })
        .collect()
}

fn of_path(path: &Path<'_>, mode: Mode, all: &[Path<'_>], modes: &BTreeMap<&ObjectKey, Mode>) -> Vec<Quirk> {
    let mut found = Vec::new();
    let mut add = |name, message: String| found.push(Quirk { name, path: path.path.to_owned(), message });
    let asks = |mode: Mode| (mode.uses_regex || mode.rewrites) && !mode.is_strict;
    let spreading = all.iter().find(|other| {
        other.host == path.host
            && other.owner != path.owner
            && modes.get(other.owner).copied().is_some_and(asks)
    });
    if mode.rewrites && !mode.uses_regex {
        add(
            "rewrite-implies-regex",
            "rewrite-target makes a regular expression of this path without use-regex; strict mode reads it as its path \
             type says, and `.` or `+` in it mean themselves"
                .to_owned(),
        );
    }
    if !asks(mode)
        && let Some(other) = spreading
    {
        add(
            "regex-spreads-over-host",
            format!(
                "Ingress {} asks for regular expressions on this host, so this path of type {} is one too: \
                 case-insensitive and open at its end; without that, requests that differ in case or go on after it \
                 without a / are no longer taken",
                other.owner, path.kind
            ),
        );
    } else if asks(mode) {
        add(
            "regex-is-case-insensitive-prefix",
            "the expression is matched without case and only at its start; strict mode takes only requests in the same case"
                .to_owned(),
        );
    }
    if path.kind == "ImplementationSpecific" && path.path.len() > 1 && path.path.ends_with('/') && !asks(mode)
    {
        let bare = path.path.trim_end_matches('/');
        add(
            "trailing-slash-redirect",
            format!(
                "{bare} is answered by 301 to {}; strict mode answers what serves {bare} otherwise, or 404",
                path.path
            ),
        );
    }
    if path.path.contains("//")
        || path.path.contains('%')
        || path.path.split('/').any(|part| part == "." || part == "..")
    {
        add(
            "path-is-normalised",
            "paths of requests are decoded, `//` merged and dots resolved before they are compared, so this text as written \
             may never match"
                .to_owned(),
        );
    }
    found
}
