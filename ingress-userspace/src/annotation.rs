//! Stage 2: annotation text → typed settings.
//!
//! Each feature declares its keys once (`annotations!`), next to the function that turns them into settings. [`read`] is
//! total: a value that cannot be read becomes a [`Finding`], and either the default holds or the paths of the Ingress
//! answer 503 (where serving without the setting would let in what it should keep out). Nothing here knows of Kubernetes
//! objects; `translate` turns findings into Problems.

pub mod affinity;
pub mod alias;
pub mod allow_list;
pub mod answer_rewrite;
pub mod auth_basic;
pub mod auth_external;
pub mod backend_protocol;
pub mod balance;
pub mod bandwidth;
pub mod body_limit;
pub mod canary;
pub mod client_certificate;
pub mod cloud;
pub mod config_map;
pub mod connection_limit;
pub mod cors;
pub mod deny_list;
pub mod error_page;
pub mod fallback;
pub mod forwarded;
pub mod headers;
pub mod keepalive;
pub mod known;
pub mod mirror;
pub mod next_upstream;
pub mod proxy_protocol;
pub mod proxy_ssl;
pub mod quota;
pub mod rate_limit;
pub mod redirect;
pub mod registry;
pub mod rewrite;
pub mod satisfy;
pub mod snippet;
pub mod stream;
pub mod subrequest;
pub mod timeout;
pub mod value;

use std::collections::BTreeMap;

use crate::model::policy::answer_rewrite::AnswerRewrite;
use crate::model::policy::cors::Cors;
use crate::model::policy::delivery::{Balance, Keepalive, Retry};
use crate::model::policy::{AllowList, Bandwidth, BodyLimit, Timeouts};
use config_map::Defaults;
use registry::{Annotation, Row};

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
    /// `configuration-snippet`.
    pub snippet: snippet::Snippet,
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

/// The settings of one Ingress as they are looked up: its annotations, then the ConfigMap, then the declared default.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Only what stands under our prefixes, by its key without prefix: most settings of most Ingresses are not there.
    annotations: BTreeMap<&'a str, (&'a str, &'a str)>,
    config: &'a BTreeMap<String, String>,
    /// Whether the ConfigMap itself is read. Its mistakes are reported then, and not once more for every Ingress.
    reads_config: bool,
    /// A ConfigMap key that protects and cannot be read, and that no annotation overrides.
    pub inherited_deny: Option<&'static str>,
    /// What was found wrong so far.
    pub findings: Vec<Finding>,
}

/// A value that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// Not given.
    Absent,
    /// Given and readable.
    Value(T),
    /// Given and not readable; the finding is written.
    Invalid,
}

impl<T> Read<T> {
    /// The value, or else this one.
    pub fn or(self, default: T) -> T {
        match self {
            Self::Value(value) => value,
            Self::Absent | Self::Invalid => default,
        }
    }

    /// The value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// A text that was found for a setting.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The key as written: with prefix, or that of the ConfigMap.
    pub key: String,
    /// The value as written.
    pub text: &'a str,
    /// It stands in the ConfigMap.
    pub is_config: bool,
}

impl<'a> Reader<'a> {
    /// For an Ingress with these annotations, under `prefix` and under our own.
    pub fn new(prefix: &'a str, annotations: &'a BTreeMap<String, String>, defaults: &'a Defaults) -> Self {
        let config = &defaults.data;
        let annotations = index(prefix, annotations);
        Self { annotations, config, reads_config: false, inherited_deny: None, findings: Vec::new() }
    }

    /// For the ConfigMap itself.
    pub fn of_config(config: &'a BTreeMap<String, String>) -> Self {
        Self {
            annotations: BTreeMap::new(),
            config,
            reads_config: true,
            inherited_deny: None,
            findings: Vec::new(),
        }
    }

    /// The annotation of this key as written; our own prefix wins.
    pub fn text(&self, key: &str) -> Option<(String, &'a str)> {
        self.annotations.get(key).map(|(key, text)| ((*key).to_owned(), *text))
    }

