//! Snippets, of which a part is understood, and what is refused: the rest of them, and web application firewalls.
//!
//! Nothing is ever executed. Directives that set headers or answer are read into the same typed settings as annotations;
//! any other directive refuses the snippet, with the name of what replaces it.

mod access;
mod auth;
mod directives;
mod flow;
mod locals;
mod location;
mod replacements;
mod returns;
mod server;
mod syntax;

use super::registry::{Annotation, Row, annotations, config_keys};
use super::{Found, Reader, value};
use crate::model::policy::answer::Answer;
use crate::model::policy::answer_rewrite::Replacement;
use crate::model::policy::headers::Headers;
pub use access::Access;
pub use auth::AuthSnippet;
pub(super) use auth::read as read_auth;

annotations! { "Snippets";
    /// Read, never executed: `more_set_headers`, `more_clear_headers`, `more_set_input_headers`, `more_clear_input_headers`,
    /// `add_header`, `proxy_set_header`, `proxy_hide_header`, `grpc_set_header`, `grpc_hide_header`, `expires`, `return`,
    /// `rewrite` that redirects or ends with `break`, `set`, `if` with one comparison around these and headers of the
    /// response (of several that are true the last one's, as in nginx), `allow` and `deny`, `access_log off`,
    /// `default_type` for texts that are answered, `auth_request_set` with a header of the answer, `location` that
    /// answers, redirects or refuses (`deny all`),
    /// `limit_except` with `deny all`, `proxy_cookie_path`, `proxy_cookie_domain`, `proxy_ssl_name`, `proxy_ssl_server_name`, what is done anyway
    /// (`proxy_http_version 1.1`, `proxy_ssl_verify off`, `chunked_transfer_encoding` and the like), and comments. Unlike in ingress-nginx it
    /// needs no permission, and any other directive makes the paths answer 503; a header that the proxy sends itself is
    /// replaced, not sent twice.
    CONFIGURATION_SNIPPET: Snippet = "configuration-snippet", parse: directives::read, values: "directives of nginx, as listed",
    default: "", on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Read, never executed, for the whole host: what `configuration-snippet` reads of headers and answers, and `location`s
    /// that answer, redirect or refuse. As in ingress-nginx the oldest Ingress of the host that has one counts, what is set
    /// for each path anyway (`proxy_set_header`, `client_max_body_size`, timeouts) has no effect here, and the ConfigMap's
    /// holds for every host. Unlike in ingress-nginx it needs no permission, changes nothing for paths of other namespaces, any
    /// other directive makes the paths answer 503 (that of the ConfigMap is left out), and preflight answers of
    /// `enable-cors` stand before it.
    SERVER_SNIPPET: Server = "server-snippet", parse: server::read, values: "directives of nginx, as listed", default: "",
    on_invalid: Refuse, scope: "host", twins: [], in: Both, support: Differs;
    /// Read, never executed: `proxy_set_header` sets headers of the request to `auth-url`, `auth_request_set` names headers of
    /// its answer for `auth-signin`, and `return`, with `if` and `set`, is a verdict for which it is not asked. Unlike in ingress-nginx it needs no permission, a header that is sent anyway is
    /// replaced, `Host` and headers that frame a message are refused, and any other directive makes the paths answer 503.
    AUTH_SNIPPET: AuthSnippet = "auth-snippet", parse: auth::read, values: "proxy_set_header, auth_request_set, return, if and set of nginx",
    default: "", on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Refused: use the ConfigMaps of TCP and UDP services.
    STREAM_SNIPPET: () = "stream-snippet", parse: refused, values: "nothing", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Both, support: Refused;
    /// Refused when on: there is no web application firewall. Run one behind the ingress, or use source lists and limits.
    ENABLE_MODSECURITY: () = "enable-modsecurity", parse: switched_off, values: "false", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Both, support: Refused;
    /// Refused when on, as `enable-modsecurity`.
    ENABLE_OWASP_CORE_RULES: () = "enable-owasp-core-rules", parse: switched_off, values: "false", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Refused;
    /// Refused, as `enable-modsecurity`.
    MODSECURITY_SNIPPET: () = "modsecurity-snippet", parse: refused, values: "nothing", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Both, support: Refused;
    /// Refused, as `enable-modsecurity`.
    MODSECURITY_TRANSACTION_ID: () = "modsecurity-transaction-id", parse: refused, values: "nothing", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Refused;
}

