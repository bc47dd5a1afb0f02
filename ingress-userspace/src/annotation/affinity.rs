//! Sessions by cookie: `affinity`, `session-cookie-*`.

use super::registry::annotations;
use super::value;
use super::{Effect, Read, Reader};
use crate::model::policy::delivery::{AffinityMode, SameSite};

annotations! { "Sessions";
    /// Requests of a session go to the same endpoint; a cookie names the session. Goes before `upstream-hash-by` and
    /// `load-balance`. Only for the paths of this Ingress. The cookie's value is opaque and always `HttpOnly`. Unlike in
    /// ingress-nginx a session that began there begins again.
    AFFINITY: () = "affinity", parse: affinity, values: "cookie", default: "", on_invalid: Warn, scope: "path", twins: [],
    in: Annotation, support: Differs;
    /// How a session finds its endpoint. `balanced`: sessions are spread by hashing, and some move when endpoints come or go. `persistent`: a session stays with
    /// its endpoint until that is gone.
    AFFINITY_MODE: AffinityMode = "affinity-mode", parse: mode, values: "balanced or persistent", default: "balanced",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// On a canary Ingress. `sticky`: a session stays with the canary or with the main Ingress, whatever header, cookie and
    /// weight of the canary say. `legacy`: sessions are of no account for that choice.
    AFFINITY_CANARY_BEHAVIOR: bool = "affinity-canary-behavior", parse: canary_behavior, values: "sticky or legacy",
    default: "sticky", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Name of the cookie.
    SESSION_COOKIE_NAME: String = "session-cookie-name", parse: cookie_name, values: "the name of a cookie",
    default: "INGRESSCOOKIE", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Seconds until the cookie expires (`Max-Age`). Without it and `session-cookie-expires` it ends with the browser's session.
    SESSION_COOKIE_MAX_AGE: i64 = "session-cookie-max-age", parse: offset, values: "a number of seconds", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// The same for old browsers (`Expires`).
    SESSION_COOKIE_EXPIRES: i64 = "session-cookie-expires", parse: offset, values: "a number of seconds", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// The `Path` of the cookie; by default the path of the Ingress. A regular expression is no path of a cookie: where the path
    /// of the Ingress is one and this is not set, the text that it begins with is used, and it is reported.
    SESSION_COOKIE_PATH: String = "session-cookie-path", parse: cookie_path, values: "a path", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Differs;
    /// The `Domain` of the cookie.
    SESSION_COOKIE_DOMAIN: String = "session-cookie-domain", parse: cookie_domain, values: "the name of a domain",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Whether the cookie is `Secure`; by default when the client came by HTTPS.
    SESSION_COOKIE_SECURE: bool = "session-cookie-secure", parse: value::boolean, values: "true or false", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// The `SameSite` of the cookie.
    SESSION_COOKIE_SAMESITE: SameSite = "session-cookie-samesite", parse: same_site, values: "None, Lax or Strict",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Leaves `SameSite=None` out for browsers that misread it: Chrome 51 to 66, iOS 12, Safari on macOS 10.14.
    SESSION_COOKIE_CONDITIONAL_SAMESITE_NONE: bool = "session-cookie-conditional-samesite-none", parse: value::boolean,
    values: "true or false", default: "false", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// A session moves to another endpoint for good when a request to its own fails; else its own is tried again.
    SESSION_COOKIE_CHANGE_ON_FAILURE: bool = "session-cookie-change-on-failure", parse: value::boolean,
    values: "true or false", default: "false", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Accepted; ingress-nginx no longer knows it either. The cookie's value is always made in the same way.
    SESSION_COOKIE_HASH: () = "session-cookie-hash", parse: anything, values: "any text", default: "", on_invalid: Note,
    scope: "path", twins: [], in: Annotation, support: Ignored;
}

/// Sessions as annotated; the path of the cookie may still be that of the Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the annotation of its name")]
pub struct Sessions {
    pub mode: AffinityMode,
    pub moves_on_failure: bool,
    pub name: String,
    pub max_age: Option<i64>,
    pub expires: Option<i64>,
    pub path: Option<String>,
    pub domain: Option<String>,
    pub secure: Option<bool>,
    pub same_site: Option<SameSite>,
    pub is_none_conditional: bool,
}

/// Whether sessions are of no account for the choice between canary and main Ingress; of a canary Ingress.
pub(super) fn is_legacy(reader: &mut Reader<'_>) -> bool {
    matches!(reader.get(&AFFINITY_CANARY_BEHAVIOR), Read::Value(true))
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Sessions> {
    let sessions = Sessions {
        mode: reader.value(&AFFINITY_MODE),
        moves_on_failure: reader.value(&SESSION_COOKIE_CHANGE_ON_FAILURE),
        name: reader.value(&SESSION_COOKIE_NAME),
        max_age: reader.get(&SESSION_COOKIE_MAX_AGE).value(),
        expires: reader.get(&SESSION_COOKIE_EXPIRES).value(),
        path: reader.get(&SESSION_COOKIE_PATH).value(),
        domain: reader.get(&SESSION_COOKIE_DOMAIN).value(),
        secure: reader.get(&SESSION_COOKIE_SECURE).value(),
        same_site: reader.get(&SESSION_COOKIE_SAMESITE).value(),
        is_none_conditional: reader.value(&SESSION_COOKIE_CONDITIONAL_SAMESITE_NONE),
    };
    match reader.get(&AFFINITY) {
        Read::Value(()) => Some(sessions),
        Read::Absent => {
            let idle = GROUP
                .rows
                .iter()
                .filter(|row| row.key.starts_with("session-cookie") || row.key == "affinity-mode");
            for row in idle {
                reader.note_given(row, Effect::Note, "changes nothing without affinity: cookie");
            }
            None
        }
        Read::Invalid => None,
    }
}

fn affinity(text: &str) -> Result<(), String> {
    if text == "cookie" { Ok(()) } else { Err("is not cookie, the only kind of affinity".to_owned()) }
}

fn anything(_text: &str) -> Result<(), String> {
    Ok(())
}

fn mode(text: &str) -> Result<AffinityMode, String> {
    match text {
        "balanced" => Ok(AffinityMode::Balanced),
        "persistent" => Ok(AffinityMode::Persistent),
        _ => Err("is neither balanced nor persistent".to_owned()),
    }
}

fn canary_behavior(text: &str) -> Result<bool, String> {
    match text {
        "sticky" => Ok(false),
        "legacy" => Ok(true),
        _ => Err("is neither sticky nor legacy".to_owned()),
    }
}

pub(super) fn cookie_name(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~/:".contains(c)) {
        return Err("is not the name of a cookie".to_owned());
    }
    Ok(text.to_owned())
}

fn offset(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a bare number of seconds".to_owned());
    }
    text.parse().ok().ok_or_else(|| "is too large".to_owned())
}

fn cookie_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || !text.chars().all(is_of_path) {
        return Err("is not a path (it begins with / and holds letters, digits and -._~/:)".to_owned());
    }
    Ok(text.to_owned())
}

/// Whether a character may stand in the path of a cookie.
pub fn is_of_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~/:%@!$&'()*+,=".contains(c)
}

fn cookie_domain(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.is_empty() || !text.chars().all(is_allowed) {
        return Err("is not the name of a domain".to_owned());
    }
    Ok(text.to_owned())
}

fn same_site(text: &str) -> Result<SameSite, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(SameSite::None),
        "lax" => Ok(SameSite::Lax),
        "strict" => Ok(SameSite::Strict),
        _ => Err("is none of None, Lax, Strict".to_owned()),
    }
}
