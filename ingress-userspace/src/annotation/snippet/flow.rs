//! `set`, `if`, `return` and `rewrite`, run in advance: a program of nginx's rewrite module becomes answers with conditions.
//!
//! Each `if` that cannot be decided now splits what is known in two. A `return` is an answer under the conditions that led
//! to it. So nothing is left to be run when a request comes.

use super::directives::{self, apply};
use super::locals::Locals;
use super::syntax::Directive;
use super::{Snippet, returns};
use crate::model::policy::answer::{Answer, Condition, Content, Pattern, Test};
use crate::model::policy::headers::HeaderChange;
use crate::path_regex;

/// More ways through a snippet are a mistake or an attack.
const MOST_WAYS: usize = 32;
const MOST_ANSWERS: usize = 256;

/// A way through the directives so far.
#[derive(Clone, Debug, Default)]
struct Way {
    /// What a request must be to take it.
    conditions: Vec<Condition>,
    locals: Locals,
}

/// Directives that were run.
#[derive(Debug)]
pub(super) struct Flow {
    ways: Vec<Way>,
    /// What is known on the ways that have ended, too.
    last: Vec<Locals>,
    pub(super) answers: Vec<Answer>,
}

impl Flow {
    /// Before the first of these directives.
    pub(super) fn new(mut locals: Locals, directives: &[Directive]) -> Self {
        locals.declare(directives);
        Self { ways: vec![Way { conditions: Vec::new(), locals }], last: Vec::new(), answers: Vec::new() }
    }

    /// Whether a directive is one of those that are run.
    pub(super) fn takes(directive: &Directive) -> bool {
        ["set", "if", "return", "rewrite"].contains(&directive.name.as_str())
    }

    /// Runs one.
    pub(super) fn run(&mut self, directive: &Directive) -> Result<(), String> {
        let mut on = Vec::new();
        for way in std::mem::take(&mut self.ways) {
            if directive.name == "if" {
                self.branch(way, directive, &mut on)?;
            } else {
                on.extend(self.step(way, directive, &[])?);
            }
        }
        if on.len() > MOST_WAYS || self.answers.len() > MOST_ANSWERS {
            return Err("leads to more cases than are looked at".to_owned());
        }
        self.ways = on;
        Ok(())
    }

    /// What the variables stand for where headers are set: at the end, on whichever way.
    pub(super) fn locals(&self) -> Locals {
        let all = self.ways.iter().map(|way| &way.locals).chain(&self.last);
        Locals::agreed(all).unwrap_or_default()
    }

    /// Whether a path is changed for the backend.
    pub(super) fn rewrites(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer.content, Content::Onward { .. }))
    }

    /// What is answered at the end of every way that goes on.
    pub(super) fn answer_rest(&mut self, answer: &Answer) {
        for way in std::mem::take(&mut self.ways) {
            let mut answer = answer.clone();
            answer.conditions.splice(..0, way.conditions);
            self.answers.push(answer);
        }
    }

    /// `set`, `return` or `rewrite`; the way, if it goes on.
    fn step(
        &mut self,
        mut way: Way,
        directive: &Directive,
        headers: &[HeaderChange],
    ) -> Result<Option<Way>, String> {
        if directive.block.is_some() {
            return Err("has braces, which is not understood".to_owned());
        }
        let args: Vec<String> = directive.args.iter().map(|arg| way.locals.fill(arg)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut answer = match directive.name.as_str() {
            "set" => {
                way.locals.set(&directive.args)?;
                return Ok(Some(way));
            }
            "return" => returns::answer(&args)?,
            _ => returns::rewrite(&args)?,
        };
        if matches!(answer.content, Content::Onward { .. }) && !headers.is_empty() {
            return Err("goes on to the backend beside a header in the same braces, which is not understood"
                .to_owned());
        }
        let is_certain = answer.conditions.is_empty() && !matches!(answer.content, Content::Onward { .. });
        answer.conditions.splice(..0, way.conditions.iter().cloned());
        answer.headers.extend_from_slice(headers);
        self.answers.push(answer);
        if is_certain {
            self.last.push(way.locals);
            return Ok(None);
        }
        Ok(Some(way))
    }

    /// `if (…) { … }`.
    fn branch(&mut self, way: Way, directive: &Directive, on: &mut Vec<Way>) -> Result<(), String> {
        let block = directive.block.as_deref().ok_or("has no condition, or no braces")?;
        let condition = returns::condition(&directive.args, |text| way.locals.fill(text))?;
        if let Some(subject) = condition.subject.as_text() {
            // Only variables of the snippet, whose values are known here.
            return match holds(&condition.test, subject)? {
                true => {
                    on.extend(self.block(way, block)?);
                    Ok(())
                }
                false => {
                    on.push(way);
                    Ok(())
                }
            };
        }
        let mut taken = way.clone();
        taken.conditions.push(condition.clone());
        let taken = self.block(taken, block)?;
        let mut passed = way;
        if let Some(taken) = taken {
            if taken.locals == passed.locals {
                // Nothing came of it but answers, which stand before what follows.
                on.push(passed);
                return Ok(());
            }
            passed.conditions.push(condition.negated());
            on.push(taken);
        }
        on.push(passed);
        Ok(())
    }

    /// What stands in the braces; the way, if it goes on behind them.
    fn block(&mut self, mut way: Way, block: &[Directive]) -> Result<Option<Way>, String> {
        let holds =
            |directive: &Directive, reason: String| format!("holds {}, which {reason}", directive.name);
        let mut inner = Snippet::default();
        for directive in
            block.iter().filter(|directive| !Self::takes(directive) && !directives::says_empty(directive))
        {
            apply(&mut inner, directive, &way.locals).map_err(|reason| holds(directive, reason))?;
        }
        let Snippet { headers, cookie_path, cookie_domain, upstream_tls, .. } = inner;
        let is_plain = headers.request.is_empty()
            && cookie_path.is_none()
            && cookie_domain.is_none()
            && upstream_tls.is_none();
        let answers = block.iter().any(|directive| ["return", "rewrite"].contains(&directive.name.as_str()));
        if !is_plain || (!headers.response.is_empty() && !answers) {
            return Err("holds something else than headers and one return or redirect, or set, which is not understood"
                .to_owned());
        }
        for directive in block.iter().filter(|directive| Self::takes(directive)) {
            if directive.name == "if" {
                return Err("holds another if, which is not understood".to_owned());
            }
            match self.step(way, directive, &headers.response).map_err(|reason| holds(directive, reason))? {
                Some(on) => way = on,
                None => return Ok(None),
            }
        }
        Ok(Some(way))
    }
}

