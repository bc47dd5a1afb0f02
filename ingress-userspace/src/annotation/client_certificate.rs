//! `auth-tls-*`: certificates of clients.

use super::registry::{Annotation, annotations};
use super::value::{self, SecretName};
use super::{Effect, Found, Reader};
use crate::model::policy::client_certificate::Requirement;

annotations! { "Client certificates";
    /// Clients are asked for a certificate of the authorities in key `ca.crt` of this Secret; key `ca.crl` may hold lists of
    /// revoked ones. Holds for the whole host; the oldest Ingress of a host that sets it wins. Another namespace's Secret needs
    /// the ConfigMap key `allow-cross-namespace-resources`. If the Secret cannot be used, the whole host answers 403.
    /// As in ingress-nginx cleartext requests are not asked: leave `ssl-redirect` on. Unlike there a
    /// certificate of X.509 version 1, and one that is an authority's, must be signed by one of these authorities itself (or be
    /// one of them) and is refused beside a `ca.crl`, and a bare name means the Ingress's own namespace.
    AUTH_TLS_SECRET: SecretName = "auth-tls-secret", parse: value::secret_name, values: "namespace/name of a Secret",
    default: "", on_invalid: Deny, scope: "host", twins: [], in: Annotation, support: Differs;
    /// Whether a client must have a certificate: `on` needs a valid one, `optional` takes none or a valid one,
    /// `optional_no_ca` takes one of an unknown authority too, `off` does not ask. What is refused gets 400, after the
    /// handshake. The backend sees `ssl-client-verify`, `ssl-client-subject-dn` and `ssl-client-issuer-dn`.
    AUTH_TLS_VERIFY_CLIENT: Requirement = "auth-tls-verify-client", parse: requirement,
    values: "on, off, optional or optional_no_ca", default: "on", on_invalid: Warn, scope: "host", twins: [],
    in: Annotation, support: Same;
    /// How many certificates may stand between the client's and the authority's.
    AUTH_TLS_VERIFY_DEPTH: u32 = "auth-tls-verify-depth", parse: value::positive, values: "a bare whole number from 1",
    default: "1", on_invalid: Warn, scope: "host", twins: [], in: Annotation, support: Same;
    /// Where clients are sent whose certificate is refused, with status 302, instead of 400. Unlike in ingress-nginx a path
    /// alone is refused: there it hands the refused request to the backend, as one for that path.
    AUTH_TLS_ERROR_PAGE: String = "auth-tls-error-page", parse: page, values: "an http or https URL", default: "",
    on_invalid: Warn, scope: "host", twins: [], in: Annotation, support: Differs;
    /// The backend sees the client's certificate as `ssl-client-cert`: PEM, escaped as in a URL.
    AUTH_TLS_PASS_CERTIFICATE: bool = "auth-tls-pass-certificate-to-upstream", parse: value::boolean,
    values: "true or false", default: "false", on_invalid: Warn, scope: "host", twins: [], in: Annotation, support: Same;
    /// Only clients whose subject matches are let in, others get 403: the whole distinguished name (`CN=client,O=Org`) is
    /// searched for the expression. Unlike in ingress-nginx one that cannot be read lets nobody in instead of
    /// everybody: the whole host answers 403.
    AUTH_TLS_MATCH_CN: String = "auth-tls-match-cn", parse: subject, values: "CN= and a regular expression", default: "",
    on_invalid: Deny, scope: "host", twins: [], in: Annotation, support: Differs;
}

/// Client certificates as annotated; the Secret is not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Where the authorities are; `None`: it cannot be read.
    pub secret: Option<SecretName>,
    /// Whether there must be a certificate.
    pub requirement: Requirement,
    /// Certificates between the client's and the authority's.
    pub depth: u32,
    /// Where refused clients are sent.
    pub error_page: Option<String>,
    /// The backend sees the certificate.
    pub is_passed: bool,
    /// What the subject must match.
    pub subject: Option<String>,
    /// It cannot be read what the subject must match: nobody is let in.
    pub is_subject_unreadable: bool,
    /// The key of `auth-tls-secret` as written.
    pub key: String,
    /// Its value as written.
    pub written: String,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<ClientCertificate> {
    let Some(found) = reader.find(&AUTH_TLS_SECRET.row) else {
        for detail in [&AUTH_TLS_VERIFY_CLIENT.row, &AUTH_TLS_MATCH_CN.row] {
            if let Some(idle) = reader.find(detail) {
                let message = "has no effect without auth-tls-secret, so clients are not asked for certificates; add it";
                reader.report(&idle, Effect::Warn, message);
            }
        }
        return None;
    };
    let secret = read(reader, &AUTH_TLS_SECRET, &found);
    let matched = reader.find(&AUTH_TLS_MATCH_CN.row);
    let subject = matched.as_ref().map(|found| read(reader, &AUTH_TLS_MATCH_CN, found));
    Some(ClientCertificate {
        secret,
        requirement: reader.value(&AUTH_TLS_VERIFY_CLIENT),
        depth: reader.value(&AUTH_TLS_VERIFY_DEPTH),
        error_page: reader.get(&AUTH_TLS_ERROR_PAGE).value(),
        is_passed: reader.value(&AUTH_TLS_PASS_CERTIFICATE),
        is_subject_unreadable: subject == Some(None),
        subject: subject.flatten(),
        key: found.key.clone(),
        written: found.text.to_owned(),
    })
}

/// Reads what the host needs. `None`: everybody is refused, which is in the findings.
fn read<T>(reader: &mut Reader<'_>, setting: &'static Annotation<T>, found: &Found<'_>) -> Option<T> {
    let read = (setting.parse)(found.text.trim());
    if let Err(reason) = &read {
        let values = setting.row.values;
        reader.report(found, Effect::Deny, format!("{reason}; the whole host answers 403; write {values}"));
    }
    read.ok()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    match text {
        "on" => Ok(Requirement::Required),
        "off" => Ok(Requirement::Off),
        "optional" => Ok(Requirement::Optional),
        "optional_no_ca" => Ok(Requirement::OptionalNoCa),
        _ => Err("is none of on, off, optional, optional_no_ca".to_owned()),
    }
}

fn page(text: &str) -> Result<String, String> {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let Some(rest) = rest else { return Err("is not an http or https URL".to_owned()) };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/:?#[]@!&'()*+,;=%".contains(c);
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(bad) => Err(format!("holds {bad:?}, which a URL may not")),
        None if rest.is_empty() || rest.starts_with('/') => Err("names no host".to_owned()),
        None => Ok(text.to_owned()),
    }
}

fn subject(text: &str) -> Result<String, String> {
    const LONGEST: usize = 1024;
    if !text.starts_with("CN=") {
        return Err("does not begin with CN=".to_owned());
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/:, ^$[](){}*+?|&=\\".contains(c);
    if let Some(bad) = text.chars().find(|c| !is_allowed(*c)) {
        return Err(format!("holds {bad:?}, which may not stand here"));
    }
    if text.len() > LONGEST {
        return Err("is too long".to_owned());
    }
    match regex::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is not a regular expression that can be used".to_owned()),
    }
}
