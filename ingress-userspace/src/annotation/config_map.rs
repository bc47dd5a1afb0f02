//! Keys of the ConfigMap (`--configmap`): cluster-wide defaults under the annotations, and a few settings of their own.
//!
//! The keys are those of ingress-nginx, read by the parsers of their annotations. A key that cannot be read or served is a
//! finding, never an outage, with one exception: a broken cluster-wide allow list denies, as a broken annotation does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::redirect::HttpsRedirects;
use super::registry::Annotation;
use super::{Effect, Finding, FindingKind, Read, allow_list, body_limit, redirect, timeout, value};
use crate::model::policy::{AllowList, BodyLimit, Timeouts};

/// Cluster-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `ssl-redirect`, `force-ssl-redirect`.
    pub redirect: HttpsRedirects,
    /// `http-redirect-code`.
    pub redirect_status: u16,
    /// `no-tls-redirect-locations`.
    pub no_redirect: Vec<String>,
    /// `whitelist-source-range`.
    pub allow_list: Option<AllowList>,
    /// A cluster-wide list that cannot be read: every path without a list of its own answers 503.
    pub deny: Option<String>,
    /// `limit-req-status-code`.
    pub limit_status: u16,
    /// `proxy-body-size`.
    pub body_limit: BodyLimit,
    /// `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.
    pub timeouts: Timeouts,
    /// `trailing-slash-redirect`: every path that ends in `/` redirects the request without it, as nginx does.
    pub is_slash_redirected: bool,
    /// `refused-annotations: Ignore`.
    pub is_refused_ignored: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            redirect: HttpsRedirects { with_certificate: true, always: false },
            redirect_status: 308,
            no_redirect: vec!["/.well-known/acme-challenge".to_owned()],
            allow_list: None,
            deny: None,
            limit_status: 503,
            body_limit: BodyLimit { max_bytes: Some(1 << 20) },
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                send: Duration::from_secs(60),
                read: Duration::from_secs(60),
            },
            is_slash_redirected: false,
            is_refused_ignored: false,
        }
    }
}

/// The served keys: name, default, values, and what it does.
pub const KEYS: [(&str, &str, &str, &str); 14] = [
    ("ssl-redirect", "true", "true or false", "Default of the annotation."),
    ("force-ssl-redirect", "false", "true or false", "Default of the annotation."),
    ("http-redirect-code", "308", "301, 302, 307 or 308", "Status of redirects to HTTPS."),
    (
        "no-tls-redirect-locations",
        "/.well-known/acme-challenge",
        "path prefixes, separated by commas",
        "Paths that are not redirected to HTTPS.",
    ),
    ("whitelist-source-range", "", "networks, separated by commas", "Default of the annotation."),
    ("allowlist-source-range", "", "networks, separated by commas", "Twin of `whitelist-source-range`."),
    ("limit-req-status-code", "503", "a status from 400 to 599", "Status of requests over `limit-rps`."),
    ("proxy-body-size", "1m", "a size such as 8m, or 0", "Default of the annotation."),
    ("proxy-connect-timeout", "5", "a bare number of seconds", "Default of the annotation."),
    ("proxy-send-timeout", "60", "a bare number of seconds", "Default of the annotation."),
    ("proxy-read-timeout", "60", "a bare number of seconds", "Default of the annotation."),
    (
        "trailing-slash-redirect",
        "false",
        "true or false",
        "Paths of type Prefix that end in `/` answer the request without it by 301, as ingress-nginx does; paths of type \
         ImplementationSpecific always do.",
    ),
    (
        "refused-annotations",
        "Deny",
        "Deny or Ignore",
        "What an annotation means that protects something and is not supported: 503 on the paths, or nothing.",
    ),
    (
        "strict-validate-path-type",
        "true",
        "true or false",
        "Accepted; paths are checked and served in any case.",
    ),
];

/// Keys whose absence may let something through.
const PROTECTING: [&str; 16] = [
    "block-cidrs",
    "block-referers",
    "block-user-agents",
    "denylist-source-range",
    "enable-modsecurity",
    "enable-owasp-modsecurity-crs",
    "global-auth-url",
    "http-snippet",
    "location-snippet",
    "main-snippet",
    "modsecurity-snippet",
    "server-snippet",
    "stream-snippet",
    "use-forwarded-headers",
    "use-geoip2",
    "use-proxy-protocol",
];

