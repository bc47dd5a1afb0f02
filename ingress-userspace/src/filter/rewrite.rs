//! `rewrite-target`: what the backend sees as path. The query is kept.
//!
//! The expression is matched without case against the normal path, anchored at the start; the path becomes the
//! replacement, whole: without a capture the tail is lost, as in ingress-nginx. Bytes are compared, not characters, as
//! nginx does. Unlike nginx, a result with `.` or `..` elements (`/x../admin` with `/x(.*)` → `/app/$1`) is refused
//! with 400: it would name something that no rule was asked about.

use std::ops::ControlFlow;

use http::uri::PathAndQuery;
use regex::bytes::{Captures, Regex};

use super::{Filter, Outcome, Stop};
use crate::model::policy::Rewrite;
use crate::model::policy::answer::Pattern;
use crate::model::template::{Part, Template, Variable};
use crate::path_regex;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::Request;
use crate::proxy::path::{self, Target};
use crate::proxy::variables::View;

/// A path replacement.
#[derive(Debug)]
pub struct PathRewrite {
    pattern: Regex,
    path: Vec<Piece>,
    query: Option<Vec<Piece>>,
    keeps_groups: bool,
}

/// A part of the replacement.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Capture(usize),
    Variable(Variable),
}

/// Whether what the groups matched is needed after the rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// No other setting names them.
    Unquoted,
    /// Headers do.
    Quoted,
}

/// Why a rewrite cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("the expression {pattern:?} of the rewrite cannot be used: {source}")]
pub struct RewriteError {
    pattern: String,
    source: regex::Error,
}

impl PathRewrite {
    /// From the model; with groups that other settings of the route quote, such as `x-forwarded-prefix`.
    pub fn from_policy(policy: &Rewrite, groups: Groups) -> Result<Self, RewriteError> {
        let pattern = path_regex::compile(&policy.pattern)
            .map_err(|source| RewriteError { pattern: policy.pattern.clone(), source })?;
        let (path, query) = pieces(&policy.replacement);
        Ok(Self { pattern, path, query, keeps_groups: groups == Groups::Quoted })
    }

    /// Of a snippet: the expression is compared as it stands, anywhere in the path.
    pub(super) fn of_snippet(pattern: &Pattern, to: &Template) -> Result<Self, regex::Error> {
        let pattern = path_regex::search_with(&pattern.text, pattern.is_case_sensitive)?;
        let (path, query) = pieces(to);
        Ok(Self { pattern, path, query, keeps_groups: true })
    }

    /// Gives a request its new target; whether the expression matched.
    pub(super) fn rewrite(&self, ctx: &mut RequestCtx, request: &mut Request) -> Result<bool, ProxyError> {
        let Some(captures) = self.pattern.captures(request.head.target.path()) else { return Ok(false) };
        let variable = |name: &Variable| {
            let mut text = String::new();
            View::new(ctx, &request.head).write(name, &mut text);
            text
        };
        let target = self.apply(&request.head.target, &captures, &variable)?;
        if self.keeps_groups {
            let text = |group: Option<regex::bytes::Match<'_>>| {
                group.map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned()).unwrap_or_default()
            };
            ctx.groups = captures.iter().skip(1).map(text).collect();
        }
        request.head.target.forward_as(target);
        Ok(true)
    }

    /// The new target.
    fn apply(
        &self,
        target: &Target,
        captures: &Captures<'_>,
        variable: &dyn Fn(&Variable) -> String,
    ) -> Result<PathAndQuery, ProxyError> {
        let mut path = Vec::new();
        expand(&self.path, captures, variable, false, &mut path);
        if path.first() != Some(&b'/') {
            path.insert(0, b'/');
        }
        if path::has_dot_segment(&path) {
            return Err(ProxyError::RewriteLeavesRoot);
        }
        let mut text = String::with_capacity(path.len() + 16);
        path::encode(&path, &mut text);
        let mut query = Vec::new();
        if let Some(pieces) = &self.query {
            // As nginx: groups of a path without `%` and `+` go into a query as they are.
            let is_quoted = target
                .raw()
                .split('?')
                .next()
                .unwrap_or_default()
                .bytes()
                .any(|byte| byte == b'%' || byte == b'+');
            expand(pieces, captures, variable, is_quoted, &mut query);
        }
        let own = String::from_utf8_lossy(&query);
        // `?` at the end of the replacement drops the query of the request, as nginx does.
        let kept = target.query().filter(|_| self.query.as_ref().is_none_or(|pieces| !pieces.is_empty()));
        let mut separator = '?';
        for part in [Some(&*own), kept].into_iter().flatten().filter(|part| !part.is_empty()) {
            text.push(separator);
            text.push_str(part);
            separator = '&';
        }
        PathAndQuery::try_from(text).map_err(|_invalid| ProxyError::RewriteLeavesRoot)
    }
}