config_keys! { "Snippets, cluster-wide";
    /// Unless it is `true`, the webhook denies an Ingress with a snippet, as in ingress-nginx. Unlike there, one that is
    /// stored all the same has what is read of snippets, which needs no permission; the rest is refused in any case.
    ALLOW_SNIPPET_ANNOTATIONS: bool = "allow-snippet-annotations", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Differs;
    /// Accepted: no annotation has a risk that a level would keep out.
    ANNOTATIONS_RISK_LEVEL: String = "annotations-risk-level", parse: risk_level, values: "Low, Medium, High or Critical",
    default: "High", on_invalid: Warn, support: Ignored;
    /// The webhook denies an Ingress with one of these words in the value of an annotation, as in ingress-nginx. Unlike
    /// there, one that is stored all the same is served: values are read by type, so that no word in them can do harm.
    ANNOTATION_VALUE_WORD_BLOCKLIST: String = "annotation-value-word-blocklist", parse: any, values: "words, separated by commas",
    default: "", on_invalid: Warn, support: Differs;
    /// Refused: use command line flags and the other keys.
    MAIN_SNIPPET: () = "main-snippet", parse: refused, values: "nothing", default: "", on_invalid: Warn, support: Refused;
    /// Refused: use `add-headers`, `proxy-set-headers` and the other keys.
    HTTP_SNIPPET: () = "http-snippet", parse: refused, values: "nothing", default: "", on_invalid: Warn, support: Refused;
    /// As `configuration-snippet`, for all paths of all Ingresses, before theirs. What is not understood leaves it out whole.
    LOCATION_SNIPPET: Snippet = "location-snippet", parse: directives::read, values: "directives of nginx, as listed",
    default: "", on_invalid: Warn, support: Differs;
    /// Refused when on, as `enable-modsecurity`.
    ENABLE_OWASP_MODSECURITY_CRS: () = "enable-owasp-modsecurity-crs", parse: switched_off, values: "false", default: "",
    on_invalid: Warn, support: Refused;
    /// Refused when on: there is no database of places. Use source lists.
    USE_GEOIP: () = "use-geoip", parse: switched_off, values: "false", default: "", on_invalid: Warn, support: Refused;
    /// Refused when on, as `use-geoip`.
    USE_GEOIP2: () = "use-geoip2", parse: switched_off, values: "false", default: "", on_invalid: Warn, support: Refused;
}

/// What a snippet says, as settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snippet {
    /// Changes of headers.
    pub headers: Headers,
    /// Answers without a backend.
    pub answers: Vec<Answer>,
    /// `proxy_cookie_path`.
    pub cookie_path: Option<Replacement>,
    /// `proxy_cookie_domain`.
    pub cookie_domain: Option<Replacement>,
    /// `proxy_ssl_name`, `proxy_ssl_server_name`.
    pub upstream_tls: Option<UpstreamName>,
    /// Headers of the answer of external authentication that the others quote, lower case.
    pub auth_headers: Vec<String>,
    /// `allow` and `deny`.
    pub access: Access,
    /// `access_log off`.
    pub is_unlogged: bool,
}

/// The server name that endpoints learn in the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamName {
    /// Which.
    pub name: Option<String>,
    /// It is sent.
    pub is_named: bool,
}

/// What a snippet says about a whole host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Answers, and for which paths.
    pub answers: Vec<(Reach, Answer)>,
    /// Changes of headers.
    pub headers: Headers,
    /// `allow` and `deny`.
    pub access: Access,
    /// `access_log off`.
    pub is_unlogged: bool,
}

/// Which requests come to a `location` of a snippet though the host has paths of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of the host.
    Everything,
    /// All that it is for: nginx looks for exact ones first.
    Exact,
    /// Those that no path is exactly for.
    Expression,
    /// Those that no longer path takes, and no expression unless it ends the search.
    Prefix {
        /// The path.
        path: String,
        /// It ends the search (`^~`).
        is_first: bool,
    },
}

