//! Answers that need no backend: `permanent-redirect`, `temporal-redirect`, `app-root`, `from-to-www-redirect`, an URL as
//! `rewrite-target`, and `return` and `rewrite` of `configuration-snippet`; one that does not redirect changes the path for
//! the backend, in its turn.
//!
//! As in nginx they are given before limits, source lists and authentication. A value with a line break in it, which a
//! variable may bring, is refused with 400 instead of becoming a header of its own.

use std::ops::ControlFlow;

use http::{HeaderValue, StatusCode, header};
use regex::bytes::{Captures, Regex};

use super::headers::{HeaderChanges, HeadersError};
use super::rewrite::PathRewrite;
use super::{Filter, Outcome, Stop, redirect};
use crate::model::policy::answer::{self, LocationForm};
use crate::model::policy::headers::Headers;
use crate::model::template::{Part, Template, Variable};
use crate::path_regex;
use crate::proxy::body::Body;
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::head::{Request, Response};
use crate::proxy::variables::View;

/// The answers of a route, in their order.
#[derive(Debug)]
pub struct Answers(Vec<Answer>);

#[derive(Debug)]
struct Answer {
    conditions: Vec<Condition>,
    status: StatusCode,
    content: Content,
    headers: Option<HeaderChanges>,
}

/// A comparison of something in the request.
#[derive(Debug)]
pub(super) struct Condition {
    subject: Template,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Equals(Box<str>),
    Differs(Box<str>),
    Matches(Regex),
    MatchesNot(Regex),
    IsSet,
    IsUnset,
}

#[derive(Debug)]
enum Content {
    Page,
    Text(Template),
    Location { to: Template, keeps_query: bool, form: LocationForm },
    Host(Box<str>),
    Onward(Box<PathRewrite>),
}

/// Why an answer cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No such status.
    #[error("{0} is not a status that can be answered")]
    Status(u16),
    /// The condition's expression.
    #[error("the expression {0:?} of an answer cannot be used: {1}")]
    Regex(String, regex::Error),
    /// A header of it.
    #[error(transparent)]
    Header(#[from] HeadersError),
}

impl Answers {
    /// From the model; `None`: there is none.
    pub fn from_policy(policy: &[answer::Answer]) -> Result<Option<Self>, AnswerError> {
        let answers: Vec<Answer> = policy.iter().map(Answer::new).collect::<Result<_, _>>()?;
        Ok((!answers.is_empty()).then_some(Self(answers)))
    }

    /// Whether they lead to or from `www.`.
    pub fn leads_to_name(&self) -> bool {
        self.0.iter().any(|answer| matches!(answer.content, Content::Host(_)))
    }
}

impl Answer {
    fn new(policy: &answer::Answer) -> Result<Self, AnswerError> {
        let answer::Answer { conditions, status, content, headers } = policy;
        let status = StatusCode::from_u16(*status)
            .ok()
            .filter(|status| (200..=599).contains(&status.as_u16()))
            .ok_or(AnswerError::Status(*status))?;
        let content = match content {
            answer::Content::Page => Content::Page,
            answer::Content::Text(text) => Content::Text(text.clone()),
            answer::Content::Location { to, keeps_query, form } => {
                Content::Location { to: to.clone(), keeps_query: *keeps_query, form: *form }
            }
            answer::Content::Host(name) => Content::Host(name.as_str().into()),
            answer::Content::Onward { pattern, to } => Content::Onward(Box::new(
                PathRewrite::of_snippet(pattern, to)
                    .map_err(|error| AnswerError::Regex(pattern.text.clone(), error))?,
            )),
        };
        let conditions = Condition::from_policy(conditions)?;
        let headers = Headers { request: Vec::new(), response: headers.clone() };
        Ok(Self { conditions, status, content, headers: HeaderChanges::from_policy(&headers)? })
    }

    fn respond(&self, view: &View<'_>, captures: Option<&Captures<'_>>) -> Result<Response, ProxyError> {
        let mut response = self.content(view, captures)?;
        if let Some(headers) = &self.headers {
            headers.change(view.ctx, Some(view.head), &mut response);
        }
        Ok(response)
    }

