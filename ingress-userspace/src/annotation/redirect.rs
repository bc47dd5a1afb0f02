//! `ssl-redirect` and `force-ssl-redirect`.

use super::registry::{annotations, config_keys};
use super::{Reader, value};

annotations! { "Redirects to HTTPS";
    /// Redirects from HTTP to HTTPS with status 308 (ConfigMap `http-redirect-code`) if the host has a certificate. The
    /// port and a trailing `/` are dropped. Not for paths under `/.well-known/acme-challenge` (ConfigMap
    /// `no-tls-redirect-locations`): by the path of the Ingress as in ingress-nginx, and by the path of the request too.
    SSL_REDIRECT: bool = "ssl-redirect", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// The same without a certificate: for TLS that ends before the ingress.
    FORCE_SSL_REDIRECT: bool = "force-ssl-redirect", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
}

config_keys! { "Redirects to HTTPS, cluster-wide";
    /// Status of redirects to HTTPS.
    HTTP_REDIRECT_CODE: u16 = "http-redirect-code", parse: redirect_status, values: "301, 302, 307 or 308",
    default: "308", on_invalid: Warn, support: Same;
    /// Paths that are not redirected to HTTPS.
    NO_TLS_REDIRECT_LOCATIONS: Vec<String> = "no-tls-redirect-locations", parse: value::locations,
    values: "path prefixes, separated by commas", default: "/.well-known/acme-challenge", on_invalid: Warn, support: Same;
}

/// Which redirects an Ingress asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsRedirects {
    /// For hosts with a certificate.
    pub with_certificate: bool,
    /// For all hosts.
    pub always: bool,
    /// Status of the redirect.
    pub status: u16,
    /// Path prefixes that are not redirected.
    pub except: Vec<String>,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> HttpsRedirects {
    HttpsRedirects {
        with_certificate: reader.value(&SSL_REDIRECT),
        always: reader.value(&FORCE_SSL_REDIRECT),
        status: reader.value(&HTTP_REDIRECT_CODE),
        except: reader.value(&NO_TLS_REDIRECT_LOCATIONS),
    }
}

fn redirect_status(text: &str) -> Result<u16, String> {
    match text {
        "301" | "302" | "307" | "308" => value::status::<301, 308>(text),
        _ => Err("is not a redirect status".to_owned()),
    }
}
