//! `auth-url` and what belongs to it, and the cluster-wide twin of each, `global-auth-*`.

use super::registry::{Annotation, annotations, config_keys};
use super::snippet::{self, AuthSnippet};
use super::value::url::{self, UrlText};
use super::value::{self, auth};
use super::{Effect, Found, Read, Reader};
use crate::model::policy::auth_external::{CacheDuration, StatedVerdict};
use crate::model::template::{Part, Template};

annotations! { "External authentication";
    /// Asks this service about every request before it is let through: 2xx lets it pass, 401 and 403 are the answer (401 with
    /// the service's `WWW-Authenticate`), and every other answer is 500, as is none. The service gets all headers of the
    /// request without its body, with `X-Original-URL`, `X-Original-Method`, `X-Real-IP`, `X-Forwarded-For`, `X-Request-ID`,
    /// `X-Auth-Request-Redirect` and `X-Sent-From`, and where `auth-tls-secret` asks for certificates the `ssl-client-*`
    /// headers; each `Set-Cookie` of its answer goes to the client. Not for paths of
    /// ConfigMap `no-auth-locations`. Variables are allowed, in the host only those that a client cannot fill in freely.
    /// Unlike in ingress-nginx, a host of our own rules is asked without leaving the process, names of Services follow
    /// their endpoints, what clients claim in `X-Forwarded-*` is not passed on, and in a cluster the URL may not point to
    /// the node or the API server unless ConfigMap `allow-local-urls` is true.
    AUTH_URL: UrlText = "auth-url", parse: url::url, values: "a URL such as http://auth.auth.svc.cluster.local/verify",
    default: "", on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Differs;
    /// The method of the request to `auth-url`. If it is given, the service also gets `X-Original-URI` and `X-Scheme`.
    /// Unlike in ingress-nginx, `CONNECT` is refused.
    AUTH_METHOD: String = "auth-method", parse: auth::method, values: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or TRACE",
    default: "", on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Where a client is sent by 302 instead of 401. The way back is appended as `rd` (or `auth-signin-redirect-param`) unless
    /// the URL has that argument. A path is one of the host that was asked for. The host may hold variables such as
    /// `$host`, and unlike in ingress-nginx none that a client fills in freely.
    AUTH_SIGNIN: Template = "auth-signin", parse: url::location, values: "a URL such as https://$host/oauth2/start",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Differs;
    /// The argument of `auth-signin` that holds the way back.
    AUTH_SIGNIN_REDIRECT_PARAM: String = "auth-signin-redirect-param", parse: auth::argument, values: "the name of an argument",
    default: "rd", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// What the service is told as `X-Auth-Request-Redirect` instead of the URI of the request.
    AUTH_REQUEST_REDIRECT: Template = "auth-request-redirect", parse: url::template, values: "text with variables",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Headers of the service's answer that the backend gets. They replace what the client sent; what the answer does not
    /// have is removed. Unlike in ingress-nginx, headers that frame a message (`Host`, `Content-Length`, `Connection`
    /// and the like) are refused.
    AUTH_RESPONSE_HEADERS: Vec<String> = "auth-response-headers", parse: auth::response_headers,
    values: "names of headers, separated by commas",
    default: "", on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Differs;
    /// A ConfigMap whose entries the service gets as further headers; without it the paths answer 503. Unlike in ingress-nginx
    /// the namespace may be left out.
    AUTH_PROXY_SET_HEADERS: String = "auth-proxy-set-headers", parse: auth::reference,
    values: "the name of a ConfigMap in the Ingress's namespace, with or without namespace/",
    default: "", on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Keeps the verdicts of the service: requests share one if this text is the same. Unlike in ingress-nginx the host, path,
    /// method, `Authorization`, client certificate and cookies of a request count as well (the cookies not if the text names one that
    /// the request has), so that no key can give one client the identity of another. Answers that set cookies, or forbid it by
    /// `Cache-Control`, are not kept.
    AUTH_CACHE_KEY: Template = "auth-cache-key", parse: auth::cache_key, values: "text with variables, such as $http_authorization",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Differs;
    /// For how long verdicts are kept: groups of statuses with a time. A group without statuses means 200, 301 and 302,
    /// `any` means all; the first group that names a status counts.
    AUTH_CACHE_DURATION: Vec<CacheDuration> = "auth-cache-duration", parse: auth::cache_durations,
    values: "groups such as 200 202 30m, 401 1m", default: "200 202 401 5m",
    on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Same;
    /// Cookies of the service's answer go to the client whatever the status of the response. Otherwise only with 200, 201, 204,
    /// 206, 301, 302, 303, 304, 307 and 308.
    AUTH_ALWAYS_SET_COOKIE: bool = "auth-always-set-cookie", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Accepted. Connections to the service are always kept.
    AUTH_KEEPALIVE: u32 = "auth-keepalive", parse: value::integer, values: "a number", default: "0",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Ignored;
    /// Accepted. A connection to the service serves any number of requests.
    AUTH_KEEPALIVE_REQUESTS: u32 = "auth-keepalive-requests", parse: value::integer, values: "a number", default: "1000",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Ignored;
    /// Accepted. An idle connection to the service is kept for a minute.
    AUTH_KEEPALIVE_TIMEOUT: u32 = "auth-keepalive-timeout", parse: value::integer, values: "seconds", default: "60",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Ignored;
    /// Accepted. Variables are those of the request in any case.
    AUTH_KEEPALIVE_SHARE_VARS: bool = "auth-keepalive-share-vars", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Ignored;
    /// `false`: the Ingress takes no part in `global-auth-url`.
    ENABLE_GLOBAL_AUTH: bool = "enable-global-auth", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
}