    fn content(&self, view: &View<'_>, captures: Option<&Captures<'_>>) -> Result<Response, ProxyError> {
        let expand = |template: &Template| expand(view, template, captures);
        let location = match &self.content {
            Content::Page | Content::Onward(_) => return Ok(Response::text(self.status)),
            Content::Text(text) => {
                let mut response = Response::text(self.status);
                response.head.headers.set(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
                response.body = Body::full(expand(text));
                return Ok(response);
            }
            Content::Location { to, keeps_query, form } => {
                let mut location = expand(to);
                if location.starts_with('/') {
                    location = redirect::absolute(view.ctx, view.head, &location, *form);
                }
                if *keeps_query && location.ends_with('?') {
                    // `?` at the end drops the query, as nginx does.
                    location.pop();
                } else if let Some(query) = view.head.target.query().filter(|_| *keeps_query) {
                    location.push(if location.contains('?') { '&' } else { '?' });
                    location.push_str(query);
                }
                location
            }
            Content::Host(name) => {
                let (scheme, port) = (view.ctx.peer.scheme.name(), &view.ctx.peer.port_value);
                let uri = view.head.target.raw();
                let uri = uri.strip_suffix('/').unwrap_or(uri);
                format!("{scheme}://{name}:{}{uri}", port.to_str().unwrap_or_default())
            }
        };
        let mut response = Response::text(self.status);
        let location = HeaderValue::try_from(location).map_err(|_invalid| ProxyError::LocationInvalid)?;
        response.head.headers.set(header::LOCATION, location);
        Ok(response)
    }
}

impl Condition {
    /// All from the model.
    pub(super) fn from_policy(policy: &[answer::Condition]) -> Result<Vec<Self>, AnswerError> {
        policy.iter().map(Self::new).collect()
    }

    /// Whether it is so.
    pub(super) fn holds(&self, view: &View<'_>) -> bool {
        self.test.holds(&view.expand(&self.subject), &mut None)
    }

    fn new(policy: &answer::Condition) -> Result<Self, AnswerError> {
        let compile = |pattern: &answer::Pattern| {
            path_regex::search_with(&pattern.text, pattern.is_case_sensitive)
                .map_err(|error| AnswerError::Regex(pattern.text.clone(), error))
        };
        let test = match &policy.test {
            answer::Test::Equals(text) => Test::Equals(text.as_str().into()),
            answer::Test::Differs(text) => Test::Differs(text.as_str().into()),
            answer::Test::Matches(pattern) => Test::Matches(compile(pattern)?),
            answer::Test::MatchesNot(pattern) => Test::MatchesNot(compile(pattern)?),
            answer::Test::IsSet => Test::IsSet,
            answer::Test::IsUnset => Test::IsUnset,
        };
        Ok(Self { subject: policy.subject.clone(), test })
    }
}

impl Test {
    /// Leaves the groups of an expression in `captures`.
    fn holds<'s>(&self, subject: &'s str, captures: &mut Option<Captures<'s>>) -> bool {
        match self {
            Self::Equals(text) => subject == &**text,
            Self::Differs(text) => subject != &**text,
            Self::Matches(regex) => match regex.captures(subject.as_bytes()) {
                Some(found) => {
                    *captures = Some(found);
                    true
                }
                None => false,
            },
            Self::MatchesNot(regex) => !regex.is_match(subject.as_bytes()),
            Self::IsSet => !subject.is_empty() && subject != "0",
            Self::IsUnset => subject.is_empty() || subject == "0",
        }
    }
}

impl Filter for Answers {
    const NAME: &'static str = "answer";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        for answer in &self.0 {
            let view = View::new(ctx, &request.head);
            let subjects: Vec<String> =
                answer.conditions.iter().map(|condition| view.expand(&condition.subject)).collect();
            let mut captures = None;
            let mut all = answer.conditions.iter().zip(&subjects);
            if !all.all(|(condition, subject)| condition.test.holds(subject, &mut captures)) {
                continue;
            }
            if let Content::Onward(rewrite) = &answer.content {
                match rewrite.rewrite(ctx, request) {
                    Ok(true) => break,
                    Ok(false) => continue,
                    Err(error) => return ControlFlow::Break(Stop::Fail(error)),
                }
            }
            return ControlFlow::Break(match answer.respond(&view, captures.as_ref()) {
                Ok(response) => Stop::Respond(response),
                Err(error) => Stop::Fail(error),
            });
        }
        ControlFlow::Continue(())
    }
}

/// The text of a template whose groups are those of a match.
pub(super) fn expand(view: &View<'_>, template: &Template, captures: Option<&Captures<'_>>) -> String {
    let Some(captures) = captures else { return view.expand(template) };
    let mut out = String::new();
    for part in &template.0 {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Variable(Variable::Group(number)) => {
                let group = captures.get(usize::from(*number)).map_or(&[][..], |group| group.as_bytes());
                out.push_str(&String::from_utf8_lossy(group));
            }
            Part::Variable(variable) => view.write(variable, &mut out),
        }
    }
    out
}
