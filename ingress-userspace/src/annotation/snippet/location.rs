//! `location` in a snippet: a place of its own, which answers and asks no backend.

use super::directives::{apply, default_type, is_setting, say_type, says_empty};
use super::flow::Flow;
use super::locals::Locals;
use super::syntax::Directive;
use super::{Access, Reach, Snippet, access};
use crate::annotation::value::text;
use crate::model::policy::answer::{Answer, Condition, Content, Pattern, Test};
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
    let access = access::read(block)?;
    if access != Access::default() && !access.keeps_all_out() {
        return Err("allow or deny of some; it can refuse all, and an annotation can refuse some".to_owned());
    }
    let (locals, mut inner, kind) = (flow.locals(), Snippet::default(), default_type(block)?);
    for directive in block.iter().filter(|directive| is_setting(directive) && !says_empty(directive)) {
        let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
        match (directive.name.as_str(), args.as_slice()) {
            ("access_log", _) | ("auth_basic" | "auth_request", ["off"]) => {}
            _ => apply(&mut inner, directive, &locals).map_err(|reason| named(directive, reason))?,
        }
    }
    if let Some(other) =
        block.iter().find(|directive| ["location", "auth_request_set"].contains(&directive.name.as_str()))
    {
        return Err(named(other, "is not understood".to_owned()));
    }
    let headers = std::mem::take(&mut inner.headers.response);
    if inner != Snippet::default() {
        return Err("what would go to a backend".to_owned());
    }
    if flow.rewrites() {
        return Err("rewrite, which would go to a backend".to_owned());
    }
    // A place without a backend serves files in nginx, of which ingress-nginx has none.
    flow.answer_rest(&Answer::always(if access.keeps_all_out() { 403 } else { 404 }, Content::Page));
    for answer in &mut flow.answers {
        say_type(answer, kind.as_ref());
        answer.headers.extend(headers.iter().cloned());
    }
    Ok(flow.answers)
}
