//! Stage 2: annotation text → typed settings.
//!
//! Each feature declares its keys once (`annotations!`), next to the function that turns them into settings. [`read`] is
//! total: a value that cannot be read becomes a [`Finding`], and either the default holds or the paths of the Ingress
//! answer 503 (where serving without the setting would let in what it should keep out). Nothing here knows of Kubernetes
//! objects; `translate` turns findings into Problems.

pub mod accepted;
pub mod access_log;
pub mod affinity;
pub mod alias;
pub mod allow_list;
pub mod answer_rewrite;
pub mod auth_basic;
pub mod auth_external;
pub mod backend_protocol;
pub mod balance;
pub mod bandwidth;
pub mod block;
pub mod body_limit;
pub mod canary;
pub mod client_certificate;
pub mod cloud;
pub mod compression;
pub mod config_map;
pub mod connection_limit;
pub mod connections;
pub mod cors;
pub mod deny_list;
pub mod error_page;
pub mod fallback;
pub mod forwarded;
pub mod headers;
pub mod health_check;
pub mod inert;
pub mod keepalive;
pub mod known;
pub mod mirror;
mod neighbours;
pub mod next_upstream;
pub mod preset;
pub mod process;
pub mod proxy_protocol;
pub mod proxy_ssl;
pub mod quota;
pub mod rate_limit;
mod reader;
pub mod redirect;
pub mod registry;
pub mod removed;
pub mod request_buffer;
pub mod response_buffer;
pub mod rewrite;
pub mod satisfy;
pub mod service_upstream;
pub mod shared_limits;
pub mod snippet;
pub mod stream;
pub mod subrequest;
pub mod timeout;
pub mod tls;
pub mod trace;
pub mod value;

use std::collections::BTreeMap;

use crate::model::policy::answer_rewrite::AnswerRewrite;
use crate::model::policy::cors::Cors;
use crate::model::policy::delivery::{Balance, Keepalive, Retry};
use crate::model::policy::trace::Trace;
use crate::model::policy::{AllowList, Bandwidth, BodyLimit, RequestBuffer, ResponseBuffer, Timeouts};
use config_map::Defaults;
pub use reader::{Found, Read, Reader};

/// The prefix that is always accepted beside the configured one.
pub const OWN_PREFIX: &str = "portcullis.dev";

/// What the annotations of one Ingress ask for, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `rewrite-target`, `use-regex`, `x-forwarded-prefix`, `strict`.
    pub rewriting: rewrite::Rewriting,
    /// `server-alias`.
    pub aliases: Vec<String>,
    /// `ssl-redirect`, `permanent-redirect`, `app-root` and the like.
    pub redirect: redirect::Redirects,
    /// `enable-cors` and the like.
    pub cors: Option<Cors>,
    /// `upstream-vhost`, `connection-proxy-header`, `custom-headers`.
    pub headers: headers::IngressHeaders,
    /// `proxy-cookie-domain` and the like.
    pub answer_rewrite: AnswerRewrite,
    /// `configuration-snippet`, behind `location-snippet`.
    pub snippet: snippet::Snippet,
    /// `server-snippet` of the Ingress.
    pub server: Option<snippet::Server>,
    /// `whitelist-source-range`.
    pub allow_list: Option<AllowList>,
    /// `limit-rps`, `limit-rpm`, `limit-burst-multiplier`.
    pub rate: Option<rate_limit::Rates>,
    /// `rate-limit`.
    pub quota: Option<quota::Quota>,
    /// `limit-connections`.
    pub connections: Option<connection_limit::Connections>,
    /// `limit-whitelist`, `limit-conn-zone-variable`.
    pub counted: rate_limit::Counted,
    /// `limit-rate`, `limit-rate-after`.
    pub bandwidth: Option<Bandwidth>,
    /// `denylist-source-range`.
    pub deny_list: Option<Vec<ipnet::IpNet>>,
    /// `auth-type`, `auth-secret`, `auth-secret-type`, `auth-realm`.
    pub password: Option<auth_basic::PasswordAuth>,
    /// `auth-tls-*`.
    pub client_certificate: Option<client_certificate::ClientCertificate>,
    /// `satisfy: any`.
    pub is_one_enough: bool,
    /// `proxy-body-size`.
    pub body_limit: BodyLimit,
    /// `proxy-request-buffering`, `client-body-buffer-size`.
    pub request_buffer: Option<RequestBuffer>,
    /// `proxy-buffering`, `proxy-buffer-size`, `proxy-buffers-number`, `proxy-max-temp-file-size`.
    pub response_buffer: ResponseBuffer,
    /// `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.
    pub timeouts: Timeouts,
    /// `load-balance`, `upstream-hash-by`.
    pub balance: Balance,
    /// `proxy-next-upstream`.
    pub retry: Retry,
    /// `upstream-keepalive-connections`.
    pub keepalive: Keepalive,
    /// `affinity`.
    pub sessions: Option<affinity::Sessions>,
    /// `canary`.
    pub canary: Option<canary::CanaryRules>,
    /// `backend-protocol`, `proxy-http-version`.
    pub backend_protocol: backend_protocol::BackendProtocol,
    /// `proxy-ssl-secret` and what goes with it.
    pub proxy_ssl: Option<proxy_ssl::ProxySsl>,
    /// `ssl-passthrough`.
    pub ssl_passthrough: bool,
    /// `proxy-ssl-location-only`.
    pub proxy_ssl_location_only: bool,
    /// `enable-access-log`.
    pub is_logged: bool,
    /// `enable-opentelemetry`.
    pub trace: Option<Trace>,
    /// `ssl-ciphers`, `ssl-prefer-server-ciphers`.
    pub ciphers: tls::HostCiphers,
    /// `service-upstream`.
    pub service_upstream: bool,
    /// `upstream-health-check-path`.
    pub health_check: Option<health_check::Check>,
    /// `default-backend`.
    pub fallback: Option<String>,
    /// `auth-url`, or `global-auth-url`.
    pub auth_external: Option<auth_external::ExternalAuth>,
    /// `no-auth-locations`: paths without authentication.
    pub no_auth_locations: Vec<String>,
    /// `custom-http-errors`.
    pub error_pages: error_page::ErrorPages,
    /// `mirror-target`.
    pub mirror: Option<mirror::Mirror>,
    /// Why the paths of the Ingress answer 503.
    pub deny: Option<String>,
    /// The Ingress is not served at all.
    pub is_skipped: bool,
}

