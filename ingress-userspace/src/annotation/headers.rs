//! Header fields: of an Ingress, and of the whole cluster.

use super::registry::{annotations, config_keys};
use super::{Reader, value};
use crate::model::global::{FieldNames, Fields, ServerField};
use crate::model::policy::headers::{HeaderAction, HeaderChange, Headers, When};
use crate::model::template::Template;

/// A ConfigMap: its namespace, if it is written, and its name.
pub type ConfigMapName = (Option<String>, String);

annotations! { "Headers";
    /// The `Host` that the backend sees; `X-Forwarded-Host` keeps the client's. It may hold variables, such as
    /// `$service_name.$namespace.svc.cluster.local`.
    UPSTREAM_VHOST: Template = "upstream-vhost", parse: value::text::virtual_host, values: "a host name, with variables",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// The `Connection` that the backend sees. Upgrades (WebSocket) do not work with it.
    CONNECTION_PROXY_HEADER: String = "connection-proxy-header", parse: connection, values: "keep-alive or close",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// A ConfigMap with headers for every answer. Each name must stand in the ConfigMap key
    /// `global-allowed-response-headers`; otherwise, or without the ConfigMap, the paths answer 503.
    CUSTOM_HEADERS: ConfigMapName = "custom-headers", parse: value::text::config_map,
    values: "namespace/name of a ConfigMap", default: "",
    on_invalid: Deny, scope: "path", twins: [], in: Annotation, support: Same;
}

config_keys! { "Headers, cluster-wide";
    /// A ConfigMap with headers for every request that goes to a backend. The values may hold variables. Unlike in
    /// ingress-nginx a header that the proxy sends itself is replaced, not sent twice.
    PROXY_SET_HEADERS: ConfigMapName = "proxy-set-headers", parse: value::text::config_map,
    values: "namespace/name of a ConfigMap", default: "", on_invalid: Warn, support: Differs;
    /// A ConfigMap with headers for every answer, our own included. The values may hold variables.
    ADD_HEADERS: ConfigMapName = "add-headers", parse: value::text::config_map,
    values: "namespace/name of a ConfigMap", default: "", on_invalid: Warn, support: Same;
    /// Headers of backends that clients do not see.
    HIDE_HEADERS: Vec<String> = "hide-headers", parse: value::text::header_names,
    values: "names of headers, separated by commas", default: "", on_invalid: Warn, support: Same;
    /// The headers that `custom-headers` may set.
    GLOBAL_ALLOWED_RESPONSE_HEADERS: Vec<String> = "global-allowed-response-headers", parse: value::text::header_names,
    values: "names of headers, separated by commas", default: "", on_invalid: Warn, support: Same;
    /// Lets the `Server` header of backends through.
    ALLOW_BACKEND_SERVER_HEADER: bool = "allow-backend-server-header", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// Sends a `Server` header of our own. Unlike in ingress-nginx it names Portcullis.
    SERVER_TOKENS: bool = "server-tokens", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Differs;
    /// Sends `Strict-Transport-Security` with every answer over TLS but redirects to or from `www.`: browsers will not use
    /// cleartext for them again.
    HSTS: bool = "hsts", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, support: Same;
    /// For how long.
    HSTS_MAX_AGE: u32 = "hsts-max-age", parse: value::integer, values: "seconds",
    default: "31536000", on_invalid: Warn, support: Same;
    /// It holds for all names below, too.
    HSTS_INCLUDE_SUBDOMAINS: bool = "hsts-include-subdomains", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, support: Same;
    /// Asks for a place on the browsers' list.
    HSTS_PRELOAD: bool = "hsts-preload", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// Takes headers with `_` in their names, which are dropped otherwise: some backends read them as `-`.
    ENABLE_UNDERSCORES_IN_HEADERS: bool = "enable-underscores-in-headers", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// Drops headers with other signs in their names than letters, digits and `-`.
    IGNORE_INVALID_HEADERS: bool = "ignore-invalid-headers", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, support: Same;
    /// Gives a request without `X-Request-ID` one. Unlike in ingress-nginx `$req_id` has one in any case, for the access log.
    GENERATE_REQUEST_ID: bool = "generate-request-id", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, support: Differs;
    /// Sends the URI of the client to backends as `X-Original-URI`.
    PROXY_ADD_ORIGINAL_URI_HEADER: bool = "proxy-add-original-uri-header", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
}

