//! The declaration of settings, and the table of all of them.
//!
//! A setting is an annotation, a ConfigMap key, or both: an annotation whose cluster-wide default has the same name.

use super::{Effect, Finding, FindingKind, block};
use super::{
    accepted, access_log, affinity, alias, allow_list, answer_rewrite, auth_basic, auth_external,
    backend_protocol, balance, bandwidth, body_limit, canary, client_certificate, compression, config_map,
    connection_limit, connections, cors, deny_list, error_page, fallback, forwarded, headers, health_check,
    keepalive, mirror, next_upstream, preset, process, proxy_protocol, proxy_ssl, quota, rate_limit,
    redirect, removed, request_buffer, response_buffer, rewrite, satisfy, service_upstream, shared_limits,
    snippet, stream, subrequest, timeout, tls, trace,
};

/// A declared setting: its row and its parser.
#[derive(Debug)]
pub struct Annotation<T> {
    /// What is known of it without its type.
    pub row: Row,
    /// Reads the text; the error is a reason without subject: `is not a number`.
    pub parse: fn(&str) -> Result<T, String>,
}

/// Where a setting may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On an Ingress.
    Annotation,
    /// On an Ingress, and in the ConfigMap as its default.
    Both,
    /// In the ConfigMap.
    ConfigMap,
}

/// How what we do compares with ingress-nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The same.
    Same,
    /// Served; the docs of the row say what differs.
    Differs,
    /// Only Portcullis has it, or makes it real.
    Own,
    /// Accepted, and nothing is done; the docs say why nothing is needed.
    Ignored,
    /// Refused: the docs name the replacement.
    Refused,
}

/// One row of the reference.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key without prefix.
    pub key: &'static str,
    /// Other keys for the same setting; of two that are given the first one counts.
    pub twins: &'static [&'static str],
    /// Where it may stand.
    pub place: Place,
    /// How it compares with ingress-nginx.
    pub support: Support,
    /// What it does, and where that differs from ingress-nginx.
    pub docs: &'static str,
    /// What the values are.
    pub values: &'static str,
    /// The default as text; empty: none.
    pub default: &'static str,
    /// What a value means that cannot be read.
    pub on_invalid: Effect,
    /// What it holds for.
    pub scope: &'static str,
    /// Reads a text and forgets the value: checks defaults.
    pub check: fn(&str) -> Result<(), String>,
}

impl Row {
    /// The finding of a value that cannot be read.
    pub fn invalid(&self, key: String, value: &str, reason: &str) -> Finding {
        let consequence = match (self.on_invalid, self.default) {
            (Effect::Deny | Effect::Refuse, _) => "the paths of this Ingress answer 503".to_owned(),
            (Effect::Skip, _) => "the whole Ingress is left out".to_owned(),
            (_, "") => "it is ignored".to_owned(),
            (_, default) => format!("the cluster's default ({default} unless configured) is used"),
        };
        let message = format!("{reason}; {consequence}; write {}", self.values);
        Finding { key, value: value.to_owned(), kind: FindingKind::Invalid, effect: self.on_invalid, message }
    }

    /// Its docs as one line that begins in the middle of a sentence and ends without a dot.
    pub fn sentence(&self) -> String {
        let docs = self.docs.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let docs = docs.trim().trim_end_matches('.');
        let mut chars = docs.chars();
        let first = chars.next().map(|first| first.to_ascii_lowercase());
        first.into_iter().chain(chars).collect()
    }

    /// The key and its twins.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.key).chain(self.twins.iter().copied())
    }

    /// Whether it is read from Ingresses.
    pub fn is_annotation(&self) -> bool {
        self.place != Place::ConfigMap
    }

    /// Whether it is read from the ConfigMap.
    pub fn is_config_key(&self) -> bool {
        self.place != Place::Annotation
    }
}

/// The settings of one feature.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Heading in the reference.
    pub name: &'static str,
    /// Its settings.
    pub rows: &'static [Row],
}

