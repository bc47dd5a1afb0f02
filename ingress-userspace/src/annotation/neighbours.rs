//! Annotations that look like ours and are not: of other controllers for nginx, of ingress-nginx before its prefix,
//! and with a misspelt one.
//!
//! ingress-nginx ignores them without a word, too. Guides for one controller end up in manifests of another.

use std::collections::BTreeMap;

use super::registry::annotation_row;
use super::{Effect, Finding, FindingKind, cloud};
use crate::problem::suggest;

/// The controller of F5, whose names differ.
const F5: &[&str] = &["nginx.org/", "nginx.com/"];

/// What of these annotations somebody may have meant for us.
pub(super) fn check(prefix: &str, annotations: &BTreeMap<String, String>) -> Vec<Finding> {
    let told =
        annotations.iter().filter_map(|(key, value)| Some((key, value, tell(prefix, key, annotations)?)));
    told.map(|(key, value, message)| Finding {
        key: key.clone(),
        value: value.clone(),
        kind: FindingKind::Unsupported,
        effect: Effect::Note,
        message,
    })
    .collect()
}

fn tell(prefix: &str, key: &str, annotations: &BTreeMap<String, String>) -> Option<String> {
    let (domain, name) = key.split_once('/')?;
    if F5.iter().any(|prefix| key.starts_with(prefix)) {
        return Some("belongs to the NGINX Ingress Controller of F5, and has no effect here".to_owned());
    }
    let is_near = domain != prefix && (domain.contains("nginx") || domain.contains("ingres"));
    let ours = format!("{prefix}/{name}");
    if !is_near
        || suggest(domain, [prefix]).is_none()
        || annotation_row(name).is_none()
        || annotations.contains_key(&ours)
        || cloud::advise(key, "").is_some()
    {
        return None;
    }
    Some(format!(
        "has no effect, since its prefix is not {prefix}; write {ours} if it was meant for this ingress"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "nginx.ingress.kubernetes.io";

    /// What is said of a key beside others.
    fn said(key: &str, others: &[&str]) -> Option<String> {
        let annotations = others.iter().map(|key| ((*key).to_owned(), String::new())).collect();
        tell(PREFIX, key, &annotations)
    }

    #[test]
    fn what_may_be_meant_for_us_is_named() {
        for key in [
            "ingress.kubernetes.io/ssl-redirect",
            "nginx.ingres.kubernetes.io/ssl-redirect",
            "nginx.ingress.kuberentes.io/ssl-redirect",
        ] {
            let text = said(key, &[]).unwrap();
            assert!(text.contains("write nginx.ingress.kubernetes.io/ssl-redirect"), "{text}");
        }
        assert!(said("nginx.org/rewrites", &[]).unwrap().contains("F5"));
    }

    #[test]
    fn what_is_not_meant_for_us_is_passed_over() {
        for key in [
            "nginx.ingress.kubernetes.io/ssl-redirect",
            "ingress.kubernetes.io/frontend-entry-points",
            "alb.ingress.kubernetes.io/ssl-redirect",
            "kubernetes.io/tls-acme",
            "cert-manager.io/issuer",
            "plain",
        ] {
            assert_eq!(said(key, &[]), None, "{key}");
        }
        // Charts write both.
        let both = "nginx.ingress.kubernetes.io/ssl-redirect";
        assert_eq!(said("ingress.kubernetes.io/ssl-redirect", &[both]), None);
    }
}