config_keys! { "External authentication, cluster-wide";
    /// `auth-url` of every Ingress that has none and did not opt out by `enable-global-auth`. If it cannot be read, their paths
    /// answer 503.
    GLOBAL_AUTH_URL: UrlText = "global-auth-url", parse: url::url, values: "a URL such as http://auth.auth.svc.cluster.local/verify",
    default: "", on_invalid: Deny, support: Differs;
    /// `auth-method` of `global-auth-url`.
    GLOBAL_AUTH_METHOD: String = "global-auth-method", parse: auth::method,
    values: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or TRACE", default: "", on_invalid: Deny, support: Differs;
    /// `auth-signin` of `global-auth-url`.
    GLOBAL_AUTH_SIGNIN: Template = "global-auth-signin", parse: url::location, values: "a URL such as https://$host/oauth2/start",
    default: "", on_invalid: Warn, support: Differs;
    /// `auth-signin-redirect-param` of `global-auth-url`.
    GLOBAL_AUTH_SIGNIN_REDIRECT_PARAM: String = "global-auth-signin-redirect-param", parse: auth::argument,
    values: "the name of an argument", default: "rd", on_invalid: Warn, support: Same;
    /// `auth-response-headers` of `global-auth-url`.
    GLOBAL_AUTH_RESPONSE_HEADERS: Vec<String> = "global-auth-response-headers", parse: auth::response_headers,
    values: "names of headers, separated by commas", default: "", on_invalid: Deny, support: Differs;
    /// `auth-request-redirect` of `global-auth-url`.
    GLOBAL_AUTH_REQUEST_REDIRECT: Template = "global-auth-request-redirect", parse: url::template, values: "text with variables",
    default: "", on_invalid: Warn, support: Same;
    /// `auth-cache-key` of `global-auth-url`.
    GLOBAL_AUTH_CACHE_KEY: Template = "global-auth-cache-key", parse: auth::cache_key,
    values: "text with variables, such as $http_authorization", default: "", on_invalid: Warn, support: Differs;
    /// `auth-cache-duration` of `global-auth-url`.
    GLOBAL_AUTH_CACHE_DURATION: Vec<CacheDuration> = "global-auth-cache-duration", parse: auth::cache_durations,
    values: "groups such as 200 202 30m, 401 1m", default: "200 202 401 5m", on_invalid: Warn, support: Same;
    /// `auth-always-set-cookie` of `global-auth-url`.
    GLOBAL_AUTH_ALWAYS_SET_COOKIE: bool = "global-auth-always-set-cookie", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// `auth-snippet` of `global-auth-url`. One that cannot be read is left out, and the service is asked all the same.
    GLOBAL_AUTH_SNIPPET: AuthSnippet = "global-auth-snippet", parse: snippet::read_auth,
    values: "proxy_set_header, auth_request_set, return, if and set of nginx", default: "", on_invalid: Warn,
    support: Differs;
    /// Paths of Ingresses that are not authenticated, in any way: those that begin with one of these. The challenges of ACME
    /// (HTTP-01) must be among them.
    NO_AUTH_LOCATIONS: Vec<String> = "no-auth-locations", parse: value::locations,
    values: "path prefixes, separated by commas", default: "/.well-known/acme-challenge", on_invalid: Warn, support: Same;
}

