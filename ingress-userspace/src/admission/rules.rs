//! What ingress-nginx's webhook denies besides annotations that it cannot read, with its order and its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress};

use crate::k8s::cluster::{ObjectKey, by_age, key};
use crate::translate::Settings;

/// Prefix of ingress-nginx's annotations where no other is configured.
const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io";

/// Whether an Ingress may be stored beside those that share its hosts; `Err`: why not.
pub(super) fn check<'a>(
    ingress: &Ingress,
    others: impl Iterator<Item = &'a Arc<Ingress>>,
    settings: &Settings,
    config: &BTreeMap<String, String>,
) -> Result<(), String> {
    let has_default = ingress.spec.as_ref().is_some_and(|spec| spec.default_backend.is_some());
    if settings.is_catch_all_disabled && has_default {
        return Err(
            "spec.defaultBackend: catch-all Ingresses are switched off (--disable-catch-all); remove it"
                .to_owned(),
        );
    }
    if config.get("strict-validate-path-type").is_none_or(|text| text.trim() != "false") {
        check_paths(ingress)?;
    }
    check_annotations(ingress, settings, config)?;
    check_overlap(ingress, others)
}

/// Hosts of an Ingress in lower case; empty: every host.
pub(super) fn hosts(ingress: &Ingress) -> BTreeSet<String> {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.as_deref().unwrap_or_default());
    let mut hosts: BTreeSet<String> =
        rules.map(|rule| rule.host.as_deref().unwrap_or_default().to_ascii_lowercase()).collect();
    if hosts.is_empty() {
        hosts.insert(String::new());
    }
    hosts
}

/// Every path with the host of its rule and where it stands.
fn paths(ingress: &Ingress) -> impl Iterator<Item = (String, String, &HTTPIngressPath)> {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.as_deref().unwrap_or_default());
    rules.enumerate().flat_map(|(number, rule)| {
        let host = rule.host.as_deref().unwrap_or_default().to_ascii_lowercase();
        let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
        paths.iter().enumerate().map(move |(index, path)| {
            (host.clone(), format!("spec.rules[{number}].http.paths[{index}].path"), path)
        })
    })
}

/// `strict-validate-path-type`: letters, digits, `.`, `_`, `-` and `/` only, unless the path is ImplementationSpecific.
fn check_paths(ingress: &Ingress) -> Result<(), String> {
    for (_, field, path) in paths(ingress) {
        let text = path.path.as_deref().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let is_valid = text.is_empty() || (text.starts_with('/') && text.chars().all(is_plain));
        if path.path_type != "ImplementationSpecific" && !is_valid {
            return Err(format!(
                "{field} = {text:?}: cannot be used with pathType {}; write ImplementationSpecific for a regular expression, \
                 or set the ConfigMap key strict-validate-path-type to false",
                path.path_type
            ));
        }
    }
    Ok(())
}

fn check_annotations(
    ingress: &Ingress,
    settings: &Settings,
    config: &BTreeMap<String, String>,
) -> Result<(), String> {
    let prefix = settings.annotations_prefix.as_str();
    let words = config.get("annotation-value-word-blocklist").map(String::as_str).unwrap_or_default();
    let words: Vec<&str> = words.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let allows_snippets = config.get("allow-snippet-annotations").is_some_and(|text| text.trim() == "true");
    for (name, text) in ingress.metadata.annotations.iter().flatten() {
        let Some((found, bare)) = name.rsplit_once('/') else { continue };
        let field = format!("metadata.annotations[{name}]");
        if found == NGINX_PREFIX && prefix != NGINX_PREFIX {
            return Err(format!(
                "{field}: this cluster's prefix is {prefix}; use it instead of {NGINX_PREFIX}"
            ));
        }
        if found != prefix {
            continue;
        }
        if let Some(word) = words.iter().find(|word| text.contains(**word)) {
            return Err(format!("{field}: holds {word:?}, which annotation-value-word-blocklist forbids"));
        }
        if bare.ends_with("-snippet") && !allows_snippets {
            return Err(format!(
                "{field}: snippets are switched off by the administrator (ConfigMap key allow-snippet-annotations)"
            ));
        }
    }
    Ok(())
}

/// A path that another Ingress has, unless one of the two is a canary.
fn check_overlap<'a>(
    ingress: &Ingress,
    others: impl Iterator<Item = &'a Arc<Ingress>>,
) -> Result<(), String> {
    let own = key(ingress);
    let mut all: Vec<(ObjectKey, &Ingress)> = others.map(|other| (key(&**other), &**other)).collect();
    all.push((own.clone(), ingress));
    all.sort_by(|(one, first), (other, second)| by_age((one, first), (other, second)));
    for (host, field, path) in paths(ingress) {
        let text = root(path);
        let has_path = |other: &Ingress| {
            let mut found = paths(other);
            found.any(|(at, _, other)| at == host && root(other) == text && other.path_type == path.path_type)
        };
        let mut owners = all.iter().filter(|(_, other)| !is_canary(other) && has_path(other));
        let Some((winner, other)) = owners.next() else { continue };
        if *winner == own || canary(ingress).is_some() || canary(other).is_some() {
            continue;
        }
        let host = if host.is_empty() { "_" } else { host.as_str() };
        return Err(format!(
            "{field}: host {host:?} and path {text:?} is already defined in ingress {winner}"
        ));
    }
    Ok(())
}

fn root(path: &HTTPIngressPath) -> &str {
    path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/")
}

fn canary(ingress: &Ingress) -> Option<&str> {
    let annotations = ingress.metadata.annotations.as_ref()?;
    let is_canary = |name: &&String| name.rsplit_once('/').is_some_and(|(_, bare)| bare == "canary");
    let name = annotations.keys().find(is_canary)?;
    annotations.get(name).map(|text| text.trim())
}

fn is_canary(ingress: &Ingress) -> bool {
    canary(ingress) == Some("true")
}