/// What an Ingress asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressHeaders {
    /// Fields that need nothing else to be known.
    pub changes: Headers,
    /// The ConfigMap of `custom-headers`.
    pub custom: Option<ConfigMapName>,
}

/// What the ConfigMap asks for, beside what its other ConfigMaps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterHeaders {
    /// The ConfigMap of `proxy-set-headers`.
    pub request: Option<ConfigMapName>,
    /// The ConfigMap of `add-headers`.
    pub response: Option<ConfigMapName>,
    /// `global-allowed-response-headers`.
    pub allowed: Vec<String>,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> IngressHeaders {
    let mut changes = Headers::default();
    if let Some(host) = reader.get(&UPSTREAM_VHOST).value() {
        changes.request.push(set("host", host));
    }
    if let Some(connection) = reader.get(&CONNECTION_PROXY_HEADER).value() {
        changes.request.push(set("connection", Template::text(connection)));
    }
    IngressHeaders { changes, custom: reader.get(&CUSTOM_HEADERS).value() }
}

/// The settings of the whole cluster.
pub(super) fn parse_cluster(reader: &mut Reader<'_>) -> (Fields, ClusterHeaders) {
    let (max_age, with_names_below, is_preloaded) =
        (reader.value(&HSTS_MAX_AGE), reader.value(&HSTS_INCLUDE_SUBDOMAINS), reader.value(&HSTS_PRELOAD));
    let hsts = reader.value(&HSTS).then(|| {
        let below = if with_names_below { "; includeSubDomains" } else { "" };
        let preload = if is_preloaded { "; preload" } else { "" };
        format!("max-age={max_age}{below}{preload}")
    });
    let hide = |name| HeaderChange {
        name,
        action: HeaderAction::Remove,
        when: When { is_from_backend: true, ..When::default() },
    };
    let response: Vec<HeaderChange> = reader.value(&HIDE_HEADERS).into_iter().map(hide).collect();
    let names = match (reader.value(&ENABLE_UNDERSCORES_IN_HEADERS), reader.value(&IGNORE_INVALID_HEADERS)) {
        (false, true) => FieldNames::Plain,
        (true, true) => FieldNames::Underscores,
        (false, false) => FieldNames::AnyWithoutUnderscores,
        (true, false) => FieldNames::Any,
    };
    let server = match (reader.value(&ALLOW_BACKEND_SERVER_HEADER), reader.value(&SERVER_TOKENS)) {
        (true, _) => ServerField::Backend,
        (false, true) => ServerField::Own,
        (false, false) => ServerField::Nothing,
    };
    let fields = Fields {
        hsts,
        changes: Headers { request: Vec::new(), response },
        server,
        names,
        omits_request_id: !reader.value(&GENERATE_REQUEST_ID),
        adds_original_uri: reader.value(&PROXY_ADD_ORIGINAL_URI_HEADER),
    };
    let cluster = ClusterHeaders {
        request: reader.get(&PROXY_SET_HEADERS).value(),
        response: reader.get(&ADD_HEADERS).value(),
        allowed: reader.value(&GLOBAL_ALLOWED_RESPONSE_HEADERS),
    };
    (fields, cluster)
}

/// A change of every request or response.
pub fn set(name: &str, value: Template) -> HeaderChange {
    HeaderChange { name: name.to_ascii_lowercase(), action: HeaderAction::Set(value), when: When::default() }
}

/// Fields that say where a message ends or whom it passes: nobody sets them.
pub fn is_framing(name: &str) -> bool {
    let framing = [
        "connection",
        "content-length",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
    ];
    framing.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn connection(text: &str) -> Result<String, String> {
    match text {
        "keep-alive" | "close" => Ok(text.to_owned()),
        _ => Err("is neither keep-alive nor close".to_owned()),
    }
}
