//! `rewrite-target` and `use-regex`.

use super::registry::annotations;
use super::{Effect, Read, Reader, value};

annotations! { "Rewriting and regular expressions";
    /// Replaces the whole path of the request, after the Ingress path was matched case-insensitively as a regular
    /// expression; `$1` to `$9` stand for its groups and the query is kept. Without a group the tail of the path is lost.
    /// Every path of the host, of all Ingresses and of type Exact too, becomes a case-insensitive regular expression
    /// anchored at the start. No effect if it equals the path. Unlike in ingress-nginx the value begins with `/` or with
    /// a group and holds neither query nor nginx variables, and look-around and backreferences are not supported in paths.
    REWRITE_TARGET: String = "rewrite-target", parse: value::rewrite_target, values: "a path such as /$2", default: "",
    on_invalid: Deny, scope: "path; regular expressions for the whole host", twins: [], in: Annotation, support: Differs;
    /// Every path of the host, of all Ingresses and of type Exact too, becomes a case-insensitive regular expression,
    /// anchored at the start only, the longest text first.
    USE_REGEX: bool = "use-regex", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Differs;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> (Option<String>, bool) {
    // A target that cannot be read makes no expressions of paths: that would change the host's other Ingresses.
    let target = match reader.get(&REWRITE_TARGET) {
        Read::Value(target) => Some(target),
        Read::Absent | Read::Invalid => None,
    };
    if target.as_deref().is_some_and(|target| !target.contains('$') && target != "/") {
        // The classic surprise: `/app` on the path `/api` sends `/api/x` to `/app`.
        let message = "names no group such as $1, so every path below is sent to this one; that may be meant";
        reader.note(REWRITE_TARGET.row.key, Effect::Note, message);
    }
    (target, reader.value(&USE_REGEX))
}
