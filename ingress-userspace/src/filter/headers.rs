//! Changes of header fields: `custom-headers`, `upstream-vhost`, `x-forwarded-prefix`, `connection-proxy-header`, the header
//! directives of `configuration-snippet`, and of the whole cluster `proxy-set-headers`, `add-headers`, `hide-headers`, `hsts`.
//!
//! The changes of the whole cluster come first, so that those of a route win. What goes upstream is changed after all that
//! the proxy itself sets. A value that a header cannot carry (a line break out of a variable) leaves its field out.

use std::ops::ControlFlow;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use super::answer::{Answers, Condition};
use super::{Filter, Outcome};
use crate::model::global::ServerField;
use crate::model::policy::headers;
use crate::model::template::Template;
use crate::proxy::context::{RequestCtx, Scheme};
use crate::proxy::head::{Request, RequestHead, Response};
use crate::proxy::variables::View;

/// `Server`, where it is asked for.
const SERVER: &str = concat!("portcullis/", env!("CARGO_PKG_VERSION"));

/// Changes, in their order.
#[derive(Debug)]
pub struct HeaderChanges {
    request: Vec<Change>,
    response: Vec<Change>,
    /// A response quotes the request.
    pub quotes_request: bool,
}

#[derive(Debug)]
struct Change {
    target: Target,
    kind: Kind,
    value: Value,
    statuses: Vec<StatusCode>,
    types: Vec<String>,
    is_from_backend: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug)]
enum Target {
    Field(HeaderName),
    Prefix(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Set,
    Replace,
    Add,
    Remove,
}

#[derive(Debug)]
enum Value {
    Nothing,
    Fixed(HeaderValue),
    Template(Template),
    /// Seconds from now.
    Date(i64),
}

/// Why changes cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// Not the name of a field.
    #[error("{0:?} is not the name of a header")]
    Name(String),
    /// Not a value.
    #[error("the value of header {0} cannot be sent")]
    Value(String),
    /// The condition of a change.
    #[error("the condition of header {0} cannot be used: {1}")]
    Condition(String, String),
}

/// Fields for a request that goes upstream, expanded while its head is there.
pub type Lines = Vec<(HeaderName, bool, Option<HeaderValue>)>;

impl HeaderChanges {
    /// From the model; `None`: there is none.
    pub fn from_policy(policy: &headers::Headers) -> Result<Option<Self>, HeadersError> {
        if policy.is_empty() {
            return Ok(None);
        }
        let request: Vec<Change> = policy.request.iter().map(Change::new).collect::<Result<_, _>>()?;
        let response: Vec<Change> = policy.response.iter().map(Change::new).collect::<Result<_, _>>()?;
        let quotes_request = response
            .iter()
            .any(|change| matches!(change.value, Value::Template(_)) || !change.conditions.is_empty());
        Ok(Some(Self { request, response, quotes_request }))
    }

    /// What goes upstream.
    pub fn lines(&self, ctx: &RequestCtx, head: &RequestHead, into: &mut Lines) {
        let view = View::new(ctx, head);
        for change in &self.request {
            match &change.target {
                Target::Field(name) if change.kind != Kind::Replace || head.headers.get(name).is_some() => {
                    into.push((name.clone(), change.kind == Kind::Add, change.value(Some(&view))));
                }
                Target::Field(_) => {}
                Target::Prefix(prefix) => {
                    let names = head.headers.iter().map(|(name, _)| name);
                    let found = names.filter(|name| name.as_str().starts_with(&**prefix));
                    into.extend(found.map(|name| (name.clone(), false, None)));
                }
            }
        }
    }

    /// Changes a response; `head` is the request that it may quote.
    pub fn change(&self, ctx: &RequestCtx, head: Option<&RequestHead>, response: &mut Response) {
        for change in &self.response {
            if !change.holds(ctx, response) {
                continue;
            }
            let view = head.map(|head| View { ctx, head, response: Some(&response.head) });
            let applies = |view: &View<'_>| change.conditions.iter().all(|condition| condition.holds(view));
            if !change.conditions.is_empty() && !view.as_ref().is_some_and(applies) {
                continue;
            }
            let value = change.value(view.as_ref());
            let fields = &mut response.head.headers;
            match (&change.target, change.kind, value) {
                (Target::Prefix(prefix), ..) => {
                    let starts = |name: &&HeaderName| name.as_str().starts_with(&**prefix);
                    let names: Vec<HeaderName> =
                        fields.iter().map(|(name, _)| name).filter(starts).cloned().collect();
                    names.iter().for_each(|name| drop(fields.remove(name)));
                }
                (Target::Field(name), Kind::Add, Some(value)) => fields.add(name.clone(), value),
                (Target::Field(_), Kind::Add, None) => {}
                (Target::Field(name), Kind::Replace, Some(value)) if fields.get(name).is_some() => {
                    fields.set(name.clone(), value);
                }
                (Target::Field(_), Kind::Replace, Some(_)) => {}
                (Target::Field(name), Kind::Set, Some(value)) => fields.set(name.clone(), value),
                (Target::Field(name), _, _) => drop(fields.remove(name)),
            }
        }
    }
}

