//! `rewrite-target`, `use-regex`, and what turns their quirks off.

use super::registry::annotations;
use super::{Effect, Read, Reader, value};
use crate::model::template::{Part, Template, Variable};

annotations! { "Rewriting and regular expressions";
    /// Replaces the whole path of the request, after the Ingress path was matched case-insensitively as a regular
    /// expression; `$1` to `$9` stand for its groups, other nginx variables for themselves, and the query is kept. Without
    /// a group the tail of the path is lost. Every path of the host, of all Ingresses and of type Exact too, becomes a
    /// case-insensitive regular expression anchored at the start (see `strict`). No effect if it equals the path. A URL
    /// redirects there with status 302 instead, before limits and authentication, as nginx does. Unlike in ingress-nginx
    /// the value begins with `/`, a group or a scheme, it may hold a query (`/index.php?p=$1`), one that cannot be read answers
    /// 503 instead of leaving the path as it is, and look-around and backreferences are not supported in paths.
    REWRITE_TARGET: Template = "rewrite-target", parse: value::text::rewrite_target,
    values: "a path such as /$2, or a URL", default: "",
    on_invalid: Deny, scope: "path; regular expressions for the whole host", twins: [], in: Annotation, support: Differs;
    /// Every path of the host, of all Ingresses and of type Exact too, becomes a case-insensitive regular expression,
    /// anchored at the start only, the longest text first (see `strict`). Unlike in ingress-nginx look-around and
    /// backreferences are not supported.
    USE_REGEX: bool = "use-regex", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Differs;
    /// Sent to the backend as `X-Forwarded-Prefix`, if `rewrite-target` changes the path; `$1` to `$9` stand for the groups of
    /// the Ingress path.
    X_FORWARDED_PREFIX: Template = "x-forwarded-prefix", parse: value::text::path_prefix,
    values: "the prefix of a path, such as /app or /$1", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Turns off what ingress-nginx does beside the letter of the Ingress API. For the paths of this Ingress (in the
    /// ConfigMap: of all): other Ingresses of the host do not make regular expressions of them, nor does `rewrite-target`;
    /// only `use-regex` does, and only of paths of type ImplementationSpecific. Exact and Prefix stay case-sensitive and as
    /// the API defines them, and Exact goes before every expression. Expressions are case-sensitive. A path that ends in `/` does not
    /// redirect the request without it. On by `portcullis.dev/strict` as well as under the prefix of ingress-nginx.
    STRICT: bool = "strict", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Own;
}

/// How paths are matched and rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// `rewrite-target`.
    pub target: Option<Template>,
    /// The target as it was written: one that equals the path does nothing.
    pub written: String,
    /// `use-regex`.
    pub use_regex: bool,
    /// `x-forwarded-prefix`.
    pub prefix: Option<Template>,
    /// `strict`.
    pub is_strict: bool,
}

impl Rewriting {
    /// The target that takes effect on a path.
    pub fn target_for(&self, path: &str) -> Option<&Template> {
        self.target.as_ref().filter(|_| self.written != path)
    }
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Rewriting {
    // A target that cannot be read makes no expressions of paths: that would change the host's other Ingresses.
    let written =
        reader.find(&REWRITE_TARGET.row).map(|found| found.text.trim().to_owned()).unwrap_or_default();
    let target = match reader.get(&REWRITE_TARGET) {
        Read::Value(target) => Some(target),
        Read::Absent | Read::Invalid => None,
    };
    let has_group = |target: &Template| {
        target.0.iter().any(|part| {
            matches!(part, Part::Variable(Variable::Group(_) | Variable::Uri | Variable::RequestUri))
        })
    };
    if target.as_ref().is_some_and(|target| !has_group(target) && !value::text::is_url(target))
        && written != "/"
    {
        // The classic surprise: `/app` on the path `/api` sends `/api/x` to `/app`.
        let message = "names no group such as $1, so every path below is sent to this one; that may be meant";
        reader.note(REWRITE_TARGET.row.key, Effect::Note, message);
    }
    let prefix = reader.get(&X_FORWARDED_PREFIX).value();
    if prefix.is_some() && target.is_none() {
        let message =
            "is only sent with rewrite-target, so it does nothing; remove it, or set proxy-set-headers";
        reader.note(X_FORWARDED_PREFIX.row.key, Effect::Note, message);
    }
    Rewriting {
        written: if target.is_some() { written } else { String::new() },
        target,
        use_regex: reader.value(&USE_REGEX),
        prefix,
        is_strict: reader.value(&STRICT),
    }
}