/// Other keys of ingress-nginx.
const UNSUPPORTED: [&str; 104] = [
    "access-log-params",
    "access-log-path",
    "add-headers",
    "allow-backend-server-header",
    "allow-cross-namespace-resources",
    "allow-snippet-annotations",
    "annotation-value-word-blocklist",
    "annotations-risk-level",
    "bind-address",
    "brotli-level",
    "brotli-min-length",
    "brotli-types",
    "client-body-buffer-size",
    "client-body-timeout",
    "client-header-buffer-size",
    "client-header-timeout",
    "compute-full-forwarded-for",
    "custom-http-errors",
    "default-type",
    "disable-access-log",
    "disable-ipv6",
    "disable-ipv6-dns",
    "enable-access-log-for-default-backend",
    "enable-aio-write",
    "enable-brotli",
    "enable-ocsp",
    "enable-opentelemetry",
    "enable-real-ip",
    "enable-syslog",
    "enable-underscores-in-headers",
    "error-log-level",
    "forwarded-for-header",
    "forwarded-host-header",
    "generate-request-id",
    "global-allowed-response-headers",
    "global-auth-cache-duration",
    "global-auth-cache-key",
    "global-auth-method",
    "global-auth-response-headers",
    "global-auth-signin",
    "global-auth-snippet",
    "grpc-buffer-size-kb",
    "gzip-level",
    "gzip-min-length",
    "gzip-types",
    "hide-headers",
    "hsts",
    "hsts-include-subdomains",
    "hsts-max-age",
    "hsts-preload",
    "http2-max-concurrent-streams",
    "ignore-invalid-headers",
    "keep-alive",
    "keep-alive-requests",
    "large-client-header-buffers",
    "limit-conn-status-code",
    "limit-conn-zone-variable",
    "limit-rate",
    "limit-rate-after",
    "load-balance",
    "log-format-escape-json",
    "log-format-escape-none",
    "log-format-stream",
    "log-format-upstream",
    "lua-shared-dicts",
    "max-worker-connections",
    "max-worker-open-files",
    "no-auth-locations",
    "otlp-collector-host",
    "otlp-collector-port",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-headers-hash-bucket-size",
    "proxy-headers-hash-max-size",
    "proxy-next-upstream",
    "proxy-next-upstream-timeout",
    "proxy-next-upstream-tries",
    "proxy-protocol-header-timeout",
    "proxy-real-ip-cidr",
    "proxy-request-buffering",
    "proxy-set-headers",
    "proxy-stream-timeout",
    "relative-redirects",
    "retry-non-idempotent",
    "reuse-port",
    "server-tokens",
    "service-upstream",
    "skip-access-log-urls",
    "ssl-ciphers",
    "ssl-protocols",
    "ssl-reject-handshake",
    "ssl-session-cache",
    "ssl-session-tickets",
    "upstream-keepalive-connections",
    "upstream-keepalive-requests",
    "upstream-keepalive-timeout",
    "use-gzip",
    "use-http2",
    "worker-processes",
    "worker-shutdown-timeout",
];

/// Every key that we or ingress-nginx know, for suggestions.
pub fn all() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, ..)| *key).chain(PROTECTING).chain(UNSUPPORTED)
}

