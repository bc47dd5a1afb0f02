//! `ssl-redirect` and `force-ssl-redirect`.

use super::config_map::Defaults;
use super::registry::annotations;
use super::{Reader, value};

annotations! { "Redirects to HTTPS";
    /// Redirects from HTTP to HTTPS with status 308 (ConfigMap `http-redirect-code`) if the host has a certificate. The
    /// port and a trailing `/` are dropped. Not for paths under `/.well-known/acme-challenge` (ConfigMap
    /// `no-tls-redirect-locations`): by the path of the Ingress as in ingress-nginx, and by the path of the request too.
    SSL_REDIRECT: bool = "ssl-redirect", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, scope: "path", twins: [];
    /// The same without a certificate: for TLS that ends before the ingress.
    FORCE_SSL_REDIRECT: bool = "force-ssl-redirect", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, scope: "path", twins: [];
}

/// Which redirects an Ingress asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpsRedirects {
    /// For hosts with a certificate.
    pub with_certificate: bool,
    /// For all hosts.
    pub always: bool,
}

pub(super) fn parse(reader: &mut Reader<'_>, defaults: &Defaults) -> HttpsRedirects {
    HttpsRedirects {
        with_certificate: reader.get(&SSL_REDIRECT).or(defaults.redirect.with_certificate),
        always: reader.get(&FORCE_SSL_REDIRECT).or(defaults.redirect.always),
    }
}
