//! `configuration-snippet`, of which a part is understood, and what is refused: snippets and web application firewalls.
//!
//! Nothing is ever executed. Directives that set headers or answer are read into the same typed settings as annotations;
//! any other directive refuses the snippet, with the name of what replaces it.

mod directives;
mod syntax;

use super::registry::{Row, annotations, config_keys};
use super::{Reader, value};
use crate::model::policy::answer::Answer;
use crate::model::policy::answer_rewrite::Replacement;
use crate::model::policy::headers::Headers;

annotations! { "Snippets";
    /// Read, never executed: `more_set_headers`, `more_clear_headers`, `more_set_input_headers`, `more_clear_input_headers`,
    /// `add_header`, `proxy_set_header`, `proxy_hide_header`, `grpc_set_header`, `grpc_hide_header`, `expires`, `return`,
    /// `rewrite` that redirects, `if` with one comparison around one of these two and headers of that answer,
    /// `proxy_cookie_path`, `proxy_cookie_domain`, and comments. Unlike in ingress-nginx it
    /// needs no permission, and any other directive makes the paths answer 503; a header that the proxy sends itself is
    /// replaced, not sent twice.
    CONFIGURATION_SNIPPET: Snippet = "configuration-snippet", parse: directives::read, values: "directives of nginx, as listed",
    default: "", on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Refused: it would be configuration of a whole server. Use the annotations for what it does, and
    /// `configuration-snippet` for headers.
    SERVER_SNIPPET: () = "server-snippet", parse: refused, values: "nothing", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Both, support: Refused;
    /// Refused: use `auth-response-headers` and `auth-proxy-set-headers`.
    AUTH_SNIPPET: () = "auth-snippet", parse: refused, values: "nothing", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Refused;
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
    /// Accepted: what is read of snippets needs no permission, and the rest is refused in any case.
    ALLOW_SNIPPET_ANNOTATIONS: bool = "allow-snippet-annotations", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Ignored;
    /// Accepted: no annotation has a risk that a level would keep out.
    ANNOTATIONS_RISK_LEVEL: String = "annotations-risk-level", parse: risk_level, values: "Low, Medium, High or Critical",
    default: "High", on_invalid: Warn, support: Ignored;
    /// Accepted: values are read by type, so that no word in them can do harm.
    ANNOTATION_VALUE_WORD_BLOCKLIST: String = "annotation-value-word-blocklist", parse: any, values: "words, separated by commas",
    default: "", on_invalid: Warn, support: Ignored;
    /// Refused: use command line flags and the other keys.
    MAIN_SNIPPET: () = "main-snippet", parse: refused, values: "nothing", default: "", on_invalid: Warn, support: Refused;
    /// Refused: use `add-headers`, `proxy-set-headers` and the other keys.
    HTTP_SNIPPET: () = "http-snippet", parse: refused, values: "nothing", default: "", on_invalid: Warn, support: Refused;
    /// Refused: use `add-headers`, `proxy-set-headers` and the other keys.
    LOCATION_SNIPPET: () = "location-snippet", parse: refused, values: "nothing", default: "",
    on_invalid: Warn, support: Refused;
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
}

/// What each refused key is replaced by.
const REFUSED: &[(&Row, &str)] = &[
    (&SERVER_SNIPPET.row, "use the annotations for what it does, and configuration-snippet for headers"),
    (&AUTH_SNIPPET.row, "use auth-response-headers and auth-proxy-set-headers"),
    (&STREAM_SNIPPET.row, "use the ConfigMaps of TCP and UDP services"),
    (&ENABLE_MODSECURITY.row, "there is no web application firewall; run one behind the ingress"),
    (&ENABLE_OWASP_CORE_RULES.row, "there is no web application firewall; run one behind the ingress"),
    (&MODSECURITY_SNIPPET.row, "there is no web application firewall; run one behind the ingress"),
    (&MODSECURITY_TRANSACTION_ID.row, "there is no web application firewall; run one behind the ingress"),
    (&MAIN_SNIPPET.row, "use command line flags and the other keys"),
    (&HTTP_SNIPPET.row, "use add-headers, proxy-set-headers and the other keys"),
    (&LOCATION_SNIPPET.row, "use add-headers, proxy-set-headers and the other keys"),
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
    let Some(found) = reader.find(&CONFIGURATION_SNIPPET.row) else { return Snippet::default() };
    match directives::read(found.text) {
        Ok(snippet) => snippet,
        Err(reason) => {
            reader.refuse(&CONFIGURATION_SNIPPET.row, &found, &reason);
            Snippet::default()
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
