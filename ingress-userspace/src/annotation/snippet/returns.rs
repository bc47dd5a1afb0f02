//! `return`, `rewrite` and the condition of `if`: when the proxy answers by itself, and what.

use crate::annotation::value::{self, text};
use crate::model::policy::answer::{Answer, Condition, Content, LocationForm, Pattern, Test};
use crate::model::template::{Part, Template, Variable};

/// `return CODE [text|URL]` or `return URL`.
pub(super) fn answer(args: &[&str]) -> Result<Answer, String> {
    let is_url = |text: &str| ["http://", "https://", "$scheme"].iter().any(|start| text.starts_with(start));
    let (status, content) = match args {
        [url] if is_url(url) => (302, location(url)?),
        [code] => (
            value::status::<200, 599>(code).map_err(|reason| format!("has {code:?}, which {reason}"))?,
            Content::Page,
        ),
        [code, rest] => {
            let status =
                value::status::<200, 599>(code).map_err(|reason| format!("has {code:?}, which {reason}"))?;
            let content = match status {
                301 | 302 | 303 | 307 | 308 => location(rest)?,
                _ => Content::Text(texts(rest)?),
            };
            (status, content)
        }
        _ => return Err("is neither a status with a text nor a URL".to_owned()),
    };
    Ok(Answer::always(status, content))
}

/// The text of an answer may have lines.
fn texts(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|unknown| format!("names ${}, which is no known variable", unknown.0))
}

fn location(url: &str) -> Result<Content, String> {
    Ok(Content::Location { to: text::template(url)?, keeps_query: false, form: LocationForm::Host })
}

/// `rewrite REGEX TO [redirect|permanent|break]`, where it redirects, or stays at its path.
pub(super) fn rewrite(args: &[&str]) -> Result<Answer, String> {
    let (regex, to, flag) = match args {
        [regex, to] => (regex, to, ""),
        [regex, to, flag] => (regex, to, *flag),
        _ => return Err("needs an expression and what replaces it".to_owned()),
    };
    let target = text::template(to)?;
    let status = match flag {
        "permanent" => 301,
        "redirect" => 302,
        _ if text::is_url(&target) => 302,
        "break" => return onward(regex, target),
        _ => {
            return Err("neither redirects nor ends with break; write break behind it in configuration-snippet, or use \
                        the annotation rewrite-target"
                .to_owned());
        }
    };
    let condition = matches_path(text::pattern(regex, true)?);
    let content = Content::Location { to: target, keeps_query: true, form: LocationForm::Host };
    Ok(Answer { conditions: vec![condition], ..Answer::always(status, content) })
}

/// The path matches.
pub(super) fn matches_path(pattern: Pattern) -> Condition {
    Condition { subject: Template(vec![Part::Variable(Variable::Uri)]), test: Test::Matches(pattern) }
}

/// `rewrite REGEX PATH break`: the same path of the Ingress, with another one for the backend.
fn onward(regex: &str, to: Template) -> Result<Answer, String> {
    if !matches!(to.0.first(), Some(Part::Text(text)) if text.starts_with('/')) {
        return Err(format!("leads to {to}, which does not begin with /"));
    }
    Ok(Answer::always(200, Content::Onward { pattern: text::pattern(regex, true)?, to }))
}

/// The condition of `if ($variable = text)`, with the comparisons `=`, `!=`, `~`, `~*`, `!~`, `!~*`, or none.
pub(super) fn condition(args: &[String], fill: impl Fn(&str) -> String) -> Result<Condition, String> {
    // The parentheses are words, or parts of them.
    let mut words = args.to_vec();
    let Some(first) = words.first_mut() else { return Err("has no condition".to_owned()) };
    *first = first.strip_prefix('(').ok_or("has no condition in parentheses")?.to_owned();
    let Some(last) = words.last_mut() else { return Err("has no condition".to_owned()) };
    *last = last.strip_suffix(')').ok_or("has no condition in parentheses")?.to_owned();
    words.retain(|word| !word.is_empty());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (subject, test) = match words.as_slice() {
        [subject] => (subject, Test::IsSet),
        [subject, "=", other] => (subject, Test::Equals(plain(&fill(other))?)),
        [subject, "!=", other] => (subject, Test::Differs(plain(&fill(other))?)),
        [subject, "~", regex] => (subject, Test::Matches(text::pattern(regex, true)?)),
        [subject, "~*", regex] => (subject, Test::Matches(text::pattern(regex, false)?)),
        [subject, "!~", regex] => (subject, Test::MatchesNot(text::pattern(regex, true)?)),
        [subject, "!~*", regex] => (subject, Test::MatchesNot(text::pattern(regex, false)?)),
        // `= ""` has lost its empty word.
        [subject, "="] => (subject, Test::Equals(String::new())),
        [subject, "!="] => (subject, Test::Differs(String::new())),
        _ => return Err("compares in a way that is not understood; use =, !=, ~ or ~*".to_owned()),
    };
    if !subject.starts_with('$') {
        return Err(format!("compares {subject:?}, which is no variable"));
    }
    Ok(Condition { subject: text::template(&fill(subject))?, test })
}

fn plain(text: &str) -> Result<String, String> {
    if text.contains('$') { Err(format!("compares with the variable {text}")) } else { Ok(text.to_owned()) }
}
