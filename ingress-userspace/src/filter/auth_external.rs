//! `auth-url` and `global-auth-url`: a service is asked about every request before it is let through.
//!
//! As nginx's `auth_request` with ingress-nginx's headers: 2xx lets the request pass, 401 and 403 are its answer, all else is
//! 500, silence included. Unlike nginx every `Set-Cookie` line of the service reaches the client, each as a line of
//! its own; what a client claims about itself in `X-Forwarded-*` does not reach the service; refusals never go through error
//! pages; and kept verdicts are told apart by the credentials of the request as well as by the configured key.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::answer::{AnswerError, Condition};
use super::{Filter, Outcome, Stop};
use crate::model::backend::BackendId;
use crate::model::policy::auth_external::{AuthCache, AuthExternal, CacheDuration, StatedVerdict};
use crate::model::route::RouteSource;
use crate::model::template::{Template, Variable};
use crate::proxy::ask::{Question, ask};
use crate::proxy::context::RequestCtx;
use crate::proxy::error::ProxyError;
use crate::proxy::forward;
use crate::proxy::head::{Request, RequestHead, Response};
use crate::proxy::variables::{View, cookie};
use crate::snapshot::verdicts::{Answered, Key, Verdicts};
use crate::upstream::backend::BackendCell;
use crate::upstream::subrequest::target::{Resolved, Target};
use crate::upstream::subrequest::{Answer, Deadlines, SubrequestError};

const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");
const X_SENT_FROM: HeaderName = HeaderName::from_static("x-sent-from");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");

/// Where nginx's `add_header` adds headers unless it is told `always`.
const WITH_COOKIES: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// A service that decides.
#[derive(Debug)]
pub struct AuthService {
    target: Target,
    method: Method,
    /// It also learns URI and scheme, because a method was asked for.
    learns_uri: bool,
    signin: Option<Template>,
    redirect: Option<Template>,
    response_headers: Vec<HeaderName>,
    quoted_headers: Vec<HeaderName>,
    request_headers: Vec<(HeaderName, Template)>,
    kept: Option<Kept>,
    sets_cookies_always: bool,
    stated: Vec<(Vec<Condition>, StatusCode)>,
}

/// How verdicts are kept.
#[derive(Debug)]
struct Kept {
    key: Template,
    /// The rule and its settings: others have verdicts of their own.
    identity: String,
    durations: Vec<CacheDuration>,
    verdicts: Arc<Verdicts>,
}

/// Why a service cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthServiceError {
    /// The method is none.
    #[error("{0:?} is not a method of external authentication")]
    Method(String),
    /// The header is none.
    #[error("{0:?} is not a header of external authentication")]
    Header(String),
    /// A verdict without a question is none.
    #[error(transparent)]
    Stated(#[from] AnswerError),
}

impl AuthService {
    /// From the model.
    pub fn from_policy(
        policy: &AuthExternal,
        source: &RouteSource,
        verdicts: &Arc<Verdicts>,
        cell: impl FnOnce(&BackendId) -> Arc<BackendCell>,
    ) -> Result<Self, AuthServiceError> {
        let method = policy.method.as_deref().unwrap_or("GET");
        let name = |name: &String| name.parse().map_err(|_invalid| AuthServiceError::Header(name.clone()));
        let request_headers: Vec<(HeaderName, Template)> = policy
            .request_headers
            .iter()
            .map(|(header, value)| Ok((name(header)?, value.clone())))
            .collect::<Result<_, AuthServiceError>>()?;
        let kept = |AuthCache { key, durations }: &AuthCache| Kept {
            key: key.clone(),
            identity: format!("{}\n{}\n{policy}", source.host, source.path),
            durations: durations.clone(),
            verdicts: Arc::clone(verdicts),
        };
        Ok(Self {
            target: Target::new(&policy.url, cell),
            method: method.parse().map_err(|_invalid| AuthServiceError::Method(method.to_owned()))?,
            learns_uri: policy.method.is_some(),
            signin: policy.signin.clone(),
            redirect: policy.request_redirect.clone(),
            response_headers: policy.response_headers.iter().map(name).collect::<Result<_, _>>()?,
            quoted_headers: policy.quoted_headers.iter().map(name).collect::<Result<_, _>>()?,
            request_headers,
            kept: policy.cache.as_ref().map(kept),
            sets_cookies_always: policy.sets_cookies_always,
            stated: policy.stated.iter().map(stated).collect::<Result<_, _>>()?,
        })
    }

