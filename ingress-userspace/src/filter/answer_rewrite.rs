//! `proxy-cookie-domain`, `proxy-cookie-path`, `proxy-redirect-from`, `proxy-redirect-to`: what a backend says about its own
//! names, in `Set-Cookie`, `Location` and `Refresh`, becomes what clients can use.
//!
//! As nginx: a text is replaced where the value begins with it (a domain: where it is equal, without case and without a dot
//! in front); an expression replaces the whole value. Only answers of backends are touched, never our own redirects and cookies:
//! it is no step of `response_filters`, but applied where the answer of a backend arrives.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use regex::bytes::Regex;

use super::{answer, redirect};
use crate::model::policy::answer::LocationForm;
use crate::model::policy::answer_rewrite::{self, Matcher};
use crate::model::template::Template;
use crate::path_regex;
use crate::proxy::context::RequestCtx;
use crate::proxy::variables::View;

const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// The replacements of a route.
#[derive(Debug)]
pub struct AnswerRewrite {
    cookie_domain: Option<Replacement>,
    cookie_path: Option<Replacement>,
    location: Option<Replacement>,
    form: LocationForm,
}

#[derive(Debug)]
struct Replacement {
    from: From,
    to: Template,
}

#[derive(Debug)]
enum From {
    Text(Template),
    Regex(Regex),
}

/// Why a replacement cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the expression {0:?} of a replacement cannot be used: {1}")]
pub struct AnswerRewriteError(String, regex::Error);

impl AnswerRewrite {
    /// From the model; `None`: there is none.
    pub fn from_policy(policy: &answer_rewrite::AnswerRewrite) -> Result<Option<Self>, AnswerRewriteError> {
        if policy.is_empty() {
            return Ok(None);
        }
        let compile = |replacement: &Option<answer_rewrite::Replacement>| {
            replacement.as_ref().map(Replacement::new).transpose()
        };
        Ok(Some(Self {
            cookie_domain: compile(&policy.cookie_domain)?,
            cookie_path: compile(&policy.cookie_path)?,
            location: compile(&policy.location)?,
            form: policy.form,
        }))
    }

    fn cookie(&self, view: &View<'_>, line: &str) -> Option<String> {
        let mut is_changed = false;
        let mut parts: Vec<String> = line.split(';').map(str::to_owned).collect();
        for part in parts.iter_mut().skip(1) {
            let Some((name, value)) = part.split_once('=') else { continue };
            let changed = match name.trim().to_ascii_lowercase().as_str() {
                "path" => self.cookie_path.as_ref().and_then(|path| path.apply(view, value.trim())),
                "domain" => {
                    self.cookie_domain.as_ref().and_then(|domain| domain.apply_whole(view, value.trim()))
                }
                _ => None,
            };
            if let Some(changed) = changed {
                *part = format!("{name}={changed}");
                is_changed = true;
            }
        }
        is_changed.then(|| parts.join(";"))
    }

    fn location(&self, view: &View<'_>, url: &str) -> Option<String> {
        let changed = self.location.as_ref()?.apply(view, url)?;
        Some(if changed.starts_with('/') {
            redirect::absolute(view.ctx, view.head, &changed, self.form)
        } else {
            changed
        })
    }

    fn refresh(&self, view: &View<'_>, line: &str) -> Option<String> {
        let at = line.to_ascii_lowercase().find("url=")? + 4;
        let (before, url) = line.split_at_checked(at)?;
        // nginx does not look into a path here, so neither host nor scheme is put before it.
        self.location.as_ref()?.apply(view, url).map(|url| format!("{before}{url}"))
    }
}

impl Replacement {
    fn new(policy: &answer_rewrite::Replacement) -> Result<Self, AnswerRewriteError> {
        let from = match &policy.from {
            Matcher::Text(text) => From::Text(text.clone()),
            Matcher::Regex(pattern) => From::Regex(
                path_regex::search_with(&pattern.text, pattern.is_case_sensitive)
                    .map_err(|error| AnswerRewriteError(pattern.text.clone(), error))?,
            ),
        };
        Ok(Self { from, to: policy.to.clone() })
    }

    /// A text is replaced at the start of the value.
    fn apply(&self, view: &View<'_>, value: &str) -> Option<String> {
        match &self.from {
            From::Text(from) => {
                let rest = value.strip_prefix(view.expand(from).as_str())?;
                Some(format!("{}{rest}", view.expand(&self.to)))
            }
            From::Regex(regex) => self.apply_regex(view, regex, value),
        }
    }

    /// A text is compared with the whole value, a domain.
    fn apply_whole(&self, view: &View<'_>, value: &str) -> Option<String> {
        let bare = value.strip_prefix('.').unwrap_or(value);
        match &self.from {
            From::Text(from) => {
                let from = view.expand(from);
                let is_equal = from.strip_prefix('.').unwrap_or(&from).eq_ignore_ascii_case(bare);
                is_equal.then(|| view.expand(&self.to))
            }
            From::Regex(regex) => self.apply_regex(view, regex, bare),
        }
    }

    fn apply_regex(&self, view: &View<'_>, regex: &Regex, value: &str) -> Option<String> {
        let captures = regex.captures(value.as_bytes())?;
        Some(answer::expand(view, &self.to, Some(&captures)))
    }
}

impl AnswerRewrite {
    /// Rewrites the fields of a backend's answer, before anything of our own is added to them.
    pub fn apply(&self, ctx: &RequestCtx, fields: &mut HeaderMap) {
        let Some(head) = ctx.head.as_deref() else { return };
        let view = View { ctx, head, response: None };
        for (name, value) in fields.iter_mut() {
            let Ok(text) = value.to_str() else { continue };
            let changed = match name {
                name if *name == header::SET_COOKIE => self.cookie(&view, text),
                name if *name == header::LOCATION => self.location(&view, text),
                name if *name == REFRESH => self.refresh(&view, text),
                _ => None,
            };
            if let Some(changed) = changed.and_then(|changed| HeaderValue::try_from(changed).ok()) {
                *value = changed;
            }
        }
    }
}