impl Snippet {
    /// What another one adds behind this one.
    fn append(&mut self, other: Self) {
        self.headers.request.extend(other.headers.request);
        self.headers.response.extend(other.headers.response);
        self.answers.extend(other.answers);
        self.cookie_path = other.cookie_path.or(self.cookie_path.take());
        self.cookie_domain = other.cookie_domain.or(self.cookie_domain.take());
        self.upstream_tls = other.upstream_tls.or(self.upstream_tls.take());
        self.access.append(other.access);
        self.is_unlogged |= other.is_unlogged;
        self.auth_headers.extend(other.auth_headers);
        self.auth_headers.sort();
        self.auth_headers.dedup();
    }
}

/// What each refused key is replaced by.
const REFUSED: &[(&Row, &str)] = &[
    (&STREAM_SNIPPET.row, "use the ConfigMaps of TCP and UDP services"),
    (&ENABLE_MODSECURITY.row, "there is no web application firewall; run one behind the ingress"),
    (&ENABLE_OWASP_CORE_RULES.row, "there is no web application firewall; run one behind the ingress"),
    (&MODSECURITY_SNIPPET.row, "there is no web application firewall; run one behind the ingress"),
    (&MODSECURITY_TRANSACTION_ID.row, "there is no web application firewall; run one behind the ingress"),
    (&MAIN_SNIPPET.row, "use command line flags and the other keys"),
    (&HTTP_SNIPPET.row, "use add-headers, proxy-set-headers and the other keys"),
    (&ENABLE_OWASP_MODSECURITY_CRS.row, "there is no web application firewall; run one behind the ingress"),
    (&USE_GEOIP.row, "there is no database of places; use source lists"),
    (&USE_GEOIP2.row, "there is no database of places; use source lists"),
];

pub(super) fn parse(reader: &mut Reader<'_>) -> Snippet {
    for (row, replacement) in REFUSED {
        if let Some(found) = reader.find(row)
            && (row.check)(found.text.trim()).is_err()
        {
            reader.refuse(row, &found, replacement);
        }
    }
    let mut snippet = of_config(reader, &LOCATION_SNIPPET).unwrap_or_default();
    if let Some(found) = reader.find(&CONFIGURATION_SNIPPET.row) {
        snippet.append(parsed(reader, &CONFIGURATION_SNIPPET, &found).unwrap_or_default());
    }
    snippet
}

/// What the Ingress says about its hosts.
pub(super) fn parse_server(reader: &mut Reader<'_>) -> Option<Server> {
    let found = reader.find(&SERVER_SNIPPET.row).filter(|found| !found.is_config)?;
    parsed(reader, &SERVER_SNIPPET, &found)
}

/// What the ConfigMap says about all hosts.
pub(super) fn parse_servers(reader: &mut Reader<'_>) -> Server {
    of_config(reader, &SERVER_SNIPPET).unwrap_or_default()
}

/// What the service that authenticates is told, and what of its answer has a name.
pub(super) fn parse_auth(reader: &mut Reader<'_>) -> AuthSnippet {
    let found = reader.find(&AUTH_SNIPPET.row);
    found.and_then(|found| parsed(reader, &AUTH_SNIPPET, &found)).unwrap_or_default()
}

fn of_config<T>(reader: &mut Reader<'_>, key: &'static Annotation<T>) -> Option<T> {
    let found = reader.find_configured(&key.row)?;
    parsed(reader, key, &found)
}

fn parsed<T>(reader: &mut Reader<'_>, key: &'static Annotation<T>, found: &Found<'_>) -> Option<T> {
    match (key.parse)(found.text) {
        Ok(value) => Some(value),
        Err(reason) => {
            reader.refuse(&key.row, found, &reason);
            None
        }
    }
}

/// Keys that only the ConfigMap has and that change nothing.
pub(super) fn check_cluster(reader: &mut Reader<'_>) {
    reader.value(&ALLOW_SNIPPET_ANNOTATIONS);
    reader.value(&ANNOTATIONS_RISK_LEVEL);
}

fn refused(_text: &str) -> Result<(), String> {
    Err("is refused".to_owned())
}

fn switched_off(text: &str) -> Result<(), String> {
    if value::boolean(text) == Ok(false) { Ok(()) } else { Err("is refused".to_owned()) }
}

fn risk_level(text: &str) -> Result<String, String> {
    match text {
        "Low" | "Medium" | "High" | "Critical" => Ok(text.to_owned()),
        _ => Err("is no level of risk".to_owned()),
    }
}

fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}
