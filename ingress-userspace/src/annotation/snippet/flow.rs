//! `set`, `if`, `return` and `rewrite`, run in advance: a program of nginx's rewrite module becomes answers with conditions.
//!
//! Each `if` that cannot be decided now splits what is known in two. A `return` is an answer under the conditions that led
//! to it. Headers in an `if` are those of the last one that was taken, as in nginx, where each `if` is a place of its own.
//! So nothing is left to be run when a request comes.

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
    /// What a request must be, too, not to have ended before: an answer before it stands for these.
    passed: Vec<Condition>,
    locals: Locals,
    /// What the last `if` on it changes in the response.
    headers: Vec<HeaderChange>,
}

impl Way {
    /// Its header changes, for requests on it for which this holds as well.
    fn changes(&self, more: &[Condition]) -> impl Iterator<Item = HeaderChange> {
        let conditions = [&self.conditions[..], &self.passed, more].concat();
        self.headers.iter().map(move |change| {
            let mut change = change.clone();
            change.when.conditions.clone_from(&conditions);
            change
        })
    }
}

/// Directives that were run.
#[derive(Debug)]
pub(super) struct Flow {
    ways: Vec<Way>,
    /// What is known on the ways that have ended, too.
    last: Vec<Locals>,
    /// Header changes of requests that went on to a backend before the end.
    left: Vec<HeaderChange>,
    /// There are headers in an `if`, so that it matters which one was the last.
    has_headers: bool,
    /// Requests go on to a backend at the end.
    is_towards_backend: bool,
    pub(super) answers: Vec<Answer>,
}

impl Flow {
    /// Before the first of these directives.
    pub(super) fn new(mut locals: Locals, directives: &[Directive]) -> Self {
        locals.declare(directives);
        let mut blocks = directives.iter().filter(|directive| directive.name == "if");
        // Behind a `return` nothing follows them.
        let keeps_headers = |directive: &Directive| {
            let block = directive.block.as_deref().unwrap_or_default();
            block.iter().any(|inner| !Self::takes(inner)) && !block.iter().any(|inner| inner.name == "return")
        };
        Self {
            ways: vec![Way { locals, ..Way::default() }],
            last: Vec::new(),
            left: Vec::new(),
            has_headers: blocks.any(keeps_headers),
            is_towards_backend: false,
            answers: Vec::new(),
        }
    }

    /// What goes on reaches a backend.
    pub(super) fn towards_backend(self) -> Self {
        Self { is_towards_backend: true, ..self }
    }

    /// What the `if`s change in responses of the backend.
    pub(super) fn headers(&self) -> Vec<HeaderChange> {
        let at_the_end = self.ways.iter().flat_map(|way| way.changes(&[]));
        self.left.iter().cloned().chain(at_the_end).collect()
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
                on.extend(self.step(way, directive)?);
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
            answer.headers.extend(way.headers);
            self.answers.push(answer);
        }
    }

    /// `set`, `return` or `rewrite`; the way, if it goes on.
    fn step(&mut self, mut way: Way, directive: &Directive) -> Result<Option<Way>, String> {
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
        let is_certain = answer.conditions.is_empty() && !matches!(answer.content, Content::Onward { .. });
        match &answer.content {
            Content::Onward { pattern, .. } => {
                let matches = returns::matches_path(pattern.clone());
                self.left.extend(way.changes(std::slice::from_ref(&matches)));
                way.passed.push(matches.negated());
            }
            _ => {
                answer.headers.extend_from_slice(&way.headers);
                way.passed.extend(answer.conditions.first().map(Condition::negated));
            }
        }
        answer.conditions.splice(..0, way.conditions.iter().cloned());
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
            let is_same = taken.headers == passed.headers && taken.passed == passed.passed;
            if taken.locals == passed.locals && (is_same || !self.has_headers) {
                // Nothing came of it but answers, which stand before what follows.
                on.push(passed);
                return Ok(());
            }
            passed.conditions.push(condition.negated());
            on.push(taken);
        } else {
            passed.passed.push(condition.negated());
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
        let headers = std::mem::take(&mut inner.headers.response);
        let answers = block.iter().any(|directive| ["return", "rewrite"].contains(&directive.name.as_str()));
        if inner != Snippet::default() || (!headers.is_empty() && !answers && !self.is_towards_backend) {
            return Err("holds something else than headers and one return or redirect, or set, which is not understood"
                .to_owned());
        }
        // What an `if` before it says does not hold in this one.
        way.headers = headers;
        for directive in block.iter().filter(|directive| Self::takes(directive)) {
            if directive.name == "if" {
                return Err("holds another if, which is not understood".to_owned());
            }
            match self.step(way, directive).map_err(|reason| holds(directive, reason))? {
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

    /// The names of header changes, with their conditions.
    fn changes(text: &str) -> Vec<(String, usize)> {
        let snippet = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let changes = snippet.headers.response.iter();
        changes.map(|change| (change.name.clone(), change.when.conditions.len())).collect()
    }

    #[test]
    fn headers_in_an_if_are_those_of_the_last_one_that_is_taken() {
        let named = |names: &[(&str, usize)]| -> Vec<(String, usize)> {
            names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let text = "add_header X-A a; if ($http_origin ~ x) { add_header X-B b; }";
        assert_eq!(changes(text), named(&[("x-a", 0), ("x-b", 1)]));
        // With both it is the last: the first needs that the second is not.
        let text = "if ($host = a) { add_header X-A a; } if ($arg_b) { add_header X-B b; }";
        assert_eq!(changes(text), named(&[("x-b", 2), ("x-a", 2), ("x-b", 2)]));
        // A rewrite that breaks ends the search with the headers so far.
        let text = "if ($host = a) { add_header X-A a; rewrite ^/a /b break; } if ($arg_b) { set $x 1; }";
        assert_eq!(changes(text), named(&[("x-a", 2), ("x-a", 3)]));
        // An answer has the headers of the condition that it stands in, or of the one before.
        let snippet =
            read("if ($host = a) { add_header X-A a; } if ($arg_b) { return 403; } return 404;").unwrap();
        let shown: Vec<_> =
            snippet.answers.iter().map(|answer| (answer.status, answer.headers.len())).collect();
        assert_eq!(shown, [(403, 0), (403, 0), (404, 1), (404, 0)]);
    }

    #[test]
    fn ways_are_counted_and_groups_not_kept() {
        let many: String = (0..12).map(|n| format!("if ($arg_a{n}) {{ set $f{n} 1; }}")).collect();
        for text in [many.as_str(), "if ($uri ~ (a)) { set $x $1; }", "set $uri /x;", "set x 1;"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
