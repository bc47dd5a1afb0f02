//! How TLS is spoken with clients.

use super::registry::{annotations, config_keys};
use super::value::cipher::{self, CipherList};
use super::value::plain;
use super::{Effect, Reader, value};
use crate::model::tls::{Ciphers, Group, Tls};

annotations! { "TLS with clients";
    /// Cipher suites of TLS 1.2 for the whole host, in OpenSSL's words; the oldest Ingress of the host that names some
    /// counts. Unlike in ingress-nginx, there are six: ECDHE with AES-GCM or ChaCha20, for RSA and ECDSA keys. Names of
    /// others are reported and skipped. The suites of TLS 1.3 are always on, as there.
    SSL_CIPHERS: CipherList = "ssl-ciphers", parse: cipher::list, values: "an OpenSSL cipher list",
    default: "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
    on_invalid: Warn, scope: "host", twins: [], in: Both, support: Differs;
    /// `false`: of the suites that both know, the client's order counts. For the whole host.
    SSL_PREFER_SERVER_CIPHERS: bool = "ssl-prefer-server-ciphers", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, scope: "host", twins: [], in: Annotation, support: Same;
}

config_keys! { "TLS with clients, cluster-wide";
    /// Versions of TLS. Unlike in ingress-nginx, there are only 1.2 and 1.3: older ones are reported and not spoken.
    SSL_PROTOCOLS: Versions = "ssl-protocols", parse: versions, values: "TLSv1.2, TLSv1.3, or both with a space between",
    default: "TLSv1.2 TLSv1.3", on_invalid: Warn, support: Differs;
    /// Groups of the key exchange, the best first: `X25519MLKEM768`, `X25519`, `P-256` (`prime256v1`), `P-384`
    /// (`secp384r1`), separated by `:`; `auto` for all of them. Unlike in ingress-nginx, there are no others.
    SSL_ECDH_CURVE: Groups = "ssl-ecdh-curve", parse: groups, values: "auto, or groups separated by colons",
    default: "auto", on_invalid: Warn, support: Differs;
    /// Sessions are resumed by tickets. Unlike in ingress-nginx they are on by default: the keys are made at start, shared
    /// by all workers and replaced every few hours.
    SSL_SESSION_TICKETS: bool = "ssl-session-tickets", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, support: Differs;
    /// Sessions are resumed from memory, where tickets are off.
    SSL_SESSION_CACHE: bool = "ssl-session-cache", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, support: Same;
    /// Accepted, and nothing is done: the cache holds 20,000 sessions.
    SSL_SESSION_CACHE_SIZE: String = "ssl-session-cache-size", parse: plain::text, values: "a size", default: "10m",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tickets live as long as their key, and the cache drops what was not used longest.
    SSL_SESSION_TIMEOUT: String = "ssl-session-timeout", parse: plain::text, values: "a time", default: "10m",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: keys that stand in a ConfigMap for years undo forward secrecy. Ticket keys are made
    /// at start and replaced every few hours; a client that comes to another node makes a full handshake.
    SSL_SESSION_TICKET_KEY: String = "ssl-session-ticket-key", parse: plain::text, values: "text", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: data before the end of the handshake can be replayed by whoever recorded it. Clients
    /// that would send some make an ordinary handshake instead.
    SSL_EARLY_DATA: bool = "ssl-early-data", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Note, support: Ignored;
    /// A handshake for a name that no host has, or for none, ends with the alert `unrecognized_name` instead of the
    /// default certificate.
    SSL_REJECT_HANDSHAKE: bool = "ssl-reject-handshake", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// The OCSP response in the Secret of a certificate (key `tls.ocsp-staple`, DER) is sent with it. Unlike in
    /// ingress-nginx none is fetched: the proxy makes no connections to addresses that stand in certificates.
    ENABLE_OCSP: bool = "enable-ocsp", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Differs;
    /// HTTP/2 is offered in TLS handshakes.
    USE_HTTP2: bool = "use-http2", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, support: Same;
    /// Accepted, and nothing is done: there is no key exchange with DH parameters, only ECDHE.
    SSL_DH_PARAM: String = "ssl-dh-param", parse: plain::text, values: "the name of a Secret", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: records are sized by what there is to send.
    SSL_BUFFER_SIZE: String = "ssl-buffer-size", parse: plain::text, values: "a size", default: "4k",
    on_invalid: Note, support: Ignored;
}

