//! Sessions of an Ingress → the affinity of a route: the cookie gets its path.

use super::Build;
use super::paths::{has_regex_characters, literal_start};
use super::policies::Owner;
use crate::annotation::affinity::{AFFINITY, Sessions, is_of_path};
use crate::model::policy::delivery::{Affinity, SessionCookie};
use crate::problem::{Code, Severity};

/// The affinity of a path.
pub(super) fn affinity(owner: &Owner<'_>, path: &str) -> Option<Affinity> {
    let Sessions {
        mode,
        moves_on_failure,
        name,
        max_age,
        expires,
        path: set_path,
        domain,
        secure,
        same_site,
        is_none_conditional,
    } = owner.settings.sessions.clone()?;
    let cookie = SessionCookie {
        name,
        max_age,
        expires,
        path: set_path.unwrap_or_else(|| cookie_path(path).to_owned()),
        domain,
        secure,
        same_site,
        is_none_conditional,
    };
    Some(Affinity { mode, moves_on_failure, cookie })
}

/// The part of an Ingress path that can be the path of a cookie.
fn cookie_path(path: &str) -> &str {
    let path = if has_regex_characters(path) { literal_start(path) } else { path };
    let end = path.find(|c: char| !is_of_path(c)).unwrap_or(path.len());
    path.get(..end).filter(|path| !path.is_empty()).unwrap_or("/")
}

/// Names a path of an Ingress that is no path of a cookie.
pub(super) fn report_path(build: &mut Build<'_>, owner: &Owner<'_>, path: &str, field: &str) {
    let is_left_open = owner.settings.sessions.as_ref().is_some_and(|sessions| sessions.path.is_none());
    let used = cookie_path(path);
    if is_left_open && used != path {
        let message = format!(
            "with {}: cookie this path is the path of a cookie, but it is none; the cookie is set for {used}; set \
             session-cookie-path",
            AFFINITY.row.key
        );
        build.problem(&owner.object, (Code::FieldInvalid, Severity::Warning), (field, path), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_set_for_the_literal_part_of_a_path() {
        for (path, expected) in [
            ("/", "/"),
            ("/app", "/app"),
            ("/app/", "/app/"),
            ("/app(/|$)(.*)", "/app"),
            ("/a;b", "/a"),
            ("/(a|b)", "/"),
            ("/v1.0/x", "/v1.0/x"),
        ] {
            assert_eq!(cookie_path(path), expected, "{path}");
        }
    }
}
