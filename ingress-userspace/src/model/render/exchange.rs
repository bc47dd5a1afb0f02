//! The policies about what is answered, and about header fields, as text.

use std::fmt::{self, Write};

use crate::model::global::{Fields, HSTS};
use crate::model::policy::answer::{Answer, Condition, Content, LocationForm, Pattern, Test};
use crate::model::policy::answer_rewrite::{AnswerRewrite, Matcher, Replacement};
use crate::model::policy::cors::{Cors, Origins};
use crate::model::policy::headers::{HeaderAction, HeaderChange, Headers};

pub(super) fn write_cors(out: &mut String, cors: &Cors) -> fmt::Result {
    let Cors { origins, methods, headers, exposed, with_credentials, max_age } = cors;
    let origins = match origins {
        Origins::Any => "*".to_owned(),
        Origins::List(list) if list.is_empty() => "nobody".to_owned(),
        Origins::List(list) => {
            let shown = list.iter().map(|origin| match &origin.end {
                Some(end) => format!("{}*{end}", origin.start),
                None => origin.start.clone(),
            });
            shown.collect::<Vec<_>>().join(" ")
        }
    };
    let credentials = if *with_credentials { "with" } else { "without" };
    write!(
        out,
        "    cors: {origins}, {credentials} credentials, for {max_age} s, methods {methods:?}, headers {headers:?}"
    )?;
    if let Some(exposed) = exposed {
        write!(out, ", exposed {exposed:?}")?;
    }
    out.push('\n');
    Ok(())
}

pub(super) fn write_answer(out: &mut String, answer: &Answer) -> fmt::Result {
    let Answer { conditions, status, content, headers } = answer;
    if !matches!(content, Content::Onward { .. }) {
        write!(out, "    answer: {status}")?;
    }
    match content {
        Content::Page => {}
        Content::Text(text) => write!(out, " {:?}", text.to_string())?,
        Content::Location { to, keeps_query, form } => {
            let query = if *keeps_query { " with the query" } else { "" };
            write!(out, " to {:?}{query}{}", to.to_string(), show_form(*form))?;
        }
        Content::Host(name) => write!(out, " to host {name}")?,
        Content::Onward { pattern, to } => {
            write!(out, "    onward: path {} becomes {:?}", show_pattern(pattern), to.to_string())?;
        }
    }
    write_conditions(out, conditions)?;
    out.push('\n');
    headers.iter().try_for_each(|change| writeln!(out, "      header: {}", show_change(change)))
}

pub(super) fn show_form(form: LocationForm) -> &'static str {
    match form {
        LocationForm::Host => "",
        LocationForm::HostAndPort => ", with port",
        LocationForm::Relative => ", relative",
    }
}

fn show_pattern(pattern: &Pattern) -> String {
    format!("{:?}{}", pattern.text, if pattern.is_case_sensitive { "" } else { " without case" })
}

/// When something holds; nothing if it always does.
fn write_conditions(out: &mut String, conditions: &[Condition]) -> fmt::Result {
    for (number, condition) in conditions.iter().enumerate() {
        let test = match &condition.test {
            Test::Equals(text) => format!("is {text:?}"),
            Test::Differs(text) => format!("is not {text:?}"),
            Test::Matches(pattern) => format!("matches {}", show_pattern(pattern)),
            Test::MatchesNot(pattern) => format!("does not match {}", show_pattern(pattern)),
            Test::IsSet => "is set".to_owned(),
            Test::IsUnset => "is not set".to_owned(),
        };
        let and = if number == 0 { ", if" } else { " and" };
        write!(out, "{and} {} {test}", condition.subject)?;
    }
    Ok(())
}

pub(super) fn write_headers(out: &mut String, indent: &str, headers: &Headers) -> fmt::Result {
    let Headers { request, response } = headers;
    for change in request {
        writeln!(out, "{indent}request header: {}", show_change(change))?;
    }
    for change in response {
        writeln!(out, "{indent}response header: {}", show_change(change))?;
    }
    Ok(())
}

fn show_change(change: &HeaderChange) -> String {
    let HeaderChange { name, action, when } = change;
    let mut shown = match action {
        HeaderAction::Set(value) => format!("{name} = {:?}", value.to_string()),
        HeaderAction::Replace(value) => format!("{name}, if there, = {:?}", value.to_string()),
        HeaderAction::Add(value) => format!("{name} + {:?}", value.to_string()),
        HeaderAction::Date(seconds) => format!("{name} = in {seconds} s"),
        HeaderAction::Remove => format!("no {name}"),
        HeaderAction::RemovePrefix => format!("no {name}*"),
    };
    if !when.statuses.is_empty() {
        let statuses: Vec<String> = when.statuses.iter().map(u16::to_string).collect();
        shown.push_str(&format!(", with {}", statuses.join(" ")));
    }
    if !when.types.is_empty() {
        shown.push_str(&format!(", in {}", when.types.join(" ")));
    }
    if when.is_from_backend {
        shown.push_str(", from the backend");
    }
    // Writing into a string does not fail.
    let _ = write_conditions(&mut shown, &when.conditions);
    shown
}

pub(super) fn write_answer_rewrite(out: &mut String, rewrite: &AnswerRewrite) -> fmt::Result {
    let AnswerRewrite { cookie_domain, cookie_path, location, form } = rewrite;
    let rows = [("cookie domain", cookie_domain), ("cookie path", cookie_path), ("location", location)];
    for (name, replacement) in rows {
        if let Some(Replacement { from, to }) = replacement {
            let from = match from {
                Matcher::Text(text) => format!("{:?}", text.to_string()),
                Matcher::Regex(pattern) => format!("~ {}", show_pattern(pattern)),
            };
            let form = if name == "location" { show_form(*form) } else { "" };
            writeln!(out, "    {name}: {from} to {:?}{form}", to.to_string())?;
        }
    }
    Ok(())
}

/// Only what differs from its default.
pub(super) fn write_fields(out: &mut String, fields: &Fields) -> fmt::Result {
    let Fields { hsts, changes, server, names, omits_request_id, adds_original_uri } = fields;
    match hsts.as_deref() {
        Some(HSTS) => {}
        Some(other) => writeln!(out, "global hsts: {other}")?,
        None => writeln!(out, "global hsts: off")?,
    }
    write_headers(out, "global ", changes)?;
    if *server != Default::default() {
        writeln!(out, "global server header: {server:?}")?;
    }
    if *names != Default::default() {
        writeln!(out, "global header names: {names:?}")?;
    }
    if *omits_request_id {
        writeln!(out, "global request id: only that of the client")?;
    }
    if *adds_original_uri {
        writeln!(out, "global x-original-uri: sent")?;
    }
    Ok(())
}
