//! Paths of Ingress rules → matches, and their order of precedence.
//!
//! Ordinary hosts: the longest path first, Exact before the others of the same length. A host is in regex mode when any of
//! its Ingresses (of any namespace) rewrites or asks for regular expressions: then every path of it, Exact too, is a
//! case-insensitive regular expression anchored at the start, tried longest text first, as ingress-nginx does.

use std::cmp::Reverse;

use crate::model::route::PathMatch;
use crate::path_regex;

/// The path types of Ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PathKind {
    Exact,
    Prefix,
    /// `ImplementationSpecific`: a prefix, and the type that expressions have.
    Literal,
}

/// How a path is told from another one of its host while nobody knows whether they are regular expressions: as it is
/// written. As in ingress-nginx `ImplementationSpecific` is Prefix.
pub(super) fn written(kind: PathKind, path: &str) -> (PathKind, &str) {
    match kind {
        PathKind::Exact => (PathKind::Exact, path),
        PathKind::Prefix | PathKind::Literal => (PathKind::Prefix, if path == "/" { "" } else { path }),
    }
}

/// How a path is told from another one of an ordinary host: Prefix `/p` and `/p/` are the same.
pub(super) fn identity(kind: PathKind, path: &str) -> (PathKind, &str) {
    match kind {
        PathKind::Exact => (PathKind::Exact, path),
        PathKind::Prefix | PathKind::Literal => (PathKind::Prefix, path.trim_end_matches('/')),
    }
}

/// The match of a path on an ordinary host.
pub(super) fn plain(kind: PathKind, path: &str) -> PathMatch {
    match kind {
        PathKind::Exact => PathMatch::Exact(path.to_owned()),
        PathKind::Prefix | PathKind::Literal => PathMatch::Prefix(path.trim_end_matches('/').to_owned()),
    }
}

/// Where a match stands among the others of its host.
pub(super) fn rank(matched: &PathMatch, written: &str) -> (Reverse<usize>, u8, Reverse<String>) {
    let (len, kind) = match matched {
        // A regular expression is ranked by its text.
        PathMatch::Regex(text) => (text.len(), 0),
        PathMatch::Exact(path) => (path.len(), 0),
        PathMatch::Prefix(path) => (path.len().max(1), 1),
    };
    (Reverse(len), kind, Reverse(written.to_owned()))
}

/// Whether a path holds characters that only a regular expression gives a meaning.
pub(super) fn has_regex_characters(path: &str) -> bool {
    path.contains(['^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\'])
}

/// Whether no normal form of a path has this text in it.
pub(super) fn is_unmatchable(path: &str) -> bool {
    let is_dots = |part: &str| part == "." || part == "..";
    path.contains("//") || path.contains(['?', '#']) || path.split('/').any(is_dots)
}

/// Counts the groups of a regular expression, with the limits that the data plane has.
pub(super) fn check_regex(path: &str) -> Result<usize, String> {
    let built = path_regex::compile(path);
    built.map(|built| built.captures_len() - 1).map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("larger than {limit} bytes when compiled"),
        other => {
            // The last line of the text is the reason; the lines before draw the expression.
            let text = other.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    })
}

/// The literal text that every match of a regular expression begins with.
pub(super) fn literal_start(path: &str) -> &str {
    let special = |c: char| "^$*+?()[]{}|\\.".contains(c);
    let end = path.find(special).unwrap_or(path.len());
    let literal = path.get(..end).unwrap_or_default();
    // A quantifier belongs to the character before it.
    match path.get(end..).and_then(|rest| rest.chars().next()) {
        Some('*' | '+' | '?' | '{') => {
            let last = literal.char_indices().last().map_or(0, |(at, _)| at);
            literal.get(..last).unwrap_or_default()
        }
        Some('|') => "",
        _ => literal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_paths_come_first_and_exact_before_prefix() {
        use PathKind::{Exact, Literal, Prefix};
        let rows = [
            (Prefix, "/"),
            (Exact, "/foo"),
            (Prefix, "/foo/"),
            (Literal, "/lit/"),
            (Prefix, "/foo/bar"),
            (Exact, "/"),
        ];
        let mut sorted = rows.map(|(kind, path)| (plain(kind, path), path));
        sorted.sort_by_key(|(matched, path)| rank(matched, path));
        let expected = [
            PathMatch::Prefix("/foo/bar".into()),
            PathMatch::Exact("/foo".into()),
            PathMatch::Prefix("/lit".into()),
            PathMatch::Prefix("/foo".into()),
            PathMatch::Exact("/".into()),
            PathMatch::Prefix(String::new()),
        ];
        assert_eq!(sorted.map(|(matched, _)| matched), expected);
    }

    #[test]
    fn literal_starts_end_at_the_first_operator() {
        for (path, expected) in [
            ("/a/b(/|$)(.*)", "/a/b"),
            ("/a?", "/"),
            ("/ab*", "/a"),
            ("/a|/b", ""),
            ("/plain", "/plain"),
            ("/a.b", "/a"),
        ] {
            assert_eq!(literal_start(path), expected, "{path}");
        }
    }

    #[test]
    fn expressions_that_do_not_compile_say_why() {
        assert_eq!(check_regex("/x(/|$)(.*)"), Ok(2));
        assert!(check_regex("/x(").unwrap_err().contains("unclosed group"));
        assert!(check_regex("/(?!x)").unwrap_err().contains("look-around"));
        assert!(check_regex("/(a{1000}){1000}").unwrap_err().contains("larger"));
    }
}
