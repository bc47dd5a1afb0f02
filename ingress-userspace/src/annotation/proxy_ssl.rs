//! `proxy-ssl-*`: TLS towards backends.

use super::registry::{annotations, config_keys};
use super::value::cipher::{self, CipherList};
use super::{Effect, Read, Reader, value};
use crate::model::tls::CipherSuite;

annotations! { "TLS towards the backend";
    /// `namespace/name` of a Secret: `tls.crt` and `tls.key` are shown to endpoints that ask for a certificate, `ca.crt` are the
    /// authorities that `proxy-ssl-verify` trusts. It is the switch: without it every other `proxy-ssl-*` is ignored. As in
    /// ingress-nginx it holds for all paths of the host, the oldest Ingress that has it decides, and the ConfigMap key
    /// `proxy-ssl-location-only` makes it hold for the paths of its Ingress alone; unlike there, an Ingress that asks for
    /// verification has it in any case. A Secret that is missing or broken: 503.
    PROXY_SSL_SECRET: (String, String) = "proxy-ssl-secret", parse: secret, values: "namespace/name of a Secret",
    default: "", on_invalid: Deny, scope: "the whole host", twins: [], in: Annotation, support: Differs;
    /// Whether the certificate of an endpoint is verified: by the authorities of `ca.crt`, for the name of `proxy-ssl-name`.
    /// A self-signed certificate may stand in `ca.crt` itself. Unlike in ingress-nginx a value that cannot be read, or that asks for what the Secret does not hold, answers 503
    /// instead of leaving certificates unverified.
    PROXY_SSL_VERIFY: bool = "proxy-ssl-verify", parse: on_off, values: "on or off", default: "off",
    on_invalid: Deny, scope: "the whole host", twins: [], in: Annotation, support: Differs;
    /// How many certificates may stand between that of the endpoint and the authority.
    PROXY_SSL_VERIFY_DEPTH: u32 = "proxy-ssl-verify-depth", parse: value::positive, values: "a number from 1", default: "1",
    on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Same;
    /// The name that the certificate must be for, and that is sent as server name. `proxy-ssl-verify` needs it. Unlike in
    /// ingress-nginx it holds no variables.
    PROXY_SSL_NAME: String = "proxy-ssl-name", parse: server_name, values: "a host name", default: "",
    on_invalid: Deny, scope: "the whole host", twins: [], in: Annotation, support: Differs;
    /// Whether a server name (SNI) is sent: that of `proxy-ssl-name`. Without one nothing is sent.
    PROXY_SSL_SERVER_NAME: bool = "proxy-ssl-server-name", parse: on_off, values: "on or off", default: "off",
    on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Same;
    /// The cipher suites of TLS 1.2 that are offered, in OpenSSL's words. Unlike in ingress-nginx there are six, ECDHE with
    /// AES-GCM or ChaCha20; other names are skipped with a warning.
    PROXY_SSL_CIPHERS: CipherList = "proxy-ssl-ciphers", parse: cipher::list, values: "an OpenSSL cipher list",
    default: "DEFAULT", on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Differs;
    /// The versions of TLS, separated by spaces. TLS 1.0 and 1.1 are not spoken, as in ingress-nginx, and are skipped with a
    /// warning.
    PROXY_SSL_PROTOCOLS: Versions = "proxy-ssl-protocols", parse: versions, values: "TLSv1.2, TLSv1.3 or both",
    default: "TLSv1.2", on_invalid: Warn, scope: "the whole host", twins: [], in: Annotation, support: Same;
}

config_keys! { "TLS towards backends";
    /// `proxy-ssl-*` annotations hold for the paths of their Ingress and not for the whole host.
    PROXY_SSL_LOCATION_ONLY: bool = "proxy-ssl-location-only", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
}

/// The versions of `proxy-ssl-protocols`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// `TLSv1.2`.
    pub has_tls12: bool,
    /// `TLSv1.3`.
    pub has_tls13: bool,
    /// Those that are not spoken.
    pub skipped: Vec<String>,
}

