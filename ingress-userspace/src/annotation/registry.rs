//! The declaration of annotations, and the table of all of them.

use super::{Effect, Finding, FindingKind};
use super::{allow_list, body_limit, fallback, rate_limit, redirect, rewrite, timeout};

/// A declared annotation: its row and its parser.
#[derive(Debug)]
pub struct Annotation<T> {
    /// What is known of it without its type.
    pub row: Row,
    /// Reads the text; the error is a reason without subject: `is not a number`.
    pub parse: fn(&str) -> Result<T, String>,
}

/// One row of the reference.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key without prefix.
    pub key: &'static str,
    /// Other keys for the same setting.
    pub twins: &'static [&'static str],
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
            (Effect::Deny | Effect::Skip, _) => "the paths of this Ingress answer 503".to_owned(),
            (_, "") => "it is ignored".to_owned(),
            (_, default) => format!("the cluster's default ({default} unless configured) is used"),
        };
        let message = format!("{reason}; {consequence}; write {}", self.values);
        Finding { key, value: value.to_owned(), kind: FindingKind::Invalid, effect: self.on_invalid, message }
    }
}

/// The annotations of one feature.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Heading in the reference.
    pub name: &'static str,
    /// Its annotations.
    pub rows: &'static [Row],
}

/// All that this version serves.
pub const GROUPS: [Group; 7] = [
    rewrite::GROUP,
    redirect::GROUP,
    allow_list::GROUP,
    rate_limit::GROUP,
    body_limit::GROUP,
    timeout::GROUP,
    fallback::GROUP,
];

/// All served keys, twins included.
pub fn served() -> impl Iterator<Item = &'static str> {
    let rows = GROUPS.iter().flat_map(|group| group.rows);
    rows.flat_map(|row| std::iter::once(row.key).chain(row.twins.iter().copied()))
}

/// Declares the annotations of a feature: a typed constant each, and `GROUP`.
macro_rules! annotations {
    ($name:literal; $(
        $(#[doc = $docs:literal])*
        $constant:ident: $type:ty = $key:literal, parse: $parse:path, values: $values:literal, default: $default:literal,
        on_invalid: $effect:ident, scope: $scope:literal, twins: [$($twin:literal),*];
    )*) => {
        $(
            $(#[doc = $docs])*
            pub const $constant: $crate::annotation::registry::Annotation<$type> =
                $crate::annotation::registry::Annotation {
                    row: $crate::annotation::registry::Row {
                        key: $key,
                        twins: &[$($twin),*],
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
        /// The annotations of this feature.
        pub const GROUP: $crate::annotation::registry::Group =
            $crate::annotation::registry::Group { name: $name, rows: &[$($constant.row),*] };
    };
}
pub(super) use annotations;
