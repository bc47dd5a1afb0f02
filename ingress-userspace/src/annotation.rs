//! Stage 2: annotation text → typed settings.
//!
//! Each feature declares its keys once (`annotations!`), next to the function that turns them into settings. [`read`] is
//! total: a value that cannot be read becomes a [`Finding`], and either the default holds or the paths of the Ingress
//! answer 503 (where serving without the setting would let in what it should keep out). Nothing here knows of Kubernetes
//! objects; `translate` turns findings into Problems.

pub mod allow_list;
pub mod body_limit;
pub mod config_map;
pub mod fallback;
pub mod known;
pub mod rate_limit;
pub mod redirect;
pub mod registry;
pub mod rewrite;
pub mod timeout;
pub mod value;

use std::collections::BTreeMap;

use crate::model::policy::{AllowList, BodyLimit, Timeouts};
use config_map::Defaults;
use registry::Annotation;

/// The prefix that is always accepted beside the configured one.
pub const OWN_PREFIX: &str = "portcullis.dev";

/// What the annotations of one Ingress ask for, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `rewrite-target`.
    pub rewrite_target: Option<String>,
    /// `use-regex`.
    pub use_regex: bool,
    /// `ssl-redirect`, `force-ssl-redirect`.
    pub redirect: redirect::HttpsRedirects,
    /// `whitelist-source-range`.
    pub allow_list: Option<AllowList>,
    /// `limit-rps`, `limit-burst-multiplier`.
    pub rate: Option<rate_limit::Rate>,
    /// `proxy-body-size`.
    pub body_limit: BodyLimit,
    /// `proxy-connect-timeout`, `proxy-send-timeout`, `proxy-read-timeout`.
    pub timeouts: Timeouts,
    /// `default-backend`.
    pub fallback: Option<String>,
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
    /// The Ingress is not served.
    Skip,
}

/// The annotations of one object, as they are looked up.
#[derive(Debug)]
pub struct Reader<'a> {
    prefix: &'a str,
    annotations: &'a BTreeMap<String, String>,
    /// What was found wrong so far.
    pub findings: Vec<Finding>,
}

/// A value that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// Not annotated.
    Absent,
    /// Annotated and readable.
    Value(T),
    /// Annotated and not readable; the finding is written.
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
}

impl<'a> Reader<'a> {
    /// Annotations under `prefix` and under our own.
    pub fn new(prefix: &'a str, annotations: &'a BTreeMap<String, String>) -> Self {
        Self { prefix, annotations, findings: Vec::new() }
    }

    /// The key as written and the text of an annotation; our own prefix wins.
    pub fn text(&self, key: &str) -> Option<(String, &'a str)> {
        [OWN_PREFIX, self.prefix].into_iter().find_map(|prefix| {
            let key = format!("{prefix}/{key}");
            self.annotations.get(&key).map(|text| (key, text.as_str()))
        })
    }

    /// Looks an annotation up. An empty value, as templates leave it behind, is none: so it is in ingress-nginx.
    pub fn get<T>(&mut self, annotation: &Annotation<T>) -> Read<T> {
        let Some((key, text)) = self.text(annotation.row.key) else { return Read::Absent };
        if text.trim().is_empty() {
            return Read::Absent;
        }
        match (annotation.parse)(text.trim()) {
            Ok(value) => Read::Value(value),
            Err(reason) => {
                self.findings.push(annotation.row.invalid(key, text, &reason));
                Read::Invalid
            }
        }
    }

    /// Notes something about a value that was read.
    pub fn note(&mut self, key: &str, effect: Effect, message: impl Into<String>) {
        if let Some((key, text)) = self.text(key) {
            let value = text.to_owned();
            self.findings.push(Finding {
                key,
                value,
                kind: FindingKind::Invalid,
                effect,
                message: message.into(),
            });
        }
    }
}

/// Reads all annotations of an Ingress. Total: what cannot be read is in the findings.
pub fn read(
    prefix: &str,
    annotations: &BTreeMap<String, String>,
    defaults: &Defaults,
) -> (Settings, Vec<Finding>) {
    let mut reader = Reader::new(prefix, annotations);
    let (rewrite_target, use_regex) = rewrite::parse(&mut reader);
    let mut settings = Settings {
        rewrite_target,
        use_regex,
        redirect: redirect::parse(&mut reader, defaults),
        allow_list: allow_list::parse(&mut reader, defaults),
        rate: rate_limit::parse(&mut reader),
        body_limit: body_limit::parse(&mut reader, defaults),
        timeouts: timeout::parse(&mut reader, defaults),
        fallback: fallback::parse(&mut reader),
        deny: None,
        is_skipped: false,
    };
    let mut findings = reader.findings;
    findings.extend(known::check(prefix, annotations));
    for finding in &mut findings {
        let is_ignored = finding.kind == FindingKind::Unsupported && defaults.is_refused_ignored;
        match finding.effect {
            Effect::Deny if is_ignored => {
                finding.effect = Effect::Warn;
                finding.message =
                    "not supported by this version; the paths of this Ingress are served without it, since \
                                   refused-annotations is Ignore"
                        .to_owned();
            }
            Effect::Deny => {
                settings.deny.get_or_insert_with(|| finding.key.clone());
            }
            Effect::Skip => settings.is_skipped = true,
            Effect::Note | Effect::Warn => {}
        }
    }
    (settings, findings)
}

#[cfg(test)]
mod tests;
