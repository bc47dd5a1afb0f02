//! Values with variables in them, URLs, names of headers and of ConfigMaps.

use super::header_name;
use crate::model::policy::answer::Pattern;
use crate::model::policy::answer_rewrite::{Matcher, Replacement};
use crate::model::template::{Part, Template, Variable};
use crate::path_regex;

/// Text with variables, on one line.
pub fn template(text: &str) -> Result<Template, String> {
    if text.contains(|c: char| c.is_control()) {
        return Err("holds a line break or another control character".to_owned());
    }
    Template::parse(text).map_err(|unknown| format!("names ${}, which is no known variable", unknown.0))
}

/// Text with variables in which only letters, digits and these characters stand.
fn plain_template(text: &str, allowed: &str) -> Result<Template, String> {
    let parsed = template(text)?;
    let texts = parsed.0.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        Part::Variable(_) => None,
    });
    let bad =
        texts.flat_map(|text| text.chars()).find(|c| !(c.is_ascii_alphanumeric() || allowed.contains(*c)));
    match bad {
        Some(bad) => Err(format!("holds {bad:?}")),
        None => Ok(parsed),
    }
}

/// An `http` or `https` URL, with variables behind the scheme.
pub fn redirect_url(text: &str) -> Result<Template, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let is_http = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if !is_http || rest.is_empty() {
        return Err("is not a URL that begins with http:// or https://".to_owned());
    }
    plain_template(text, "-._~/:?#[]@!&()*+,=%")
}

/// The path of the start page.
pub fn app_root(text: &str) -> Result<Template, String> {
    if !text.starts_with('/') || text.starts_with("//") {
        return Err("is not a path that begins with one /".to_owned());
    }
    if text == "/" {
        return Err("leads back to itself".to_owned());
    }
    plain_template(text, "-._~/:?#@!&()*+,=%")
}

/// A path, or a URL to redirect to, in which `$1`…`$9` stand for captures.
pub fn rewrite_target(text: &str) -> Result<Template, String> {
    let parsed = plain_template(text, "-._~/:?@!&()*+,;=%'")?;
    let begins_well = match parsed.0.first() {
        Some(Part::Text(text)) => {
            text.starts_with('/') || text.starts_with("http://") || text.starts_with("https://")
        }
        Some(Part::Variable(
            Variable::Group(_) | Variable::Scheme | Variable::Uri | Variable::RequestUri,
        )) => true,
        _ => false,
    };
    if !begins_well {
        // ingress-nginx takes other text without the slash; upstream would see an invalid request line.
        return Err("is neither a path (it begins with / or with a group such as $1) nor a URL".to_owned());
    }
    Ok(parsed)
}

/// Whether a rewrite target sends the client elsewhere.
pub fn is_url(target: &Template) -> bool {
    match target.0.first() {
        Some(Part::Text(text)) => text.starts_with("http://") || text.starts_with("https://"),
        Some(Part::Variable(Variable::Scheme)) => true,
        _ => false,
    }
}

/// The prefix of a path, as a backend puts it before its links; `$1`…`$9` stand for captures.
pub fn path_prefix(text: &str) -> Result<Template, String> {
    plain_template(text, "-._~/: ")
}

/// The value of `Host`, which may hold variables.
pub fn virtual_host(text: &str) -> Result<Template, String> {
    plain_template(text, "-._:[]")
}

/// Names of headers, separated by commas, lower case.
pub fn header_names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| match header_name(name) {
            Ok(name) => Ok(name.to_ascii_lowercase()),
            Err(_) => Err(format!("holds {name:?}, which is not the name of a header")),
        })
        .collect()
}

/// `namespace/name`; without a namespace that of the object which says so.
pub fn config_map(text: &str) -> Result<(Option<String>, String), String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok((Some(namespace.to_owned()), name.to_owned()))
        }
        None if is_name(text) => Ok((None, text.to_owned())),
        _ => Err("is not the name of a ConfigMap".to_owned()),
    }
}

/// `off`, or what is replaced and by what, separated by a space. `~` and `~*` begin an expression.
pub fn replacement(text: &str) -> Result<Option<Replacement>, String> {
    if text == "off" {
        return Ok(None);
    }
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(from), Some(to), None) => replacement_of(from, to).map(Some),
        _ => Err("is neither off nor two words".to_owned()),
    }
}

/// What is replaced, and by what.
pub fn replacement_of(from: &str, to: &str) -> Result<Replacement, String> {
    Ok(Replacement { from: matcher(from)?, to: template(to)? })
}

/// A text, or an expression behind `~` (with case) or `~*` (without).
pub fn matcher(text: &str) -> Result<Matcher, String> {
    let (text, is_case_sensitive) = match (text.strip_prefix("~*"), text.strip_prefix('~')) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return Ok(Matcher::Text(template(text)?)),
    };
    Ok(Matcher::Regex(pattern(text, is_case_sensitive)?))
}

/// A regular expression.
pub fn pattern(text: &str, is_case_sensitive: bool) -> Result<Pattern, String> {
    match path_regex::search_with(text, is_case_sensitive) {
        Ok(_) => Ok(Pattern { text: text.to_owned(), is_case_sensitive }),
        Err(_) => Err(format!("holds {text:?}, which is not a regular expression that can be used")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrite_targets_are_paths_or_urls() {
        for good in
            ["/", "/$2", "/a/$1/b", "/a-b_c.d~e", "$1", "$2/a", "/i?p=$1", "/$host", "https://a.example/$1"]
        {
            assert_eq!(rewrite_target(good).map(|_| ()), Ok(()), "{good}");
        }
        let bad = [
            "",
            "a",
            "ftp://example.com/",
            "/a b",
            "/a\r\nX: y",
            "/a;{}\"",
            "/a\" break; }",
            "/\u{e9}",
            "/$nope",
            "/$",
            "/$0",
        ];
        for bad in bad {
            assert!(rewrite_target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirect_urls_name_their_scheme() {
        for good in
            ["https://example.com", "http://a.example:8080/x?y=$arg_y&z=1#top", "https://$host$request_uri"]
        {
            assert_eq!(redirect_url(good).map(|_| ()), Ok(()), "{good}");
        }
        let bad = [
            "",
            "https://",
            "javascript:alert(1)",
            "//evil.example",
            "$scheme://a",
            "https://a/;}location /x{",
            "https://a/\"",
            "https://a/\nreturn 200",
            "https://a b",
            "https://$secret",
        ];
        for bad in bad {
            assert!(redirect_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn replacements_are_two_words() {
        assert_eq!(replacement("off"), Ok(None));
        for good in ["/two/ /", "~^/(.*) /app/$1", "~*\\.Example\\.com$ example.org", "a.local $host"] {
            assert!(matches!(replacement(good), Ok(Some(_))), "{good}");
        }
        for bad in ["/", "a b c", "~( x", "a $nope"] {
            assert!(replacement(bad).is_err(), "{bad}");
        }
    }
}