/// Something wrong with one annotation or ConfigMap key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The whole key as written.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// What kind of mistake.
    pub kind: FindingKind,
    /// What came of it.
    pub effect: Effect,
    /// What is wrong, what is done instead, how to fix it. For unknown keys `translate` adds a suggestion.
    pub message: String,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// The value cannot be read.
    Invalid,
    /// Nobody knows the key.
    Unknown,
    /// ingress-nginx knows the key, this version does not.
    Unsupported,
}

/// What comes of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changes for traffic.
    Note,
    /// Served, not as written.
    Warn,
    /// The paths of the Ingress answer 503.
    Deny,
    /// The same, and admission refuses the object, as that of ingress-nginx does.
    Refuse,
    /// The Ingress is not served.
    Skip,
}

/// Reads all settings of an Ingress. Total: what cannot be read is in the findings.
pub fn read(
    prefix: &str,
    annotations: &BTreeMap<String, String>,
    defaults: &Defaults,
) -> (Settings, Vec<Finding>) {
    let mut reader = Reader::new(prefix, annotations, defaults);
    let mut settings = read_features(&mut reader);
    settings.deny = reader.inherited_deny.map(|key| format!("ConfigMap key {key}"));
    let mut findings = reader.findings;
    let known = known::check(prefix, annotations, &findings);
    findings.extend(known);
    findings.extend(cloud::check(annotations));
    findings.extend(neighbours::check(prefix, annotations));
    let mut own_deny = None;
    for finding in &mut findings {
        let is_ignored = finding.kind == FindingKind::Unsupported && defaults.is_refused_ignored;
        match finding.effect {
            Effect::Deny | Effect::Refuse if is_ignored => {
                finding.effect = Effect::Warn;
                finding.message = "not supported; the paths of this Ingress are served without it, since \
                                   refused-annotations is Ignore"
                    .to_owned();
            }
            Effect::Deny | Effect::Refuse => {
                own_deny.get_or_insert_with(|| format!("annotation {}", finding.key));
            }
            Effect::Skip => settings.is_skipped = true,
            Effect::Note | Effect::Warn => {}
        }
    }
    settings.deny = own_deny.or(settings.deny);
    (settings, findings)
}

/// Every feature's settings. The ConfigMap itself is read by this, too, as if it were an Ingress without annotations.
fn read_features(reader: &mut Reader<'_>) -> Settings {
    let redirect = redirect::parse(reader);
    Settings {
        rewriting: rewrite::parse(reader),
        aliases: alias::parse(reader),
        cors: cors::parse(reader),
        headers: headers::parse(reader),
        answer_rewrite: answer_rewrite::parse(reader, redirect.form),
        snippet: snippet::parse(reader),
        server: snippet::parse_server(reader),
        redirect,
        allow_list: allow_list::parse(reader),
        deny_list: deny_list::parse(reader),
        password: auth_basic::parse(reader),
        is_one_enough: satisfy::parse(reader),
        client_certificate: client_certificate::parse(reader),
        rate: rate_limit::parse(reader),
        quota: quota::parse(reader),
        connections: connection_limit::parse(reader),
        counted: rate_limit::parse_counted(reader),
        bandwidth: bandwidth::parse(reader),
        body_limit: body_limit::parse(reader),
        request_buffer: request_buffer::parse(reader),
        response_buffer: response_buffer::parse(reader),
        timeouts: timeout::parse(reader),
        balance: balance::parse(reader),
        retry: next_upstream::parse(reader),
        keepalive: keepalive::parse(reader),
        sessions: affinity::parse(reader),
        canary: canary::parse(reader),
        backend_protocol: backend_protocol::parse(reader),
        ssl_passthrough: reader.value(&stream::SSL_PASSTHROUGH),
        proxy_ssl: proxy_ssl::parse(reader),
        proxy_ssl_location_only: reader.value(&proxy_ssl::PROXY_SSL_LOCATION_ONLY),
        is_logged: access_log::parse(reader),
        trace: trace::parse(reader),
        ciphers: tls::parse(reader),
        service_upstream: service_upstream::parse(reader),
        health_check: health_check::parse(reader),
        fallback: fallback::parse(reader),
        auth_external: auth_external::parse(reader),
        no_auth_locations: auth_external::exempt(reader),
        error_pages: error_page::parse(reader),
        mirror: mirror::parse(reader),
        deny: None,
        is_skipped: false,
    }
}

#[cfg(test)]
mod names;
#[cfg(test)]
mod tests;
