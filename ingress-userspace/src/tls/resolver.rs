//! Server name → certificate, of the snapshot in which a handshake began: exact, then wildcard (one label), then the default.
//!
//! A certificate that was replaced serves its open connections and no new one. Keys are parsed once, when the model
//! brings them, and taken over while they stay the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::version_one;
use crate::model::certificate::{Certificate, CertificateId};

/// All certificates of a model, parsed.
#[derive(Debug)]
pub struct Certificates {
    fallback: Arc<CertifiedKey>,
    known: HashMap<CertificateId, (Arc<Certificate>, Arc<CertifiedKey>)>,
}

impl Certificates {
    /// None yet; `fallback` answers where none is.
    pub fn new(fallback: Arc<CertifiedKey>) -> Self {
        Self { fallback, known: HashMap::new() }
    }

    /// Parses what is new. A certificate that cannot be used is named in `refused`; its hosts get the default.
    pub fn update(
        &mut self,
        certificates: &BTreeMap<CertificateId, Arc<Certificate>>,
        refused: &mut Vec<String>,
    ) {
        let mut before = std::mem::take(&mut self.known);
        for (id, certificate) in certificates {
            let entry = match before.remove(id) {
                Some((same, key)) if same == *certificate => Ok((same, key)),
                _ => certified_key(certificate).map(|key| (Arc::clone(certificate), key)),
            };
            match entry {
                Ok(entry) => {
                    self.known.insert(id.clone(), entry);
                }
                Err(error) => refused.push(format!(
                    "Secret {}/{}: the certificate cannot be served ({error}); the default certificate is used. Put \
                     a matching tls.crt and tls.key in the Secret",
                    id.namespace, id.name
                )),
            }
        }
    }

    /// A certificate that can be used.
    pub fn get(&self, id: &CertificateId) -> Option<Arc<CertifiedKey>> {
        self.known.get(id).map(|(_, key)| Arc::clone(key))
    }

    /// A certificate, or the default.
    pub fn get_or_default(&self, id: Option<&CertificateId>) -> Arc<CertifiedKey> {
        let known = id.and_then(|id| self.known.get(id)).map(|(_, key)| key);
        Arc::clone(known.unwrap_or(&self.fallback))
    }
}

fn certified_key(certificate: &Certificate) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = PrivateKeyDer::try_from(certificate.key.0.as_slice())
        .map_err(|text| rustls::Error::General(text.to_owned()))?;
    let signer = aws_lc_rs::sign::any_supported_type(&key)?;
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let certified = CertifiedKey { ocsp: certificate.ocsp.clone(), ..CertifiedKey::new(chain, signer) };
    match certificate.chain.first().and_then(|leaf| version_one::read(leaf)) {
        Some(old) if certified.key.public_key() == Some(version_one::public_key(&old)) => {}
        Some(_) => return Err(rustls::InconsistentKeys::KeyMismatch.into()),
        None => certified.keys_match()?,
    }
    Ok(Arc::new(certified))
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct CertificateTable {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl CertificateTable {
    /// A table that answers everything with `default`.
    pub fn new(default: Arc<CertifiedKey>) -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), default }
    }

    /// The certificate of a name. A host without one has the default, even when a wildcard would cover it.
    pub fn insert_exact(&mut self, name: &str, certificate: Option<Arc<CertifiedKey>>) {
        let certificate = certificate.unwrap_or_else(|| Arc::clone(&self.default));
        self.exact.insert(name.into(), certificate);
    }

    /// The certificate of `*.` + suffix.
    pub fn insert_wildcard(&mut self, suffix: &str, certificate: Option<Arc<CertifiedKey>>) {
        let certificate = certificate.unwrap_or_else(|| Arc::clone(&self.default));
        self.wildcard.insert(suffix.into(), certificate);
    }

    /// The certificate of all other names.
    pub fn set_default(&mut self, certificate: Option<Arc<CertifiedKey>>) {
        if let Some(certificate) = certificate {
            self.default = certificate;
        }
    }

    /// Whether a host has exactly this name (lower case).
    pub fn is_exact(&self, name: &str) -> bool {
        self.exact.contains_key(name)
    }

    /// Whether a host has this name (lower case), or a wildcard that covers it.
    pub fn is_known(&self, name: &str) -> bool {
        let suffix = name.split_once('.').map(|(_, suffix)| suffix);
        self.is_exact(name) || suffix.is_some_and(|suffix| self.wildcard.contains_key(suffix))
    }

    /// The certificate for a server name (lower case, as rustls hands it on).
    pub fn lookup(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name else { return &self.default };
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(certificate) = self.exact.get(name) {
            return certificate;
        }
        let suffix = name.split_once('.').map(|(_, suffix)| suffix);
        suffix.and_then(|suffix| self.wildcard.get(suffix)).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for CertificateTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Names are compared without case; rustls hands on what the client sent.
        let lower = hello.server_name().map(str::to_ascii_lowercase);
        Some(Arc::clone(self.lookup(lower.as_deref())))
    }
}