    /// The text of a setting: the annotation, else the ConfigMap's. An empty one, as templates leave it behind, is none:
    /// so it is in ingress-nginx. Of two names the first counts, and the other is reported if it says something else.
    pub fn find(&mut self, row: &'static Row) -> Option<Found<'a>> {
        let mut found: Vec<Found<'a>> = Vec::new();
        for key in row.keys().filter(|_| row.is_annotation()) {
            if let Some((key, text)) = self.annotations.get(key) {
                found.push(Found { key: (*key).to_owned(), text, is_config: false });
            }
        }
        for key in row.keys().filter(|_| row.is_config_key()) {
            if let Some((key, text)) = self.config.get_key_value(key) {
                found.push(Found { key: key.clone(), text, is_config: true });
            }
        }
        found.retain(|found| !found.text.trim().is_empty());
        let first = found.first().cloned()?;
        let same_place = found.into_iter().skip(1).filter(|other| other.is_config == first.is_config);
        for other in same_place.filter(|other| other.text.trim() != first.text.trim()) {
            let message = format!("{} is given too and counts; remove one of them", first.key);
            self.report(&other, Effect::Warn, message);
        }
        Some(first)
    }

    /// Looks a setting up.
    pub fn get<T>(&mut self, annotation: &'static Annotation<T>) -> Read<T> {
        let Some(found) = self.find(&annotation.row) else { return Read::Absent };
        self.parse(annotation, &found)
    }

    /// Reads a text that was found; writes the finding if it cannot be read.
    pub fn parse<T>(&mut self, annotation: &'static Annotation<T>, found: &Found<'_>) -> Read<T> {
        match (annotation.parse)(found.text.trim()) {
            Ok(value) => Read::Value(value),
            Err(reason) => {
                self.invalid(&annotation.row, found, &reason);
                Read::Invalid
            }
        }
    }

    /// The value of a setting: as annotated, else as the ConfigMap has it, else as declared.
    pub fn value<T: Default>(&mut self, annotation: &'static Annotation<T>) -> T {
        if let Read::Value(value) = self.get(annotation) {
            return value;
        }
        self.configured(annotation)
    }

    /// The value of a setting without regard to annotations: as the ConfigMap has it, else as declared.
    pub fn configured<T: Default>(&self, annotation: &'static Annotation<T>) -> T {
        let configured = annotation.row.keys().filter(|_| annotation.row.is_config_key());
        let configured = configured.filter_map(|key| self.config.get(key)).map(String::as_str);
        let texts = configured.chain([annotation.row.default]).filter(|text| !text.trim().is_empty());
        texts.filter_map(|text| (annotation.parse)(text.trim()).ok()).next().unwrap_or_default()
    }

    /// A text that cannot be read.
    pub fn invalid(&mut self, row: &'static Row, found: &Found<'_>, reason: &str) {
        let mut finding = row.invalid(found.key.clone(), found.text, reason);
        if found.is_config && matches!(row.on_invalid, Effect::Deny | Effect::Refuse) {
            self.inherited_deny.get_or_insert(row.key);
            finding.message =
                format!("{reason}; every path without a value of its own answers 503; write {}", row.values);
        } else if found.is_config {
            let default = if row.default.is_empty() { "nothing" } else { row.default };
            finding.message = format!("{reason}; the default ({default}) is used; write {}", row.values);
        }
        if found.is_config == self.reads_config {
            self.findings.push(finding);
        }
    }

    /// A text that is understood and not done. The ConfigMap never denies by it: nothing would be served.
    pub fn refuse(&mut self, row: &Row, found: &Found<'_>, replacement: &str) {
        if found.is_config != self.reads_config {
            return;
        }
        let (effect, consequence) = if found.is_config {
            (Effect::Warn, "requests are served without it")
        } else {
            (
                row.on_invalid,
                "the paths of this Ingress answer 503; remove it, or set the ConfigMap key refused-annotations to Ignore",
            )
        };
        self.findings.push(Finding {
            key: found.key.clone(),
            value: found.text.to_owned(),
            kind: FindingKind::Unsupported,
            effect,
            message: format!("refused, never executed; {replacement}; {consequence}"),
        });
    }

    /// Notes something about a text that was found.
    pub fn report(&mut self, found: &Found<'_>, effect: Effect, message: impl Into<String>) {
        if found.is_config == self.reads_config {
            self.findings.push(Finding {
                key: found.key.clone(),
                value: found.text.to_owned(),
                kind: FindingKind::Invalid,
                effect,
                message: message.into(),
            });
        }
    }

    /// Notes something about an annotation that was read.
    pub fn note(&mut self, key: &str, effect: Effect, message: impl Into<String>) {
        if let Some((key, text)) = self.text(key) {
            self.report(&Found { key, text, is_config: false }, effect, message);
        }
    }
}

/// The annotations under our prefixes by their key without it: that as written, and the text. Our own prefix wins.
fn index<'a>(
    prefix: &str,
    annotations: &'a BTreeMap<String, String>,
) -> BTreeMap<&'a str, (&'a str, &'a str)> {
    let mut index = BTreeMap::new();
    for only in [prefix, OWN_PREFIX] {
        for (written, text) in annotations {
            if let Some(key) = written.strip_prefix(only).and_then(|rest| rest.strip_prefix('/')) {
                index.insert(key, (written.as_str(), text.as_str()));
            }
        }
    }
    index
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
    findings.extend(known::check(prefix, annotations));
    findings.extend(cloud::check(annotations));
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
mod tests;