/// Reads the ConfigMap. Total.
pub fn read(data: &BTreeMap<String, String>) -> (Defaults, Vec<Finding>) {
    let mut defaults = Defaults::default();
    let mut findings = Vec::new();
    for (key, text) in data {
        let text = text.trim();
        let known = &mut defaults;
        let failed = match key.as_str() {
            "ssl-redirect" => set(&redirect::SSL_REDIRECT, text, &mut known.redirect.with_certificate),
            "force-ssl-redirect" => set(&redirect::FORCE_SSL_REDIRECT, text, &mut known.redirect.always),
            "proxy-body-size" => set(&body_limit::PROXY_BODY_SIZE, text, &mut known.body_limit.max_bytes),
            "proxy-connect-timeout" => {
                set(&timeout::PROXY_CONNECT_TIMEOUT, text, &mut known.timeouts.connect)
            }
            "proxy-send-timeout" => set(&timeout::PROXY_SEND_TIMEOUT, text, &mut known.timeouts.send),
            "proxy-read-timeout" => set(&timeout::PROXY_READ_TIMEOUT, text, &mut known.timeouts.read),
            "limit-req-status-code" => put(value::status::<400, 599>(text), &mut known.limit_status),
            "http-redirect-code" => put(redirect_status(text), &mut known.redirect_status),
            "trailing-slash-redirect" => put(value::boolean(text), &mut known.is_slash_redirected),
            "strict-validate-path-type" => value::boolean(text).map(|_| ()),
            "refused-annotations" => put(refused(text), &mut known.is_refused_ignored),
            "no-tls-redirect-locations" => put(locations(text), &mut known.no_redirect),
            "whitelist-source-range" | "allowlist-source-range" => {
                // Of the two names the first one that nginx knows counts.
                let is_shadowed =
                    key == "allowlist-source-range" && data.contains_key("whitelist-source-range");
                if !is_shadowed && !text.is_empty() {
                    global_list(key, text, known, &mut findings);
                }
                Ok(())
            }
            other => {
                findings.extend(unserved(other, text));
                Ok(())
            }
        };
        if let Err(reason) = failed {
            let row = KEYS.iter().find(|(known, ..)| known == key);
            let (default, values) = row.map_or(("", ""), |(_, default, values, _)| (*default, *values));
            let message = format!("{reason}; the default ({default}) is used; write {values}");
            findings.push(finding(key, text, FindingKind::Invalid, Effect::Warn, message));
        }
    }
    (defaults, findings)
}

fn finding(key: &str, value: &str, kind: FindingKind, effect: Effect, message: String) -> Finding {
    Finding { key: key.to_owned(), value: value.to_owned(), kind, effect, message }
}

fn set<T>(annotation: &Annotation<T>, text: &str, target: &mut T) -> Result<(), String> {
    put((annotation.parse)(text), target)
}

fn put<T>(read: Result<T, String>, target: &mut T) -> Result<(), String> {
    *target = read?;
    Ok(())
}

fn global_list(key: &str, text: &str, defaults: &mut Defaults, findings: &mut Vec<Finding>) {
    match allow_list::read(key, text, findings) {
        Read::Value(list) => defaults.allow_list = Some(list),
        Read::Absent | Read::Invalid => {
            defaults.deny = Some(key.to_owned());
            if let Some(finding) = findings.last_mut() {
                finding.message =
                    "holds no entry that is a network or an address; every path without a list of its own answers 503; \
                     correct it"
                        .to_owned();
            }
        }
    }
}

fn redirect_status(text: &str) -> Result<u16, String> {
    match text {
        "301" | "302" | "307" | "308" => value::status::<301, 308>(text),
        _ => Err("is not a redirect status".to_owned()),
    }
}

fn refused(text: &str) -> Result<bool, String> {
    match text {
        "Deny" => Ok(false),
        "Ignore" => Ok(true),
        _ => Err("is neither Deny nor Ignore".to_owned()),
    }
}

fn locations(text: &str) -> Result<Vec<String>, String> {
    let locations: Vec<String> =
        text.split(',').map(str::trim).filter(|location| !location.is_empty()).map(str::to_owned).collect();
    match locations.iter().find(|location| !location.starts_with('/')) {
        Some(bad) => Err(format!("holds {bad}, which does not begin with /")),
        None => Ok(locations),
    }
}

fn unserved(key: &str, text: &str) -> Option<Finding> {
    let is_off = value::boolean(text) == Ok(false) || text.is_empty();
    if PROTECTING.contains(&key) {
        let message =
            "not supported by this version; requests are served without it; remove it if that is right";
        let found = finding(key, text, FindingKind::Unsupported, Effect::Warn, message.to_owned());
        return (!is_off).then_some(found);
    }
    if UNSUPPORTED.contains(&key) {
        let message = "not supported by this version; it is ignored".to_owned();
        return (!is_off).then(|| finding(key, text, FindingKind::Unsupported, Effect::Note, message));
    }
    Some(finding(key, text, FindingKind::Unknown, Effect::Warn, "unknown key; it is ignored".to_owned()))
}