    /// Where a client signs in, as an answer; `None`: nowhere, so 401 stays.
    pub fn signin(&self, ctx: &RequestCtx, head: &RequestHead) -> Option<Response> {
        let view = View::new(ctx, head);
        let mut location = view.expand(self.signin.as_ref()?);
        if location.starts_with('/') {
            // nginx, too, makes a path absolute.
            let host = head.host.sent().to_str().unwrap_or_default();
            location = format!("{}://{host}{location}", ctx.peer.scheme.name());
        }
        let mut response = Response::text(StatusCode::FOUND);
        response.head.headers.set(header::LOCATION, HeaderValue::try_from(location).ok()?);
        Some(response)
    }

    fn question(&self, ctx: &RequestCtx, head: &RequestHead, to: &Resolved) -> Option<Question> {
        let view = View::new(ctx, head);
        let mut headers = forward::for_question(ctx, head);
        let uri = HeaderValue::try_from(head.target.raw()).ok()?;
        let host = head.host.sent().to_str().unwrap_or_default();
        let url = format!("{}://{host}{}", ctx.peer.scheme.name(), head.target.raw());
        let redirect = match &self.redirect {
            Some(template) => HeaderValue::try_from(view.expand(template)).ok()?,
            None => uri.clone(),
        };
        headers.insert(header::HOST, to.host_value()?);
        headers.insert(X_ORIGINAL_URL, HeaderValue::try_from(url).ok()?);
        headers.insert(X_ORIGINAL_METHOD, HeaderValue::try_from(head.method.as_str()).ok()?);
        headers.insert(X_AUTH_REQUEST_REDIRECT, redirect);
        headers.insert(X_SENT_FROM, HeaderValue::from_static("nginx-ingress-controller"));
        if self.learns_uri {
            headers.insert(X_ORIGINAL_URI, uri);
            headers.insert(X_SCHEME, HeaderValue::from_static(ctx.peer.scheme.name()));
        }
        for (name, template) in &self.request_headers {
            match view.expand(template) {
                // nginx sends no header that came to nothing.
                value if value.is_empty() => drop(headers.remove(name)),
                value => drop(headers.insert(name, HeaderValue::try_from(value).ok()?)),
            }
        }
        Some(Question { method: self.method.clone(), headers })
    }

    async fn ask(&self, ctx: &RequestCtx, head: &RequestHead) -> Result<Answer, SubrequestError> {
        let to = self.target.resolve(&View::new(ctx, head))?;
        let question = self.question(ctx, head, &to).ok_or(SubrequestError::Url)?;
        let timeouts = ctx.route.as_ref().map(|route| route.timeouts);
        let (connect, answer) = timeouts
            .map_or((Duration::from_secs(5), Duration::from_secs(60)), |timeouts| {
                (timeouts.connect, timeouts.read)
            });
        ask(ctx, head, &to, question, Deadlines { connect, answer }).await
    }

    /// The answer, stated, kept or new. Cookies of a new one wait for the response.
    async fn answer(&self, ctx: &mut RequestCtx, head: &RequestHead) -> Result<Answer, SubrequestError> {
        let view = View::new(ctx, head);
        let mut stated = self.stated.iter();
        if let Some((_, status)) = stated.find(|(all, _)| all.iter().all(|condition| condition.holds(&view)))
        {
            return Ok(Answer { status: *status, headers: HeaderMap::new() });
        }
        let Some(kept) = &self.kept else {
            let answer = self.ask(ctx, head).await?;
            ctx.auth_cookies.extend(answer.headers.get_all(header::SET_COOKIE).iter().cloned());
            return Ok(answer);
        };
        let key = kept.key(ctx, head);
        if let Some(verdict) = kept.verdicts.find(&key, head.headers.as_map()) {
            return Ok(Answer { status: verdict.status, headers: verdict.headers.clone() });
        }
        let answer = self.ask(ctx, head).await?;
        ctx.auth_cookies.extend(answer.headers.get_all(header::SET_COOKIE).iter().cloned());
        let status = answer.status.as_u16();
        if let Some(duration) = kept.durations.iter().find(|duration| duration.covers(status)) {
            let answered =
                Answered { status: answer.status, headers: &answer.headers, request: head.headers.as_map() };
            kept.verdicts.keep(key, &answered, duration.time, self.essence(&answer));
        }
        Ok(answer)
    }