/// What is asked before a request is let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAuth {
    /// Who is asked.
    pub url: UrlText,
    /// The URL stands in the ConfigMap.
    pub is_global: bool,
    /// Method of the question, if one was given.
    pub method: Option<String>,
    /// Where to sign in, with the way back.
    pub signin: Option<Template>,
    /// What the service is told about the way back.
    pub request_redirect: Option<Template>,
    /// Headers of the answer for the backend, lower case.
    pub response_headers: Vec<String>,
    /// Headers of the answer that other settings quote, lower case.
    pub quoted_headers: Vec<String>,
    /// Headers that the service gets, of `auth-snippet`.
    pub request_headers: Vec<(String, Template)>,
    /// Verdicts of `auth-snippet` for which the service is not asked.
    pub stated: Vec<StatedVerdict>,
    /// ConfigMap with further headers, as written.
    pub headers_from: Option<String>,
    /// Key and times of kept verdicts.
    pub cache: Option<(Template, Vec<CacheDuration>)>,
    /// Cookies whatever the status.
    pub sets_cookies_always: bool,
}

/// The keys of one kind, annotations or cluster-wide.
struct Keys {
    method: &'static Annotation<String>,
    signin: &'static Annotation<Template>,
    parameter: &'static Annotation<String>,
    redirect: &'static Annotation<Template>,
    response_headers: &'static Annotation<Vec<String>>,
    headers_from: Option<&'static Annotation<String>>,
    cache_key: &'static Annotation<Template>,
    cache_duration: &'static Annotation<Vec<CacheDuration>>,
    always: &'static Annotation<bool>,
}

const OWN: Keys = Keys {
    method: &AUTH_METHOD,
    signin: &AUTH_SIGNIN,
    parameter: &AUTH_SIGNIN_REDIRECT_PARAM,
    redirect: &AUTH_REQUEST_REDIRECT,
    response_headers: &AUTH_RESPONSE_HEADERS,
    headers_from: Some(&AUTH_PROXY_SET_HEADERS),
    cache_key: &AUTH_CACHE_KEY,
    cache_duration: &AUTH_CACHE_DURATION,
    always: &AUTH_ALWAYS_SET_COOKIE,
};

const GLOBAL: Keys = Keys {
    method: &GLOBAL_AUTH_METHOD,
    signin: &GLOBAL_AUTH_SIGNIN,
    parameter: &GLOBAL_AUTH_SIGNIN_REDIRECT_PARAM,
    redirect: &GLOBAL_AUTH_REQUEST_REDIRECT,
    response_headers: &GLOBAL_AUTH_RESPONSE_HEADERS,
    headers_from: None,
    cache_key: &GLOBAL_AUTH_CACHE_KEY,
    cache_duration: &GLOBAL_AUTH_CACHE_DURATION,
    always: &GLOBAL_AUTH_ALWAYS_SET_COOKIE,
};

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<ExternalAuth> {
    let snippet = snippet::parse_auth(reader);
    for number in [&AUTH_KEEPALIVE, &AUTH_KEEPALIVE_REQUESTS, &AUTH_KEEPALIVE_TIMEOUT] {
        reader.get(number);
    }
    reader.get(&AUTH_KEEPALIVE_SHARE_VARS);
    let of_all = reader.get(&GLOBAL_AUTH_SNIPPET).value().unwrap_or_default();
    let takes_part = reader.value(&ENABLE_GLOBAL_AUTH);
    match reader.get(&AUTH_URL) {
        Read::Value(url) => return Some(read(reader, url, &OWN, snippet)),
        // The finding denies the paths.
        Read::Invalid => return None,
        Read::Absent => note_idle(reader),
    }
    if !takes_part {
        return None;
    }
    let url = reader.get(&GLOBAL_AUTH_URL).value()?;
    Some(read(reader, url, &GLOBAL, of_all))
}