/// What is asked for; the Secret is read by `translate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySsl {
    /// Namespace and name of the Secret.
    pub secret: (String, String),
    /// The annotation as written.
    pub key: String,
    /// Certificates are verified.
    pub is_verified: bool,
    /// `proxy-ssl-verify-depth`.
    pub depth: u32,
    /// `proxy-ssl-name`.
    pub name: Option<String>,
    /// `proxy-ssl-server-name`.
    pub sends_name: bool,
    /// `proxy-ssl-ciphers`; empty: all.
    pub ciphers: Vec<CipherSuite>,
    /// `proxy-ssl-protocols`.
    pub versions: Versions,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<ProxySsl> {
    let Some(found) = reader.find(&PROXY_SSL_SECRET.row) else {
        for row in GROUP.rows.iter().skip(1) {
            if reader.find(row).is_some() {
                let message = "does nothing without proxy-ssl-secret, as in ingress-nginx: certificates of endpoints are not \
                               verified; add the Secret or remove it";
                reader.note(row.key, Effect::Warn, message);
            }
        }
        return None;
    };
    let secret = reader.parse(&PROXY_SSL_SECRET, &found);
    let is_verified = reader.value(&PROXY_SSL_VERIFY);
    let name = reader.get(&PROXY_SSL_NAME);
    let sends_name = reader.value(&PROXY_SSL_SERVER_NAME);
    if is_verified && name == Read::Absent {
        let message = "verifies certificates for no name, since proxy-ssl-name is missing, so the paths of this Ingress answer \
                       503; write the name that is in the certificate of the backend there";
        reader.note(PROXY_SSL_VERIFY.row.key, Effect::Deny, message);
    } else if sends_name && name == Read::Absent {
        let message =
            "has no name to send, since proxy-ssl-name is missing; no server name is sent; write it there";
        reader.note(PROXY_SSL_SERVER_NAME.row.key, Effect::Warn, message);
    }
    let versions = reader.value(&PROXY_SSL_PROTOCOLS);
    if !versions.skipped.is_empty() {
        let message = format!("{} is not spoken and left out; the others are", versions.skipped.join(", "));
        reader.note(PROXY_SSL_PROTOCOLS.row.key, Effect::Warn, message);
    }
    Some(ProxySsl {
        secret: secret.value()?,
        key: found.key,
        is_verified,
        depth: reader.value(&PROXY_SSL_VERIFY_DEPTH),
        name: name.value(),
        sends_name,
        ciphers: ciphers(reader),
        versions,
    })
}

/// Those of the list; empty where it names all.
fn ciphers(reader: &mut Reader<'_>) -> Vec<CipherSuite> {
    let list = reader.value(&PROXY_SSL_CIPHERS);
    if !list.unknown.is_empty() {
        let message = format!("{} are not spoken; the rest counts; remove them", list.unknown.join(", "));
        reader.note(PROXY_SSL_CIPHERS.row.key, Effect::Warn, message);
    }
    let is_all = CipherSuite::ALL.iter().all(|suite| list.suites.contains(suite));
    if is_all { Vec::new() } else { list.suites }
}

fn secret(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("is not namespace/name".to_owned()),
    }
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is neither on nor off".to_owned()),
    }
}

/// The name of a server in a handshake.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err("is not a host name".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

fn versions(text: &str) -> Result<Versions, String> {
    let mut found = Versions::default();
    for name in text.split_whitespace() {
        match name {
            "TLSv1.2" => found.has_tls12 = true,
            "TLSv1.3" => found.has_tls13 = true,
            "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" => found.skipped.push(name.to_owned()),
            _ => return Err(format!("holds {name}, which is no version of TLS")),
        }
    }
    if !(found.has_tls12 || found.has_tls13) {
        return Err("names no version of TLS that is spoken".to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_ingress_nginx() {
        assert_eq!(secret("a/b"), Ok(("a".into(), "b".into())));
        for bad in ["", "a", "/a", "a/", "a/b/c"] {
            assert!(secret(bad).is_err(), "{bad}");
        }
        assert_eq!(server_name("Api.Example.com."), Ok("api.example.com".to_owned()));
        for bad in ["", "a b", "a..b", "a:443", "$host"] {
            assert!(server_name(bad).is_err(), "{bad}");
        }
        let both = versions("TLSv1.1 TLSv1.2 TLSv1.3").unwrap();
        assert!(both.has_tls12 && both.has_tls13 && both.skipped == ["TLSv1.1"]);
        assert!(versions("TLSv1").is_err() && versions("tls1.2").is_err() && versions("").is_err());
        assert!(on_off("true").is_err());
    }
}
