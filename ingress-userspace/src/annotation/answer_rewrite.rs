//! `proxy-cookie-domain`, `proxy-cookie-path`, `proxy-redirect-from`, `proxy-redirect-to`.

use super::registry::annotations;
use super::{Effect, Reader, value};
use crate::model::policy::answer::LocationForm;
use crate::model::policy::answer_rewrite::{AnswerRewrite, Matcher, Replacement};
use crate::model::template::Template;

annotations! { "Cookies and redirects of backends";
    /// Replaces the `Domain` of cookies that backends set: a domain and its replacement, which may hold variables. `~` or
    /// `~*` begins a regular expression, whose groups are `$1` to `$9`. Unlike in nginx look-around is not supported.
    PROXY_COOKIE_DOMAIN: Option<Replacement> = "proxy-cookie-domain", parse: value::text::replacement,
    values: "off, or two words such as a.internal a.example.com", default: "off",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Differs;
    /// Replaces the beginning of the `Path` of cookies that backends set; by a regular expression all of it. Unlike in nginx
    /// look-around is not supported.
    PROXY_COOKIE_PATH: Option<Replacement> = "proxy-cookie-path", parse: value::text::replacement,
    values: "off, or two words such as /app/ /", default: "off",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Differs;
    /// The beginning of `Location` and `Refresh` of backends that `proxy-redirect-to` replaces, or a regular expression
    /// behind `~` or `~*`. `default` means nothing here, as behind ingress-nginx. Unlike in nginx look-around is not supported.
    PROXY_REDIRECT_FROM: String = "proxy-redirect-from", parse: word,
    values: "off, default, or a text such as http://a.internal/", default: "off",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Differs;
    /// What replaces it. A path becomes a URL of the host that was asked for, unless `relative-redirects` is on.
    PROXY_REDIRECT_TO: String = "proxy-redirect-to", parse: word,
    values: "off, or a text such as https://a.example.com/", default: "off",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>, form: LocationForm) -> AnswerRewrite {
    let from = reader.value(&PROXY_REDIRECT_FROM);
    let to = reader.value(&PROXY_REDIRECT_TO);
    let location = match (from.as_str(), to.as_str()) {
        ("off", "off") | ("default", _) => None,
        ("off", _) => {
            let message = "needs proxy-redirect-from, so it does nothing; add it";
            reader.note(PROXY_REDIRECT_TO.row.key, Effect::Warn, message);
            None
        }
        (_, "off") => None,
        _ => replacement(reader, &from, &to),
    };
    AnswerRewrite {
        cookie_domain: reader.value(&PROXY_COOKIE_DOMAIN),
        cookie_path: reader.value(&PROXY_COOKIE_PATH),
        location,
        form,
    }
}

/// The texts may be read, but mean nothing: an expression that does not compile, an unknown variable.
fn replacement(reader: &mut Reader<'_>, from: &str, to: &str) -> Option<Replacement> {
    let read: (Result<Matcher, String>, Result<Template, String>) =
        (value::text::matcher(from), value::text::template(to));
    match read {
        (Ok(from), Ok(to)) => Some(Replacement { from, to }),
        (Err(reason), _) => {
            if let Some(found) = reader.find(&PROXY_REDIRECT_FROM.row) {
                reader.report(&found, Effect::Warn, format!("{reason}; nothing is rewritten; correct it"));
            }
            None
        }
        (_, Err(reason)) => {
            if let Some(found) = reader.find(&PROXY_REDIRECT_TO.row) {
                reader.report(&found, Effect::Warn, format!("{reason}; nothing is rewritten; correct it"));
            }
            None
        }
    }
}

fn word(text: &str) -> Result<String, String> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("is more than one word".to_owned());
    }
    Ok(text.to_owned())
}