/// All settings, a group per feature.
pub const GROUPS: &[Group] = &[
    rewrite::GROUP,
    alias::GROUP,
    redirect::GROUP,
    redirect::CONFIG,
    block::CONFIG,
    deny_list::GROUP,
    cors::GROUP,
    headers::GROUP,
    headers::CONFIG,
    answer_rewrite::GROUP,
    snippet::GROUP,
    snippet::CONFIG,
    allow_list::GROUP,
    auth_basic::GROUP,
    satisfy::GROUP,
    client_certificate::GROUP,
    rate_limit::GROUP,
    rate_limit::CONFIG,
    connection_limit::GROUP,
    connection_limit::CONFIG,
    quota::GROUP,
    shared_limits::CONFIG,
    bandwidth::GROUP,
    body_limit::GROUP,
    request_buffer::GROUP,
    request_buffer::CONFIG,
    response_buffer::GROUP,
    compression::CONFIG,
    timeout::GROUP,
    canary::GROUP,
    affinity::GROUP,
    balance::GROUP,
    next_upstream::GROUP,
    next_upstream::CONFIG,
    service_upstream::GROUP,
    health_check::GROUP,
    keepalive::GROUP,
    keepalive::CONFIG,
    fallback::GROUP,
    backend_protocol::GROUP,
    proxy_ssl::GROUP,
    proxy_ssl::CONFIG,
    auth_external::GROUP,
    auth_external::CONFIG,
    error_page::GROUP,
    mirror::GROUP,
    proxy_protocol::CONFIG,
    stream::GROUP,
    stream::CONFIG,
    forwarded::CONFIG,
    subrequest::CONFIG,
    access_log::GROUP,
    access_log::CONFIG,
    connections::CONFIG,
    tls::GROUP,
    tls::CONFIG,
    trace::GROUP,
    trace::CONFIG,
    process::CONFIG,
    preset::CONFIG,
    accepted::GROUP,
    accepted::CONFIG,
    removed::GROUP,
    config_map::CONFIG,
];

/// Every row.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|group| group.rows)
}

/// All declared annotations, twins included.
pub fn served() -> impl Iterator<Item = &'static str> {
    rows().filter(|row| row.is_annotation()).flat_map(Row::keys)
}

/// All declared ConfigMap keys, twins included.
pub fn configured() -> impl Iterator<Item = &'static str> {
    rows().filter(|row| row.is_config_key()).flat_map(Row::keys)
}

/// The row of an annotation.
pub fn annotation_row(key: &str) -> Option<&'static Row> {
    rows().find(|row| row.is_annotation() && row.keys().any(|known| known == key))
}

/// The row of a ConfigMap key.
pub fn config_row(key: &str) -> Option<&'static Row> {
    rows().find(|row| row.is_config_key() && row.keys().any(|known| known == key))
}

/// Declares the annotations of a feature: a typed constant each, and `GROUP`. `in: Both` makes the ConfigMap key of the
/// same name its default.
macro_rules! annotations {
    ($name:literal; $(
        $(#[doc = $docs:literal])*
        $constant:ident: $type:ty = $key:literal, parse: $parse:path, values: $values:literal, default: $default:literal,
        on_invalid: $effect:ident, scope: $scope:literal, twins: [$($twin:literal),*], in: $place:ident, support: $support:ident;
    )*) => {
        $crate::annotation::registry::settings! { GROUP, $name; $(
            $(#[doc = $docs])*
            $constant: $type = $key, $parse, $values, $default, $effect, $scope, [$($twin),*], $place, $support;
        )* }
    };
}
pub(super) use annotations;

/// Declares the ConfigMap keys of a feature that are no annotations: a typed constant each, and `CONFIG`.
macro_rules! config_keys {
    ($name:literal; $(
        $(#[doc = $docs:literal])*
        $constant:ident: $type:ty = $key:literal, parse: $parse:path, values: $values:literal, default: $default:literal,
        on_invalid: $effect:ident, support: $support:ident;
    )*) => {
        $crate::annotation::registry::settings! { CONFIG, $name; $(
            $(#[doc = $docs])*
            $constant: $type = $key, $parse, $values, $default, $effect, "the cluster", [], ConfigMap, $support;
        )* }
    };
}
pub(super) use config_keys;

/// What both declarations come down to.
macro_rules! settings {
    ($group:ident, $name:literal; $(
        $(#[doc = $docs:literal])*
        $constant:ident: $type:ty = $key:literal, $parse:path, $values:literal, $default:literal, $effect:ident,
        $scope:literal, [$($twin:literal),*], $place:ident, $support:ident;
    )*) => {
        $(
            $(#[doc = $docs])*
            pub const $constant: $crate::annotation::registry::Annotation<$type> =
                $crate::annotation::registry::Annotation {
                    row: $crate::annotation::registry::Row {
                        key: $key,
                        twins: &[$($twin),*],
                        place: $crate::annotation::registry::Place::$place,
                        support: $crate::annotation::registry::Support::$support,
                        docs: concat!($($docs, "\n"),*),
                        values: $values,
                        default: $default,
                        on_invalid: $crate::annotation::Effect::$effect,
                        scope: $scope,
                        check: |text| $parse(text).map(|_| ()),
                    },
                    parse: $parse,
                };
        )*
        /// The settings of this feature.
        pub const $group: $crate::annotation::registry::Group =
            $crate::annotation::registry::Group { name: $name, rows: &[$($constant.row),*] };
    };
}
pub(super) use settings;
