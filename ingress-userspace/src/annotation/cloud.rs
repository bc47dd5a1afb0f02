//! Annotations of the load balancers of AWS, Google and Azure: what they are meant to do, and what does it here.
//!
//! We program no cloud. An intent that we can serve is named with the annotation to write instead; the rest says what it
//! was for. Nothing of it takes effect by itself.

use std::collections::BTreeMap;

use super::{Effect, Finding, FindingKind};

const AWS: &str = "alb.ingress.kubernetes.io/";
const AZURE: &str = "appgw.ingress.kubernetes.io/";
const GOOGLE: &[&str] = &[
    "kubernetes.io/ingress.global-static-ip-name",
    "kubernetes.io/ingress.regional-static-ip-name",
    "kubernetes.io/ingress.allow-http",
    "networking.gke.io/managed-certificates",
    "networking.gke.io/v1beta1.FrontendConfig",
    "cloud.google.com/backend-config",
    "beta.cloud.google.com/backend-config",
    "ingress.gcp.kubernetes.io/pre-shared-cert",
];

/// What an annotation of a cloud asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// `Note`: nothing has to be done; `Warn`: something must be written instead.
    pub effect: Effect,
    /// What it was for and what does it here.
    pub message: String,
    /// Annotations to write instead, without prefix.
    pub replacement: Vec<(&'static str, String)>,
}

/// What of these annotations belongs to a cloud.
pub(super) fn check(annotations: &BTreeMap<String, String>) -> Vec<Finding> {
    let advised = annotations.iter().filter_map(|(key, value)| Some((key, value, advise(key, value)?)));
    advised
        .map(|(key, value, advice)| Finding {
            key: key.clone(),
            value: value.clone(),
            kind: FindingKind::Unsupported,
            effect: advice.effect,
            message: advice.text(),
        })
        .collect()
}

impl Advice {
    fn note(message: &str) -> Self {
        Self { effect: Effect::Note, message: message.to_owned(), replacement: Vec::new() }
    }

    fn warn(message: &str) -> Self {
        Self { effect: Effect::Warn, message: message.to_owned(), replacement: Vec::new() }
    }

