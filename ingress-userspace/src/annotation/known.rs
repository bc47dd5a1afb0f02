//! Keys under our prefixes that nobody knows: silence would hide a typing mistake. What is known and asks for nothing is
//! judged by `inert`.

use std::collections::BTreeMap;

use super::registry::annotation_row;
use super::{Effect, Finding, FindingKind, OWN_PREFIX, inert};

/// Keys under our own prefix that other kinds carry.
const ELSEWHERE: &[&str] = &["endpoints", "state"];

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
        finding(FindingKind::Unknown, Effect::Warn, "unknown annotation; it is ignored".to_owned());
    }
    findings
}
