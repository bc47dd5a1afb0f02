//! The TLS configurations of a listener: 1.2 and 1.3, AEAD with ECDHE only, HTTP/2 and HTTP/1.1 by ALPN.
//!
//! Which one a connection gets is decided when its ClientHello was read: a host may have cipher suites of its own. They
//! are made with the snapshot; the session state behind them (ticket keys, cache) lives as long as the process, so that a
//! session begun on one worker or before a change resumes.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::ciphers;
use super::client_certificate::{Asking, Judge};
use super::resolver::CertificateTable;
use crate::model::policy::client_certificate::Requirement;
use crate::model::tls::{Ciphers, Group, Tls};

/// Sessions in memory; an entry is a few hundred bytes.
const CACHED_SESSIONS: usize = 20_000;

/// What lets a session resume.
#[derive(Debug)]
pub struct Sessions {
    ticketer: Arc<dyn ProducesTickets>,
    cache: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    /// Fresh keys; they rotate by themselves every few hours.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            ticketer: aws_lc_rs::Ticketer::new()?,
            cache: ServerSessionMemoryCache::new(CACHED_SESSIONS),
        })
    }
}

/// The configurations of one listener, by what hosts ask for.
#[derive(Debug)]
pub struct TlsTable {
    certificates: Arc<CertificateTable>,
    default: HostTls,
    exact: HashMap<Box<str>, HostTls>,
    wildcard: HashMap<Box<str>, HostTls>,
    rejects_unknown: bool,
}

/// How connections for a host are made.
#[derive(Clone, Debug)]
pub struct HostTls {
    /// The handshake.
    pub config: Arc<ServerConfig>,
    /// Who judges the client's certificate afterwards; `None`: it is not asked for one.
    pub judge: Option<Arc<Judge>>,
}

/// Settings under which no TLS can be spoken.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct TlsError(#[from] rustls::Error);

impl TlsTable {
    /// A table without hosts of their own settings.
    pub fn new(
        settings: &Tls,
        certificates: Arc<CertificateTable>,
        sessions: &Sessions,
    ) -> Result<Self, TlsError> {
        let config = config(settings, &settings.ciphers, &certificates, sessions, None)?;
        let default = HostTls { config, judge: None };
        Ok(Self {
            certificates,
            default,
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            rejects_unknown: settings.rejects_unknown,
        })
    }

    /// The configuration of a name that has its own.
    pub fn insert_exact(&mut self, name: &str, tls: HostTls) {
        self.exact.insert(name.into(), tls);
    }

    /// The configuration of `*.` + suffix.
    pub fn insert_wildcard(&mut self, suffix: &str, tls: HostTls) {
        self.wildcard.insert(suffix.into(), tls);
    }

    /// The configuration of names that have none of their own.
    pub fn set_default(&mut self, tls: HostTls) {
        self.default = tls;
    }

    /// The certificate for a server name, in lower case.
    pub fn certificate(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        self.certificates.lookup(name)
    }

    /// The configuration for a server name as the client sent it; `None`: the handshake is to be refused.
    pub fn host(&self, name: Option<&str>) -> Option<&HostTls> {
        // Names are compared without case; rustls hands on what the client sent.
        let lower = name.map(str::to_ascii_lowercase);
        let name = lower.as_deref().map(|name| name.strip_suffix('.').unwrap_or(name));
        if self.rejects_unknown && !name.is_some_and(|name| self.certificates.is_known(name)) {
            return None;
        }
        let Some(name) = name else { return Some(&self.default) };
        if let Some(tls) = self.exact.get(name) {
            return Some(tls);
        }
        if self.wildcard.is_empty() || self.certificates.is_exact(name) {
            return Some(&self.default);
        }
        let suffix = name.split_once('.').map(|(_, suffix)| suffix);
        Some(suffix.and_then(|suffix| self.wildcard.get(suffix)).unwrap_or(&self.default))
    }
}

/// Makes a configuration.
pub fn config(
    settings: &Tls,
    ciphers: &Ciphers,
    certificates: &Arc<CertificateTable>,
    sessions: &Sessions,
    judge: Option<&Judge>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    if settings.has_tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if settings.has_tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let provider = provider(ciphers, &settings.groups);
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions)?;
    let builder = match judge.filter(|judge| judge.trust.requirement != Requirement::Off) {
        Some(judge) => builder.with_client_cert_verifier(Asking::new(judge)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(certificates) as _);
    config.ignore_client_order = ciphers.is_our_order;
    config.alpn_protocols = match settings.has_http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    if judge.is_some() {
        // Each connection proves itself: what was asked of another one counts for nothing.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        return Ok(Arc::new(config));
    }
    // One ticket per handshake is enough: browsers open several connections at once, but resume from the newest.
    config.send_tls13_tickets = usize::from(settings.has_tickets || settings.has_session_cache);
    if settings.has_tickets {
        config.ticketer = Arc::clone(&sessions.ticketer);
    }
    config.session_storage = match settings.has_session_cache {
        true => Arc::clone(&sessions.cache),
        false => Arc::new(NoServerSessionStorage {}),
    };
    Ok(Arc::new(config))
}

fn provider(ciphers: &Ciphers, groups: &[Group]) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: ciphers::offered(&ciphers.suites),
        kx_groups: groups.iter().map(|group| supported_group(*group)).collect(),
        ..aws_lc_rs::default_provider()
    }
}

fn supported_group(group: Group) -> &'static dyn SupportedKxGroup {
    use aws_lc_rs::kx_group as known;
    match group {
        Group::X25519MlKem768 => known::X25519MLKEM768,
        Group::X25519 => known::X25519,
        Group::P256 => known::SECP256R1,
        Group::P384 => known::SECP384R1,
    }
}
