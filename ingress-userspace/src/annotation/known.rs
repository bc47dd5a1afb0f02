//! Annotations of ingress-nginx that this version does not serve, and keys that nobody knows.
//!
//! Silence is the worst answer to an annotation that protects something: those that do deny the paths of their Ingress
//! (ConfigMap `refused-annotations: Ignore` lets them through). A setting that is switched off asks for nothing.

use std::collections::BTreeMap;

use super::registry::{annotation_row, served};
use super::{Effect, Finding, FindingKind, OWN_PREFIX, inert, value};

/// Who may do what: without them, requests would pass that must not.
const PROTECTING: &[&str] = &[];

/// Served without them, not as written.
const CHANGING: &[&str] = &["service-upstream"];

/// Tuning that changes no answer: requests and responses are always streamed, connections always pooled.
const TUNING: &[&str] = &[];

/// Keys under our own prefix that other kinds carry.
const ELSEWHERE: &[&str] = &["endpoints", "state"];

/// Every key that we or ingress-nginx know, for suggestions.
pub fn all() -> impl Iterator<Item = &'static str> {
    let unsupported = PROTECTING.iter().chain(CHANGING).chain(TUNING).copied();
    served().chain(unsupported)
}

/// Keys that this version does not serve, with what comes of them: for the reference page.
pub fn unsupported() -> impl Iterator<Item = (&'static str, Effect)> {
    let with = |effect| move |key: &&'static str| (*key, effect);
    let protecting = PROTECTING.iter().map(with(Effect::Deny));
    let changing = CHANGING.iter().map(with(Effect::Warn));
    let tuning = TUNING.iter().map(with(Effect::Note));
    protecting.chain(changing).chain(tuning)
}

/// Checks all keys under both prefixes.
pub(super) fn check(prefix: &str, annotations: &BTreeMap<String, String>, told: &[Finding]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (written, text) in annotations {
        let Some((found, key)) = written.rsplit_once('/') else { continue };
        let is_own = found == OWN_PREFIX;
        if !(is_own || found == prefix) {
            continue;
        }
        if let Some(row) = annotation_row(key) {
            findings.extend(inert::check(row, written, text, told));
            continue;
        }
        let mut finding = |kind, effect, message: String| {
            findings.push(Finding { key: written.clone(), value: text.clone(), kind, effect, message });
        };
        if is_own && ELSEWHERE.contains(&key) {
            finding(
                FindingKind::Unsupported,
                Effect::Warn,
                "has no meaning on an Ingress; it is ignored".to_owned(),
            );
            continue;
        }
        let Some((_, effect)) = unsupported().find(|(known, _)| *known == key) else {
            finding(FindingKind::Unknown, Effect::Warn, "unknown annotation; it is ignored".to_owned());
            continue;
        };
        if is_default(key, text.trim()) {
            continue;
        }
        let consequence = match effect {
            Effect::Deny | Effect::Refuse => "it protects the paths of this Ingress, so they answer 503; remove it, or set the ConfigMap key \
                             refused-annotations to Ignore"
                .to_owned(),
            Effect::Skip => "the whole Ingress is left out, so that it takes no share of the traffic".to_owned(),
            Effect::Warn => "requests are served without it; remove it if that is right".to_owned(),
            Effect::Note => "it changes nothing".to_owned(),
        };
        finding(FindingKind::Unsupported, effect, format!("not supported by this version; {consequence}"));
    }
    findings
}

/// Whether a value asks for what happens anyway. An empty one does, whatever the key.
fn is_default(key: &str, text: &str) -> bool {
    match key {
        _ if text.is_empty() => true,
        "enable-access-log" => value::boolean(text) == Ok(true),
        "enable-global-auth" => value::boolean(text) == Ok(true),
        _ => text == "off" || value::boolean(text) == Ok(false),
    }
}