/// What an Ingress says of the ciphers of its hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCiphers {
    /// `ssl-ciphers`.
    pub suites: Option<CipherList>,
    /// `ssl-prefer-server-ciphers`.
    pub is_our_order: Option<bool>,
}

/// Versions of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    has_tls12: bool,
    has_tls13: bool,
    unknown: Vec<String>,
}

/// Groups of the key exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    known: Vec<Group>,
    unknown: Vec<String>,
}

/// The annotations of an Ingress; what the ConfigMap says is part of the whole proxy's settings.
pub(super) fn parse(reader: &mut Reader<'_>) -> HostCiphers {
    let annotated = reader.find(&SSL_CIPHERS.row).filter(|found| !found.is_config);
    let suites = annotated.and_then(|found| {
        let list = reader.parse(&SSL_CIPHERS, &found).value()?;
        report_unknown(reader, &SSL_CIPHERS.row, "are not spoken", &list.unknown);
        Some(list)
    });
    HostCiphers { suites, is_our_order: reader.get(&SSL_PREFER_SERVER_CIPHERS).value() }
}

/// The settings of the whole proxy.
pub(super) fn parse_global(reader: &mut Reader<'_>) -> Tls {
    let versions = reader.value(&SSL_PROTOCOLS);
    report_unknown(reader, &SSL_PROTOCOLS.row, "are not spoken", &versions.unknown);
    let ciphers = reader.value(&SSL_CIPHERS);
    report_unknown(reader, &SSL_CIPHERS.row, "are not spoken", &ciphers.unknown);
    let groups = reader.value(&SSL_ECDH_CURVE);
    report_unknown(reader, &SSL_ECDH_CURVE.row, "are not spoken", &groups.unknown);
    Tls {
        has_tls12: versions.has_tls12,
        has_tls13: versions.has_tls13,
        ciphers: Ciphers { suites: ciphers.suites, is_our_order: true },
        groups: groups.known,
        has_tickets: reader.value(&SSL_SESSION_TICKETS),
        has_session_cache: reader.value(&SSL_SESSION_CACHE),
        rejects_unknown: reader.value(&SSL_REJECT_HANDSHAKE),
        has_http2: reader.value(&USE_HTTP2),
    }
}

fn report_unknown(
    reader: &mut Reader<'_>,
    row: &'static super::registry::Row,
    consequence: &str,
    unknown: &[String],
) {
    if unknown.is_empty() {
        return;
    }
    if let Some(found) = reader.find(row) {
        let message = format!("{} {consequence}; the rest counts; remove them", unknown.join(", "));
        reader.report(&found, Effect::Warn, message);
    }
}

fn versions(text: &str) -> Result<Versions, String> {
    let mut versions = Versions::default();
    for name in text.split_whitespace() {
        match name {
            "TLSv1.2" => versions.has_tls12 = true,
            "TLSv1.3" => versions.has_tls13 = true,
            other => versions.unknown.push(other.to_owned()),
        }
    }
    if versions.has_tls12 || versions.has_tls13 {
        Ok(versions)
    } else {
        Err("names no version that is spoken".to_owned())
    }
}

fn groups(text: &str) -> Result<Groups, String> {
    if text == "auto" {
        return Ok(Groups { known: Group::ALL.to_vec(), unknown: Vec::new() });
    }
    let mut groups = Groups::default();
    for name in text.split(':').map(str::trim).filter(|name| !name.is_empty()) {
        match name.to_ascii_lowercase().as_str() {
            "x25519mlkem768" => groups.known.push(Group::X25519MlKem768),
            "x25519" => groups.known.push(Group::X25519),
            "p-256" | "prime256v1" | "secp256r1" => groups.known.push(Group::P256),
            "p-384" | "secp384r1" => groups.known.push(Group::P384),
            _ => groups.unknown.push(name.to_owned()),
        }
    }
    if groups.known.is_empty() { Err("names no group that is known".to_owned()) } else { Ok(groups) }
}
