//! What a finished handshake says about a connection, and about the client's certificate, in nginx's words.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ProtocolVersion, ServerConnection};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::client_certificate::{Judge, Verdict};
use super::{ciphers, subject};

/// A TLS connection.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub protocol: &'static str,
    /// As OpenSSL names it.
    pub cipher: &'static str,
    /// The name that the client asked for, lower case.
    pub server_name: Option<Box<str>>,
    /// The client, where it was to be asked for a certificate.
    pub client: Option<ClientIdentity>,
}

/// A client that was asked for a certificate.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// Who judged.
    pub judge: Arc<Judge>,
    /// Its verdict.
    pub verdict: Verdict,
    /// What the client showed.
    pub certificate: Option<ClientCertificate>,
}

/// A certificate as text.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Subject, RFC 2253.
    pub subject: String,
    /// Issuer, RFC 2253.
    pub issuer: String,
    /// Hexadecimal, upper case.
    pub serial: String,
    /// SHA-1, hexadecimal.
    pub fingerprint: String,
    /// PEM, escaped.
    pub escaped: String,
}

impl TlsInfo {
    /// After the handshake.
    pub fn new(connection: &ServerConnection, judge: Option<&Arc<Judge>>) -> Self {
        let protocol = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let cipher = connection.negotiated_cipher_suite().map_or("", |suite| ciphers::name(suite.suite()));
        let server_name = connection.server_name().map(|name| name.to_ascii_lowercase().into());
        let client = judge.map(|judge| {
            let chain = connection.peer_certificates().unwrap_or_default();
            let verdict = judge.verdict(chain, UnixTime::now());
            ClientIdentity { judge: Arc::clone(judge), verdict, certificate: chain.first().and_then(read) }
        });
        Self { protocol, cipher, server_name, client }
    }
}

fn read(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let hexadecimal =
        |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    Some(ClientCertificate {
        subject: subject::text(certificate.subject()),
        issuer: subject::text(certificate.issuer()),
        serial: hexadecimal(certificate.tbs_certificate.raw_serial()).to_ascii_uppercase(),
        fingerprint: hexadecimal(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        escaped: escape(&pem(der)),
    })
}

fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
