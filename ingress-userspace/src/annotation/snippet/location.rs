//! `location` in a snippet: a place of its own, which answers and asks no backend.

use super::directives::{apply, is_setting, says_empty};
use super::flow::Flow;
use super::locals::Locals;
use super::syntax::Directive;
use super::{Reach, Snippet};
use crate::annotation::value::text;
use crate::model::policy::answer::{Answer, Condition, Content, Pattern, Test};
use crate::model::policy::headers::{HeaderAction, HeaderChange, When};
use crate::model::template::{Part, Template, Variable};

/// A place, and what it answers.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) reach: Reach,
    pub(super) answers: Vec<Answer>,
}

/// Reads one.
pub(super) fn read(directive: &Directive, locals: &Locals) -> Result<Place, String> {
    let block = directive.block.as_deref().ok_or("has no braces")?;
    let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
    let (reach, test) = match args.as_slice() {
        ["=", path] => (Reach::Exact, Test::Equals(literal(path)?)),
        ["~", regex] => (Reach::Expression, Test::Matches(text::pattern(regex, true)?)),
        ["~*", regex] => (Reach::Expression, Test::Matches(text::pattern(regex, false)?)),
        ["^~", path] => (Reach::Prefix { path: literal(path)?, is_first: true }, begins(path)),
        [path] => (Reach::Prefix { path: literal(path)?, is_first: false }, begins(path)),
        _ => return Err("is of a form that is not understood".to_owned()),
    };
    let here = Condition { subject: Template(vec![Part::Variable(Variable::Uri)]), test };
    let mut answers = inside(block, locals).map_err(|reason| {
        format!("{} holds {reason}; a location in a snippet can answer, redirect and refuse", args.join(" "))
    })?;
    for answer in &mut answers {
        answer.conditions.insert(0, here.clone());
    }
    Ok(Place { reach, answers })
}

/// In the order in which nginx looks: exact ones, those that end the search, expressions as they stand, then the longest.
pub(super) fn sort(places: &mut [Place]) {
    places.sort_by_key(|place| match &place.reach {
        Reach::Everything => (0, 0),
        Reach::Exact => (1, 0),
        Reach::Prefix { path, is_first: true } => (2, usize::MAX - path.len()),
        Reach::Expression => (3, 0),
        Reach::Prefix { path, is_first: false } => (4, usize::MAX - path.len()),
    });
}

fn literal(path: &str) -> Result<String, String> {
    if !path.starts_with('/') || path.contains('$') {
        return Err(format!("is for {path:?}, which is not understood; write a path that begins with /"));
    }
    Ok(path.to_owned())
}

fn begins(path: &str) -> Test {
    Test::Matches(Pattern { text: format!("^{}", regex::escape(path)), is_case_sensitive: true })
}

fn inside(block: &[Directive], locals: &Locals) -> Result<Vec<Answer>, String> {
    let named = |directive: &Directive, reason: String| format!("{}, which {reason}", directive.name);
    let mut flow = Flow::new(locals.clone(), block);
    for directive in block.iter().filter(|directive| Flow::takes(directive)) {
        flow.run(directive).map_err(|reason| named(directive, reason))?;
    }
    let (locals, mut inner, mut refuses) = (flow.locals(), Snippet::default(), false);
    let mut media = None;
    for directive in block.iter().filter(|directive| is_setting(directive) && !says_empty(directive)) {
        let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
        match (directive.name.as_str(), args.as_slice()) {
            ("deny", ["all"]) => refuses = true,
            ("allow", ["all"]) | ("access_log", _) | ("auth_basic" | "auth_request", ["off"]) => {}
            ("default_type", [kind]) => media = Some(text::template(kind)?),
            _ => apply(&mut inner, directive, &locals).map_err(|reason| named(directive, reason))?,
        }
    }
    if let Some(other) =
        block.iter().find(|directive| ["location", "auth_request_set"].contains(&directive.name.as_str()))
    {
        return Err(named(other, "is not understood".to_owned()));
    }
    let is_plain = inner.headers.request.is_empty()
        && inner.cookie_path.is_none()
        && inner.cookie_domain.is_none()
        && inner.upstream_tls.is_none();
    if !is_plain {
        return Err("what would go to a backend".to_owned());
    }
    if flow.rewrites() {
        return Err("rewrite, which would go to a backend".to_owned());
    }
    // A place without a backend serves files in nginx, of which ingress-nginx has none.
    flow.answer_rest(&Answer::always(if refuses { 403 } else { 404 }, Content::Page));
    let kind = media.map(|kind| HeaderChange {
        name: "content-type".to_owned(),
        action: HeaderAction::Set(kind),
        when: When::default(),
    });
    for answer in &mut flow.answers {
        answer.headers.splice(..0, kind.iter().cloned());
        answer.headers.extend(inner.headers.response.iter().cloned());
    }
    Ok(flow.answers)
}