impl Filter for PathRewrite {
    const NAME: &'static str = "rewrite";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        // A snippet that rewrote stands before it and ends rewriting, as nginx's `break` does.
        if !request.head.target.is_rewritten()
            && let Err(error) = self.rewrite(ctx, request)
        {
            return ControlFlow::Break(Stop::Fail(error));
        }
        ControlFlow::Continue(())
    }
}

/// The path, and what stands behind the first `?`.
fn pieces(template: &Template) -> (Vec<Piece>, Option<Vec<Piece>>) {
    let (mut path, mut query) = (Vec::new(), None);
    for part in &template.0 {
        let piece = match part {
            Part::Variable(Variable::Group(number)) => Piece::Capture(usize::from(*number)),
            Part::Variable(variable) => Piece::Variable(variable.clone()),
            Part::Text(text) => match text.split_once('?').filter(|_| query.is_none()) {
                Some((before, after)) => {
                    path.push(Piece::Text(before.into()));
                    // Empty pieces are none, so that a bare `?` is seen.
                    query = Some(if after.is_empty() { Vec::new() } else { vec![Piece::Text(after.into())] });
                    continue;
                }
                None => Piece::Text(text.as_bytes().to_vec()),
            },
        };
        query.as_mut().unwrap_or(&mut path).push(piece);
    }
    (path, query)
}

fn expand(
    pieces: &[Piece],
    captures: &Captures<'_>,
    variable: &dyn Fn(&Variable) -> String,
    quotes_captures: bool,
    into: &mut Vec<u8>,
) {
    for piece in pieces {
        match piece {
            Piece::Variable(name) => into.extend_from_slice(variable(name).as_bytes()),
            Piece::Text(text) => into.extend_from_slice(text),
            Piece::Capture(number) => {
                let text = captures.get(*number).map_or(&[][..], |capture| capture.as_bytes());
                if quotes_captures { quote(text, into) } else { into.extend_from_slice(text) }
            }
        }
    }
}

/// Text as it stands in the value of a query's argument.
fn quote(text: &[u8], into: &mut Vec<u8>) {
    for byte in text {
        let is_plain = byte.is_ascii_graphic() && !b"\"#%&+;<>?".contains(byte);
        if is_plain {
            into.push(*byte);
        } else {
            into.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, replacement: &str, uri: &str, expected: &str) {
        let policy = Rewrite { pattern: pattern.into(), replacement: Template::parse(replacement).unwrap() };
        let rewrite = PathRewrite::from_policy(&policy, Groups::Unquoted).unwrap();
        let target = Target::parse(PathAndQuery::try_from(uri).unwrap()).unwrap();
        let captures = rewrite.pattern.captures(target.path());
        let seen = match captures.map(|captures| rewrite.apply(&target, &captures, &|_| String::new())) {
            Some(Ok(path)) => path.to_string(),
            Some(Err(error)) => format!("error: {}", error.reason()),
            None => "unchanged".to_owned(),
        };
        assert_eq!(seen, expected, "{pattern} → {replacement} on {uri}");
    }

    #[test]
    fn captures_fill_the_replacement_and_the_query_stays() {
        check("/x(/|$)(.*)", "/$2", "/x/a/b?c=d", "/a/b?c=d");
        check("/x(/|$)(.*)", "/$2", "/x", "/");
        check("/x(/|$)(.*)", "/$2", "/X/A", "/A");
        check("/api", "/", "/api/v1/users", "/");
        check("/x/(.*)", "/y?own=1&rest=$1", "/x/z?q=2", "/y?own=1&rest=z&q=2");
        check("/x/(.*)", "/y?", "/x/z?q=2", "/y");
        check("/x/(.*)", "/y?p=$1&z=1", "/x/a%20b%26c", "/y?p=a%20b%26c&z=1");
        check("/x/(.*)", "/y?p=$1&z=1", "/x/a&b=c", "/y?p=a&b=c&z=1");
        check("/other", "/", "/x", "unchanged");
        check("/(a)(b)?", "/$2$1$9", "/a", "/a");
        check("/x(.*)", "$1", "/xyz", "/yz");
    }

    #[test]
    fn what_was_decoded_is_encoded_again() {
        check("/x/(.*)", "/$1", "/x/a%20b%3Fc%23d", "/a%20b%3Fc%23d");
        check("/x/(.*)", "/$1", "/x/%E9%0a", "/%E9%0A");
        check("/x/(.*)", "/$1", "/x/%252e%252e", "/%252e%252e");
    }

    #[test]
    fn a_result_with_dot_elements_is_refused() {
        check("/x(.*)", "/app/$1", "/x../admin", "error: rewrite_leaves_root");
        check("/x(.*)", "/app/$1", "/x./admin", "error: rewrite_leaves_root");
    }
}