    fn instead(replacement: &[(&'static str, &str)]) -> Self {
        let replacement = replacement.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Self { effect: Effect::Warn, message: String::new(), replacement }
    }

    /// The message with what to write.
    pub fn text(&self) -> String {
        let written: Vec<String> =
            self.replacement.iter().map(|(key, value)| format!("{key}: {value:?}")).collect();
        match (written.is_empty(), self.message.is_empty()) {
            (true, _) => {
                format!("belongs to a cloud's load balancer and has no effect here; {}", self.message)
            }
            (false, true) => format!(
                "belongs to a cloud's load balancer and has no effect here; write nginx.ingress.kubernetes.io/{}",
                written.join(" and nginx.ingress.kubernetes.io/")
            ),
            (false, false) => format!(
                "belongs to a cloud's load balancer and has no effect here; {}; write nginx.ingress.kubernetes.io/{}",
                self.message,
                written.join(" and nginx.ingress.kubernetes.io/")
            ),
        }
    }
}

/// What to do about an annotation; `None`: it is no cloud's.
pub fn advise(key: &str, value: &str) -> Option<Advice> {
    let value = value.trim();
    if let Some(bare) = key.strip_prefix(AWS) {
        return Some(aws(bare, value));
    }
    if let Some(bare) = key.strip_prefix(AZURE) {
        return Some(azure(bare, value));
    }
    GOOGLE.contains(&key).then(|| google(key, value))
}

fn seconds(value: &str) -> String {
    format!("{value}s")
}

fn aws(key: &str, value: &str) -> Advice {
    match key {
        "scheme"
        | "ip-address-type"
        | "subnets"
        | "load-balancer-name"
        | "customer-owned-ipv4-pool"
        | "ipam-ipv4-pool-id" => Advice::note(
            "addresses come from the nodes or from an AddressPool; choose a pool with the addresses you mean",
        ),
        "target-type" => Advice::note("requests always go to the pods' own addresses"),
        "target-node-labels"
        | "tags"
        | "minimum-load-balancer-capacity"
        | "manage-backend-security-group-rules" => Advice::note("it concerns the cloud's resources only"),
        "certificate-arn" => Advice::warn("put certificate and key into a Secret and name it in spec.tls"),
        "ssl-policy" => Advice::warn("set ssl-protocols and ssl-ciphers in the ConfigMap"),
        "listen-ports" => match value.contains("\"HTTPS\"") {
            true if !value.contains("\"HTTP\"") => Advice::instead(&[("force-ssl-redirect", "true")]),
            _ => Advice::note("80 and 443 are served; other ports are --http-port and --https-port"),
        },
        "ssl-redirect" => Advice::instead(&[("force-ssl-redirect", "true")]),
        "group.name" | "group.order" => Advice::note(
            "all Ingresses share the same addresses and merge by host; the longest path comes first",
        ),
        "inbound-cidrs" | "security-group-prefix-lists" => {
            Advice::instead(&[("whitelist-source-range", value)])
        }
        "security-groups" => {
            Advice::warn("name the allowed networks in whitelist-source-range or in an EdgePolicy")
        }
        "healthcheck-path" => Advice::instead(&[("upstream-health-check-path", value)]),
        "healthcheck-interval-seconds" => {
            Advice::instead(&[("upstream-health-check-interval", seconds(value).as_str())])
        }
        "healthcheck-port"
        | "healthcheck-protocol"
        | "healthcheck-timeout-seconds"
        | "success-codes"
        | "healthy-threshold-count"
        | "unhealthy-threshold-count" => Advice::note(
            "readiness probes of the pods decide; active checks are upstream-health-check-path and its neighbours",
        ),
        "backend-protocol" => Advice::instead(&[("backend-protocol", value)]),
        "backend-protocol-version" if value.eq_ignore_ascii_case("GRPC") => {
            Advice::instead(&[("backend-protocol", "GRPC")])
        }
        "backend-protocol-version" => Advice::note("HTTP/1.1 is spoken to backends"),
        "target-group-attributes" => target_group(value),
        "load-balancer-attributes" => match attribute(value, "idle_timeout.timeout_seconds") {
            Some(seconds) => {
                Advice::instead(&[("proxy-read-timeout", seconds), ("proxy-send-timeout", seconds)])
            }
            None => Advice::note("it concerns the cloud's load balancer only"),
        },
        "mutual-authentication" => Advice::warn("name the CA in a Secret and set auth-tls-secret"),
        "auth-type"
        | "auth-idp-cognito"
        | "auth-idp-oidc"
        | "auth-on-unauthenticated-request"
        | "auth-scope"
        | "auth-session-cookie"
        | "auth-session-timeout" => {
            Advice::warn("requests are not authenticated; run oauth2-proxy and set auth-url and auth-signin")
        }
        "wafv2-acl-arn" | "waf-acl-id" | "web-acl-id" | "shield-advanced-protection" => {
            Advice::warn("there is no web application firewall; requests pass unfiltered")
        }
        key if key.starts_with("actions.") => action(value),
        key if key.starts_with("conditions.") => Advice::warn(
            "routing by header, method or query is not offered on Ingresses; use paths, hosts or canary-by-header",
        ),
        key if key.starts_with("transforms.") => Advice::warn("use rewrite-target and upstream-vhost"),
        _ => Advice::warn("nothing here does what it is for; remove it if that is right"),
    }
}

/// `name=value` in a list separated by commas.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn target_group(value: &str) -> Advice {
    let mut replacement = Vec::new();
    if attribute(value, "stickiness.enabled") == Some("true") {
        replacement.push(("affinity", "cookie"));
    }
    if let Some(seconds) = attribute(value, "stickiness.lb_cookie.duration_seconds") {
        replacement.push(("session-cookie-max-age", seconds));
    }
    if attribute(value, "load_balancing.algorithm.type") == Some("least_outstanding_requests") {
        replacement.push(("load-balance", "ewma"));
    }
    match replacement.is_empty() {
        true => Advice::note("endpoints drain by themselves; nothing else of it is needed"),
        false => Advice::instead(&replacement),
    }
}

fn action(value: &str) -> Advice {
    let parsed: Option<serde_json::Value> = serde_json::from_str(value).ok();
    let kind = parsed.as_ref().and_then(|action| action.get("type").or(action.get("Type")));
    match kind.and_then(serde_json::Value::as_str).unwrap_or_default().to_ascii_lowercase().as_str() {
        "redirect" if value.contains("HTTPS") => Advice::instead(&[("force-ssl-redirect", "true")]),
        "redirect" => Advice::warn("use permanent-redirect or temporal-redirect on an Ingress of its own"),
        "forward" => Advice::warn("shares of the traffic are a second Ingress with canary and canary-weight"),
        "fixed-response" => Advice::warn("use default-backend with a Service that answers it"),
        _ => Advice::warn("the action cannot be read; nothing of it takes effect"),
    }
}

fn azure(key: &str, value: &str) -> Advice {
    match key {
        "ssl-redirect" => Advice::instead(&[("ssl-redirect", value)]),
        "use-private-ip" => Advice::note(
            "addresses come from the nodes or from an AddressPool; choose a pool with private addresses",
        ),
        "connection-draining" | "connection-draining-timeout" => {
            Advice::note("endpoints drain by themselves")
        }
        "cookie-based-affinity" if value == "true" => Advice::instead(&[("affinity", "cookie")]),
        "cookie-based-affinity" | "cookie-based-affinity-distinct-name" => {
            Advice::note("session-cookie-name names the cookie")
        }
        "backend-path-prefix" => Advice::instead(&[("rewrite-target", value)]),
        "backend-hostname" => Advice::instead(&[("upstream-vhost", value)]),
        "backend-protocol" => Advice::instead(&[("backend-protocol", value)]),
        "request-timeout" => Advice::instead(&[("proxy-read-timeout", value)]),
        "health-probe-path" => Advice::instead(&[("upstream-health-check-path", value)]),
        "health-probe-interval" => {
            Advice::instead(&[("upstream-health-check-interval", seconds(value).as_str())])
        }
        "health-probe-hostname"
        | "health-probe-port"
        | "health-probe-timeout"
        | "health-probe-status-codes"
        | "health-probe-unhealthy-threshold" => Advice::note(
            "readiness probes of the pods decide; active checks are upstream-health-check-path and its neighbours",
        ),
        "appgw-ssl-certificate" | "appgw-ssl-profile" | "appgw-trusted-root-certificate" => Advice::warn(
            "put certificate and key into a Secret and name it in spec.tls; for backends set proxy-ssl-secret",
        ),
        "override-frontend-port" => {
            Advice::note("80 and 443 are served; other ports are --http-port and --https-port")
        }
        "rewrite-rule-set" | "rewrite-rule-set-custom-resource" => {
            Advice::warn("use rewrite-target and custom-headers")
        }
        "waf-policy-for-path" => {
            Advice::warn("there is no web application firewall; requests pass unfiltered")
        }
        "hostname-extension" => Advice::instead(&[("server-alias", value)]),
        "rule-priority" => Advice::note("the longest path comes first"),
        _ => Advice::warn("nothing here does what it is for; remove it if that is right"),
    }
}

fn google(key: &str, value: &str) -> Advice {
    match key.rsplit('/').next().unwrap_or_default() {
        "ingress.global-static-ip-name" | "ingress.regional-static-ip-name" => {
            Advice::note("addresses come from the nodes or from an AddressPool")
        }
        "ingress.allow-http" if value == "false" => Advice::instead(&[("force-ssl-redirect", "true")]),
        "ingress.allow-http" => Advice::note("port 80 is served"),
        "managed-certificates" => {
            Advice::warn("use cert-manager (cert-manager.io/cluster-issuer) and spec.tls")
        }
        "pre-shared-cert" => Advice::warn("put certificate and key into a Secret and name it in spec.tls"),
        "v1beta1.FrontendConfig" => Advice::warn(
            "its redirectToHttps is force-ssl-redirect; its sslPolicy is ssl-protocols in the ConfigMap",
        ),
        _ => Advice::warn(
            "its timeoutSec is proxy-read-timeout, its sessionAffinity is affinity, its healthCheck is \
             upstream-health-check-path, its customRequestHeaders are proxy-set-headers; Cloud Armor, CDN and IAP have no equal",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_maps_is_offered_and_the_rest_says_what_it_was_for() {
        let rows = [
            ("alb.ingress.kubernetes.io/ssl-redirect", "443", "force-ssl-redirect: \"true\""),
            ("alb.ingress.kubernetes.io/healthcheck-path", "/up", "upstream-health-check-path: \"/up\""),
            (
                "alb.ingress.kubernetes.io/healthcheck-interval-seconds",
                "15",
                "upstream-health-check-interval: \"15s\"",
            ),
            ("alb.ingress.kubernetes.io/group.name", "edge", "merge by host"),
            (
                "alb.ingress.kubernetes.io/target-group-attributes",
                "stickiness.enabled=true",
                "affinity: \"cookie\"",
            ),
            (
                "alb.ingress.kubernetes.io/actions.ssl-redirect",
                r#"{"Type":"redirect","RedirectConfig":{"Protocol":"HTTPS"}}"#,
                "force-ssl-redirect",
            ),
            ("alb.ingress.kubernetes.io/wafv2-acl-arn", "arn:x", "no web application firewall"),
            ("alb.ingress.kubernetes.io/new-thing", "x", "nothing here does"),
            ("appgw.ingress.kubernetes.io/backend-path-prefix", "/v1", "rewrite-target: \"/v1\""),
            ("kubernetes.io/ingress.allow-http", "false", "force-ssl-redirect"),
            ("networking.gke.io/managed-certificates", "a", "cert-manager"),
        ];
        for (key, value, expected) in rows {
            let text = advise(key, value).unwrap().text();
            assert!(text.contains(expected), "{key}: {text}");
        }
        assert_eq!(advise("kubernetes.io/ingress.class", "nginx"), None);
        assert_eq!(advise("example.com/scheme", "x"), None);
    }
}
