//! Keys under our prefixes that nobody knows: silence would hide a typing mistake. What is known and asks for nothing is
//! judged by `inert`.

use std::collections::BTreeMap;

use super::registry::{annotation_row, config_row};
use super::{Effect, Finding, FindingKind, OWN_PREFIX, inert, quota};

/// Keys under our own prefix that other kinds carry.
const ELSEWHERE: &[&str] = &["endpoints", "state"];

/// Names that manifests give to what has another name, or needs none. ingress-nginx ignores them too.
const MISTAKEN: &[(&str, &str)] = &[
    ("add-headers", "write custom-headers, or the ConfigMap key add-headers for all Ingresses"),
    ("client-max-body-size", "write proxy-body-size"),
    ("connection-limit", "write limit-connections"),
    ("custom-response-headers", "write custom-headers"),
    ("cors-enabled", "write enable-cors"),
    ("from-to-www", "write from-to-www-redirect"),
    ("keepalive-timeout", "write the ConfigMap key keep-alive"),
    ("limit-req-status-code", "write the ConfigMap key limit-req-status-code"),
    ("max-body-size", "write proxy-body-size"),
    ("proxy-buffers", "write proxy-buffers-number and proxy-buffer-size"),
    ("proxy-cache", "nothing is cached; run a cache behind the ingress"),
    ("proxy-timeout", "write proxy-read-timeout and proxy-send-timeout"),
    (
        "proxy-set-header",
        "write the ConfigMap key proxy-set-headers, or proxy_set_header in configuration-snippet",
    ),
    ("rate-limit-connections", "write limit-connections"),
    ("rate-limit", "write limit-rps or limit-rpm, or portcullis.dev/rate-limit"),
    ("request-timeout", "write proxy-read-timeout and proxy-send-timeout"),
    ("sticky-sessions", "write affinity: cookie"),
    ("upstream-fail-timeout", "write upstream-health-check-path for checks of endpoints"),
    ("upstream-max-fails", "write upstream-health-check-path for checks of endpoints"),
    ("websocket-services", "remove it; connections are upgraded to WebSocket for every Service"),
    ("websocket", "remove it; connections are upgraded to WebSocket for every Service"),
];

/// Whether a key counts under this prefix. Manifests carry `rate-limit` under ingress-nginx's, with values of their own
/// making: it ignores them, and so must we.
pub fn counts(prefix: &str, key: &str) -> bool {
    prefix == OWN_PREFIX || !quota::GROUP.rows.iter().any(|row| row.key == key)
}

/// What is to be written instead of a name that nobody knows.
fn advice(key: &str) -> Option<String> {
    let is = |(name, _): &&(&str, &str)| {
        key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-') || rest == "s")
    };
    if let Some((_, advice)) = MISTAKEN.iter().find(is) {
        return Some((*advice).to_owned());
    }
    config_row(key)
        .map(|_| "it is a key of the ConfigMap; write it there, for all Ingresses, or remove it".to_owned())
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
        if let Some(row) = annotation_row(key).filter(|_| counts(found, key)) {
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
        match advice(key).filter(|_| !is_own) {
            Some(advice) => finding(
                FindingKind::Unsupported,
                Effect::Warn,
                format!("no annotation of ingress-nginx; it is ignored; {advice}"),
            ),
            None => {
                finding(FindingKind::Unknown, Effect::Warn, "unknown annotation; it is ignored".to_owned())
            }
        }
    }
    findings
}
