//! Redirects of every kind: to HTTPS, to another URL, to the start page, to and from `www.`.

use super::registry::{annotations, config_keys};
use super::{Reader, value};
use crate::model::policy::answer::LocationForm;
use crate::model::template::Template;

annotations! { "Redirects";
    /// Redirects from HTTP to HTTPS with status 308 (ConfigMap `http-redirect-code`) if an Ingress of the host has
    /// a TLS section, and the host is not the catch-all. The port and a trailing `/` are dropped. Not for paths under `/.well-known/acme-challenge` (ConfigMap
    /// `no-tls-redirect-locations`): by the path of the Ingress as in ingress-nginx, and by the path of the request too.
    SSL_REDIRECT: bool = "ssl-redirect", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// The same without a certificate: for TLS that ends before the ingress.
    FORCE_SSL_REDIRECT: bool = "force-ssl-redirect", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Keeps a `/` at the end of the URI in redirects to HTTPS.
    PRESERVE_TRAILING_SLASH: bool = "preserve-trailing-slash", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Names the port in redirects: that of HTTPS when redirecting there, that of the connection in the redirect to a path
    /// with `/` at its end.
    USE_PORT_IN_REDIRECTS: bool = "use-port-in-redirects", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Redirects to a path of the same host name only the path: those to a path with `/` at its end, and those of a snippet.
    RELATIVE_REDIRECTS: bool = "relative-redirects", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Redirects requests for exactly `/` to this path of the same host, with status 302 and before anything else.
    APP_ROOT: Template = "app-root", parse: value::text::app_root, values: "a path such as /app", default: "",
    on_invalid: Warn, scope: "the whole host; the oldest Ingress with it counts", twins: [], in: Annotation, support: Same;
    /// Redirects every request to this URL, which may hold nginx variables, and `$1` to `$9` for the groups of a path that is
    /// a regular expression. Limits, source lists and authentication do not apply to it.
    PERMANENT_REDIRECT: Template = "permanent-redirect", parse: value::text::redirect_url,
    values: "a URL that begins with http:// or https://", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Same;
    /// Status of the permanent redirect.
    PERMANENT_REDIRECT_CODE: u16 = "permanent-redirect-code", parse: value::status::<300, 308>,
    values: "a status from 300 to 308", default: "301",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// The same with status 302; it counts if both are given.
    TEMPORAL_REDIRECT: Template = "temporal-redirect", parse: value::text::redirect_url,
    values: "a URL that begins with http:// or https://", default: "",
    on_invalid: Refuse, scope: "path", twins: [], in: Annotation, support: Same;
    /// Status of the temporal redirect.
    TEMPORAL_REDIRECT_CODE: u16 = "temporal-redirect-code", parse: value::status::<300, 307>,
    values: "a status from 300 to 307", default: "302",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Redirects `www.` + host to the host, or a host that begins with `www.` from the name without, with the status of
    /// redirects to HTTPS. Scheme and port stay, and a `/` at the end of the URI is dropped. Not if a rule has the other
    /// name. Over TLS the certificate of the host must cover the other name, too.
    FROM_TO_WWW_REDIRECT: bool = "from-to-www-redirect", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Same;
}

config_keys! { "Redirects, cluster-wide";
    /// Status of redirects to HTTPS, and to or from `www.`.
    HTTP_REDIRECT_CODE: u16 = "http-redirect-code", parse: redirect_status, values: "301, 302, 307 or 308",
    default: "308", on_invalid: Warn, support: Same;
    /// Paths that are not redirected to HTTPS.
    NO_TLS_REDIRECT_LOCATIONS: Vec<String> = "no-tls-redirect-locations", parse: value::locations,
    values: "path prefixes, separated by commas", default: "/.well-known/acme-challenge", on_invalid: Warn, support: Same;
}

/// Which redirects an Ingress asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirects {
    /// To HTTPS, for hosts with a certificate.
    pub with_certificate: bool,
    /// To HTTPS, for all hosts.
    pub always: bool,
    /// Status of redirects to HTTPS and to or from `www.`.
    pub status: u16,
    /// Path prefixes that are not redirected to HTTPS.
    pub except: Vec<String>,
    /// A slash at the end stays.
    pub keeps_slash: bool,
    /// `Location` names the port.
    pub names_port: bool,
    /// How paths become URLs.
    pub form: LocationForm,
    /// The start page.
    pub app_root: Option<Template>,
    /// Another URL for everything.
    pub url: Option<(u16, Template)>,
    /// To or from `www.`.
    pub is_www: bool,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Redirects {
    let (permanent, status) =
        (reader.get(&PERMANENT_REDIRECT).value(), reader.value(&PERMANENT_REDIRECT_CODE));
    let permanent = permanent.map(|url| (status, url));
    let (temporal, status) = (reader.get(&TEMPORAL_REDIRECT).value(), reader.value(&TEMPORAL_REDIRECT_CODE));
    let temporal = temporal.map(|url| (status, url));
    let names_port = reader.value(&USE_PORT_IN_REDIRECTS);
    let form = match (reader.value(&RELATIVE_REDIRECTS), names_port) {
        (true, _) => LocationForm::Relative,
        (false, true) => LocationForm::HostAndPort,
        (false, false) => LocationForm::Host,
    };
    Redirects {
        with_certificate: reader.value(&SSL_REDIRECT),
        always: reader.value(&FORCE_SSL_REDIRECT),
        status: reader.value(&HTTP_REDIRECT_CODE),
        except: reader.value(&NO_TLS_REDIRECT_LOCATIONS),
        keeps_slash: reader.value(&PRESERVE_TRAILING_SLASH),
        names_port,
        form,
        app_root: reader.get(&APP_ROOT).value(),
        url: temporal.or(permanent),
        is_www: reader.value(&FROM_TO_WWW_REDIRECT),
    }
}

fn redirect_status(text: &str) -> Result<u16, String> {
    match text {
        "301" | "302" | "307" | "308" => value::status::<301, 308>(text),
        _ => Err("is not a redirect status".to_owned()),
    }
}