/// Paths that are not authenticated.
pub(super) fn exempt(reader: &mut Reader<'_>) -> Vec<String> {
    reader.value(&NO_AUTH_LOCATIONS)
}

fn read(reader: &mut Reader<'_>, url: UrlText, keys: &Keys, snippet: AuthSnippet) -> ExternalAuth {
    let parameter = reader.value(keys.parameter);
    let signin = signin(reader, keys.signin, &snippet).map(|signin| with_way_back(signin, &parameter));
    let durations = reader.value(keys.cache_duration);
    ExternalAuth {
        url,
        is_global: keys.headers_from.is_none(),
        method: reader.get(keys.method).value(),
        signin,
        request_redirect: reader.get(keys.redirect).value(),
        response_headers: reader.get(keys.response_headers).value().unwrap_or_default(),
        quoted_headers: snippet.quoted,
        request_headers: snippet.headers,
        stated: snippet.verdicts,
        headers_from: keys.headers_from.and_then(|key| reader.get(key).value()),
        cache: reader.get(keys.cache_key).value().map(|key| (key, durations)),
        sets_cookies_always: reader.value(keys.always),
    }
}

/// Where to sign in; what the snippet names may stand in it.
fn signin(
    reader: &mut Reader<'_>,
    key: &'static Annotation<Template>,
    snippet: &AuthSnippet,
) -> Option<Template> {
    let found = reader.find(&key.row)?;
    let text = snippet.fill(found.text);
    reader.parse(key, &Found { text: &text, ..found }).value()
}

/// Details of an authentication that is not asked for.
fn note_idle(reader: &mut Reader<'_>) {
    let rows = [
        &AUTH_METHOD.row,
        &AUTH_SIGNIN.row,
        &AUTH_SIGNIN_REDIRECT_PARAM.row,
        &AUTH_REQUEST_REDIRECT.row,
        &AUTH_RESPONSE_HEADERS.row,
        &AUTH_PROXY_SET_HEADERS.row,
        &AUTH_CACHE_KEY.row,
        &AUTH_CACHE_DURATION.row,
        &AUTH_ALWAYS_SET_COOKIE.row,
        &snippet::AUTH_SNIPPET.row,
    ];
    for row in rows {
        if reader.text(row.key).is_some_and(|(_, text)| !text.trim().is_empty()) {
            reader.note(row.key, Effect::Note, "does nothing without auth-url; add that, or remove this");
        }
    }
}

/// Appends the argument with the way back, unless the URL has it.
fn with_way_back(mut signin: Template, parameter: &str) -> Template {
    let written = signin.to_string();
    let query = written.split_once('?').map(|(_, query)| query);
    let has_it = |query: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().any(|(name, value)| name == parameter && !value.is_empty())
    };
    let separator = match query {
        Some(query) if has_it(query) => return signin,
        Some(query) if !query.is_empty() => '&',
        Some(_) | None => '?',
    };
    let separator = if query == Some("") { String::new() } else { separator.to_string() };
    signin.0.push(Part::Text(format!("{separator}{parameter}=")));
    if let Ok(back) = Template::parse("$scheme://$http_host$escaped_request_uri") {
        signin.0.extend(back.0);
    }
    signin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_appended_once() {
        const BACK: &str = "${scheme}://${http_host}${escaped_request_uri}";
        for (signin, parameter, expected) in [
            ("https://$host/oauth2/start", "rd", format!("https://${{host}}/oauth2/start?rd={BACK}")),
            ("https://sso.example/?a=b", "next", format!("https://sso.example/?a=b&next={BACK}")),
            ("https://sso.example/?rd=$request_uri", "rd", "https://sso.example/?rd=${request_uri}".into()),
            ("https://sso.example/?rd=", "rd", format!("https://sso.example/?rd=&rd={BACK}")),
            ("https://sso.example/?", "rd", format!("https://sso.example/?rd={BACK}")),
            ("/login", "rd", format!("/login?rd={BACK}")),
        ] {
            let signin = url::location(signin).unwrap();
            assert_eq!(with_way_back(signin, parameter).to_string(), expected);
        }
    }
}