    /// The headers of an answer that count.
    fn essence(&self, answer: &Answer) -> HeaderMap {
        let mut essence = HeaderMap::new();
        let quoted = self.quoted_headers.iter().filter(|name| !self.response_headers.contains(name));
        for name in self.response_headers.iter().chain(quoted).chain(&[header::WWW_AUTHENTICATE]) {
            if essence.contains_key(name) {
                continue;
            }
            for value in answer.headers.get_all(name) {
                essence.append(name, value.clone());
            }
        }
        essence
    }
}

fn stated(policy: &StatedVerdict) -> Result<(Vec<Condition>, StatusCode), AnswerError> {
    let status =
        StatusCode::from_u16(policy.status).map_err(|_invalid| AnswerError::Status(policy.status))?;
    Ok((Condition::from_policy(&policy.conditions)?, status))
}

impl Kept {
    /// What tells requests apart. Credentials and certificates count: a key that forgets them would give one client the
    /// verdict, and the identity, of another. Cookies count as a whole unless the key names one that the request has.
    fn key(&self, ctx: &RequestCtx, head: &RequestHead) -> Key {
        let mut digest = digest::Context::new(&digest::SHA256);
        let mut add = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        add(self.identity.as_bytes());
        add(head.host.name().as_bytes());
        add(head.method.as_str().as_bytes());
        add(View::new(ctx, head).expand(&self.key).as_bytes());
        for value in head.headers.all(&header::AUTHORIZATION) {
            add(value.as_bytes());
        }
        add(b"");
        // The service is told who the client is by its certificate.
        let tls = ctx.connection.tls.as_ref();
        if let Some(shown) = tls.and_then(|tls| tls.client.as_ref()?.certificate.as_ref()) {
            add(shown.fingerprint.as_bytes());
        }
        add(b"");
        let names_cookie = self.key.variables().any(|variable| match variable {
            Variable::Cookie(name) => cookie(head, name).is_some_and(|value| !value.is_empty()),
            _ => false,
        });
        if !names_cookie {
            for value in head.headers.all(&header::COOKIE) {
                add(value.as_bytes());
            }
        }
        let mut key = Key::default();
        key.copy_from_slice(digest.finish().as_ref());
        key
    }
}

impl Filter for AuthService {
    const NAME: &'static str = "auth_external";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let answer = match self.answer(ctx, &request.head).await {
            Ok(answer) => answer,
            Err(error) => return ControlFlow::Break(Stop::Fail(ProxyError::AuthService(error))),
        };
        if !self.quoted_headers.is_empty() {
            let quoted = self.quoted_headers.iter();
            let lines = quoted
                .flat_map(|name| answer.headers.get_all(name).iter().map(move |v| (name.clone(), v.clone())));
            ctx.auth_answer = Some(Box::new(lines.collect()));
        }
        match answer.status {
            status if status.is_success() => {
                for name in &self.response_headers {
                    match joined(&answer.headers, name) {
                        Some(value) => request.head.headers.set(name.clone(), value),
                        None => drop(request.head.headers.remove(name)),
                    }
                }
                ControlFlow::Continue(())
            }
            StatusCode::UNAUTHORIZED => {
                let signin = self.signin(ctx, &request.head);
                let is_signin = signin.is_some();
                let mut response = signin.unwrap_or_else(|| Response::text(StatusCode::UNAUTHORIZED));
                for value in answer.headers.get_all(header::WWW_AUTHENTICATE) {
                    response.head.headers.add(header::WWW_AUTHENTICATE, value.clone());
                }
                let stop = if is_signin { Stop::Respond(response) } else { Stop::Refuse(response) };
                ControlFlow::Break(stop)
            }
            StatusCode::FORBIDDEN => ControlFlow::Break(Stop::Refuse(Response::text(StatusCode::FORBIDDEN))),
            status => ControlFlow::Break(Stop::Fail(ProxyError::AuthStatus(status))),
        }
    }

    /// Nobody was asked, so nobody said who the client is.
    fn when_skipped(&self, request: &mut Request) {
        for name in &self.response_headers {
            request.head.headers.remove(name);
        }
    }

    fn on_response(&self, ctx: &mut RequestCtx, response: &mut Response) {
        let cookies = std::mem::take(&mut ctx.auth_cookies);
        if self.sets_cookies_always || WITH_COOKIES.contains(&response.head.status.as_u16()) {
            for cookie in cookies {
                response.head.headers.add(header::SET_COOKIE, cookie);
            }
        }
    }
}

/// All lines of a header as one, as nginx's `$upstream_http_*`.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if lines.next().is_none() {
        return Some(first.clone()).filter(|value| !value.is_empty());
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&lines.join(&b", "[..])).ok()
}