/// Whether a test holds for a text that is known.
fn holds(test: &Test, subject: &str) -> Result<bool, String> {
    let matches = |pattern: &Pattern| {
        path_regex::search_with(&pattern.text, pattern.is_case_sensitive)
            .map(|regex| regex.is_match(subject.as_bytes()))
            .map_err(|_invalid| directives::bad_expression(&pattern.text))
    };
    let is_set = !subject.is_empty() && subject != "0";
    Ok(match test {
        Test::Equals(text) => subject == text,
        Test::Differs(text) => subject != text,
        Test::Matches(pattern) => matches(pattern)?,
        Test::MatchesNot(pattern) => !matches(pattern)?,
        Test::IsSet => is_set,
        Test::IsUnset => !is_set,
    })
}

#[cfg(test)]
mod tests {
    use super::super::directives::read;
    use crate::model::policy::answer::{Condition, Test};

    /// Status and conditions of each answer.
    fn answers(text: &str) -> Vec<(u16, Vec<String>)> {
        let show = |Condition { subject, test }: &Condition| match test {
            Test::Equals(text) => format!("{subject} = {text}"),
            Test::Differs(text) => format!("{subject} != {text}"),
            Test::Matches(pattern) => format!("{subject} ~ {}", pattern.text),
            Test::MatchesNot(pattern) => format!("{subject} !~ {}", pattern.text),
            Test::IsSet => format!("{subject}"),
            Test::IsUnset => format!("not {subject}"),
        };
        let snippet = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let answers = snippet.answers.iter();
        answers.map(|answer| (answer.status, answer.conditions.iter().map(show).collect())).collect()
    }

    #[test]
    fn flags_become_conditions() {
        let agent = "${http_user_agent}";
        let text = "set $mobile 0; if ($http_user_agent ~* \"(Mobile)\") { set $mobile 1; }\n\
                    if ( $mobile = 1 ) { return 301 https://m.example.com; } return 404;";
        assert_eq!(
            answers(text),
            [(301, vec![format!("{agent} ~ (Mobile)")]), (404, vec![format!("{agent} !~ (Mobile)")])]
        );
        let text = "if ($request_uri ~* \"(actuator|prometheus)\") { set $block 1; }\n\
                    if ($remote_addr ~ \"^10\\.\") { set $block 0; } if ($block = 1) { return 403; }";
        let expected =
            vec!["${request_uri} ~ (actuator|prometheus)".to_owned(), "${remote_addr} !~ ^10\\.".to_owned()];
        assert!(answers(text).contains(&(403, expected)), "{:?}", answers(text));
    }

    #[test]
    fn what_is_known_is_decided_at_once() {
        assert_eq!(answers("set $a x; if ($a = y) { return 400; } if ($a ~ X) { return 401; }"), []);
        assert_eq!(answers("set $a 1; if ($a) { return 410; } return 404;"), [(410, vec![])]);
        assert_eq!(
            answers("set $to $http_x; if ($to != a) { return 403; }"),
            [(403, vec!["${http_x} != a".to_owned()])]
        );
        assert_eq!(answers("return 403; if ($arg_a) { return 200; }"), [(403, vec![])]);
    }

    #[test]
    fn ways_are_counted_and_groups_not_kept() {
        let many: String = (0..12).map(|n| format!("if ($arg_a{n}) {{ set $f{n} 1; }}")).collect();
        for text in [many.as_str(), "if ($uri ~ (a)) { set $x $1; }", "set $uri /x;", "set x 1;"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