/// Puts lines into a request.
pub fn put(lines: Lines, headers: &mut HeaderMap) {
    for (name, is_added, value) in lines {
        match value {
            Some(value) if is_added => drop(headers.append(name, value)),
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

/// What every answer carries: `hsts`, then the changes of the whole cluster.
pub fn change_globally(ctx: &RequestCtx, response: &mut Response) {
    let fields = &ctx.snapshot.globals.fields;
    // As this connection is, whatever a proxy before us says: where its TLS ends, it has a say about its names.
    let is_https = ctx.connection.peer.scheme == Scheme::Https;
    let answers = ctx.route.as_ref().and_then(|route| route.chain.answers.as_ref());
    let leads_to_name = answers.is_some_and(Answers::leads_to_name);
    if let (true, Some(hsts)) = (is_https && !leads_to_name, &fields.hsts) {
        response.head.headers.set(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if fields.server == ServerField::Own {
        response.head.headers.set(header::SERVER, HeaderValue::from_static(SERVER));
    }
    if let Some(changes) = &fields.changes {
        changes.change(ctx, ctx.head.as_deref(), response);
    }
}

impl Change {
    fn new(policy: &headers::HeaderChange) -> Result<Self, HeadersError> {
        let headers::HeaderChange { name, action, when } = policy;
        let field = || name.parse().map_err(|_invalid| HeadersError::Name(name.clone()));
        let value = |template: &Template| match template.as_text() {
            Some("") => Ok(Value::Nothing),
            Some(text) => HeaderValue::from_str(text)
                .map(Value::Fixed)
                .map_err(|_invalid| HeadersError::Value(name.clone())),
            None => Ok(Value::Template(template.clone())),
        };
        let (target, kind, value) = match action {
            headers::HeaderAction::Set(text) => (Target::Field(field()?), Kind::Set, value(text)?),
            headers::HeaderAction::Replace(text) => (Target::Field(field()?), Kind::Replace, value(text)?),
            headers::HeaderAction::Add(text) => (Target::Field(field()?), Kind::Add, value(text)?),
            headers::HeaderAction::Date(seconds) => {
                (Target::Field(field()?), Kind::Set, Value::Date(*seconds))
            }
            headers::HeaderAction::Remove => (Target::Field(field()?), Kind::Remove, Value::Nothing),
            headers::HeaderAction::RemovePrefix => {
                (Target::Prefix(name.as_str().into()), Kind::Remove, Value::Nothing)
            }
        };
        Ok(Self {
            target,
            kind,
            value,
            statuses: when.statuses.iter().filter_map(|status| StatusCode::from_u16(*status).ok()).collect(),
            types: when.types.clone(),
            is_from_backend: when.is_from_backend,
            conditions: Condition::from_policy(&when.conditions)
                .map_err(|error| HeadersError::Condition(name.clone(), error.to_string()))?,
        })
    }

    /// The value to send; an empty one is none.
    fn value(&self, view: Option<&View<'_>>) -> Option<HeaderValue> {
        match &self.value {
            Value::Nothing => None,
            Value::Fixed(value) => Some(value.clone()),
            Value::Template(template) => {
                let text = view?.expand(template);
                HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
            }
            Value::Date(seconds) => {
                let then = Timestamp::now().checked_add(SignedDuration::from_secs(*seconds)).ok()?;
                let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&then).ok()?;
                HeaderValue::try_from(text).ok()
            }
        }
    }

    fn holds(&self, ctx: &RequestCtx, response: &Response) -> bool {
        let kind = response.head.headers.text(&header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        (self.statuses.is_empty() || self.statuses.contains(&response.head.status))
            && (self.types.is_empty() || self.types.iter().any(|known| known.eq_ignore_ascii_case(kind)))
            && (!self.is_from_backend || ctx.is_from_backend)
    }
}

impl Filter for HeaderChanges {
    const NAME: &'static str = "headers";

    async fn on_request(&self, _ctx: &mut RequestCtx, _request: &mut Request) -> Outcome {
        ControlFlow::Continue(())
    }

    fn on_response(&self, ctx: &mut RequestCtx, response: &mut Response) {
        if ctx.is_page {
            return;
        }
        self.change(ctx, ctx.head.as_deref(), response);
    }
}
