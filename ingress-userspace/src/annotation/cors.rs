//! `enable-cors` and what belongs to it.

use super::registry::annotations;
use super::{Effect, Read, Reader, value};
use crate::model::policy::cors::{Cors, OriginPattern, Origins};

annotations! { "Cross-origin requests";
    /// Answers `OPTIONS` from an allowed origin with 204, before redirects, limits, source lists and authentication, and
    /// tells browsers which origins may read the answers, our own errors included.
    ENABLE_CORS: bool = "enable-cors", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// The origins, compared without case; `https://*.example.com` takes exactly one label, and
    /// `null` is that of documents without one. The request's origin is echoed
    /// when it matches; otherwise no header is added. `*` alone is sent as it is. Unlike in ingress-nginx an
    /// entry that cannot be read allows nobody, where it makes the whole list `*` there, and the whole origin is compared.
    CORS_ALLOW_ORIGIN: OriginList = "cors-allow-origin", parse: origins,
    values: "* or origins such as https://example.com:8443, separated by commas", default: "*",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Which methods scripts may use: `Access-Control-Allow-Methods`.
    CORS_ALLOW_METHODS: String = "cors-allow-methods", parse: methods, values: "methods, separated by commas",
    default: "GET, PUT, POST, DELETE, PATCH, OPTIONS",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Which headers scripts may send: `Access-Control-Allow-Headers`.
    CORS_ALLOW_HEADERS: String = "cors-allow-headers", parse: headers, values: "names of headers, separated by commas",
    default: "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Which headers scripts may read: `Access-Control-Expose-Headers`.
    CORS_EXPOSE_HEADERS: String = "cors-expose-headers", parse: exposed,
    values: "names of headers or *, separated by commas", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Lets scripts send cookies: `Access-Control-Allow-Credentials: true`. Browsers refuse it together with the origin `*`.
    CORS_ALLOW_CREDENTIALS: bool = "cors-allow-credentials", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// How long browsers remember the answer: `Access-Control-Max-Age`. `-1` means not at all.
    CORS_MAX_AGE: i64 = "cors-max-age", parse: value::whole_number, values: "seconds", default: "1728000",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
}

/// What a list of origins held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginList {
    /// Those that can be read.
    pub origins: Origins,
    /// Entries that are no origin.
    pub unreadable: Vec<String>,
}

impl Default for OriginList {
    fn default() -> Self {
        Self { origins: Origins::List(Vec::new()), unreadable: Vec::new() }
    }
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Cors> {
    let is_enabled = reader.value(&ENABLE_CORS);
    let origins = match reader.find(&CORS_ALLOW_ORIGIN.row) {
        None => Origins::Any,
        Some(found) => match reader.parse(&CORS_ALLOW_ORIGIN, &found) {
            Read::Value(OriginList { origins, unreadable }) => {
                if !unreadable.is_empty() {
                    let left = match &origins {
                        Origins::List(list) if list.is_empty() => "no origin is allowed",
                        _ => "the others are allowed",
                    };
                    let message = format!(
                        "holds {}, which is no origin; {left}; write scheme://name[:port], with *. before the name for one label",
                        unreadable.join(", ")
                    );
                    reader.report(&found, Effect::Warn, message);
                }
                origins
            }
            Read::Absent | Read::Invalid => Origins::List(Vec::new()),
        },
    };
    let exposed = reader.get(&CORS_EXPOSE_HEADERS).value();
    let cors = Cors {
        origins,
        methods: reader.value(&CORS_ALLOW_METHODS),
        headers: reader.value(&CORS_ALLOW_HEADERS),
        exposed,
        with_credentials: reader.value(&CORS_ALLOW_CREDENTIALS),
        max_age: reader.value(&CORS_MAX_AGE),
    };
    is_enabled.then_some(cors)
}

fn origins(text: &str) -> Result<OriginList, String> {
    let entries = || text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    if entries().any(|entry| entry == "*") {
        return Ok(OriginList { origins: Origins::Any, unreadable: Vec::new() });
    }
    let (mut list, mut unreadable) = (Vec::new(), Vec::new());
    for entry in entries() {
        match origin(entry) {
            Some(origin) => list.push(origin),
            None => unreadable.push(entry.to_owned()),
        }
    }
    Ok(OriginList { origins: Origins::List(list), unreadable })
}

/// `scheme://[*.]name[:port]`, or the `null` of documents without an origin.
fn origin(text: &str) -> Option<OriginPattern> {
    if text == "null" {
        return Some(OriginPattern { start: text.to_owned(), end: None });
    }
    let (scheme, rest) = text.split_once("://")?;
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (rest, None),
    };
    let is_wildcard = name.starts_with("*.");
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let is_name = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    let is_port =
        port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()));
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_lowercase()) || !is_name || !is_port {
        return None;
    }
    if is_wildcard {
        let end = rest.strip_prefix('*').unwrap_or_default().to_owned();
        return Some(OriginPattern { start: format!("{scheme}://"), end: Some(end) });
    }
    Some(OriginPattern { start: text.to_owned(), end: None })
}

fn list(text: &str, is_word: fn(&str) -> bool, what: &str) -> Result<String, String> {
    let mut words = text.split([',', ' ']).filter(|word| !word.is_empty());
    match words.find(|word| !is_word(word)) {
        Some(bad) => Err(format!("holds {bad:?}, which is not {what}")),
        None => Ok(text.to_owned()),
    }
}

fn is_header(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn methods(text: &str) -> Result<String, String> {
    list(text, |word| word.chars().all(|c| c.is_ascii_alphabetic()), "a method")
}

fn headers(text: &str) -> Result<String, String> {
    list(text, is_header, "the name of a header")
}

fn exposed(text: &str) -> Result<String, String> {
    list(text, |word| word == "*" || is_header(word), "the name of a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_one_by_one() {
        for good in
            ["https://a.example", "http://*.a.example:8080", "chrome-extension://x", "app://localhost"]
        {
            assert_eq!(origin(good).is_some(), !good.starts_with("chrome-"), "{good}");
        }
        assert!(origin("null").is_some());
        for bad in [
            "a.example",
            "https://",
            "https://*",
            "https://a.*.b",
            "https://a:b",
            "https://a\"",
            "~^https://",
        ] {
            assert_eq!(origin(bad), None, "{bad}");
        }
        assert_eq!(origins("https://a.example, *").unwrap().origins, Origins::Any);
        let list = origins("https://a.example,nonsense").unwrap();
        assert_eq!(list.unreadable, ["nonsense"]);
    }
}
