//! The certificate of the webhook: two files that a volume of the pod brings, read again when they change.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::translate::pem::fault;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    /// A file is not PEM of the right kind. What it holds is never quoted.
    #[error("{0} holds no {1}, but {2}")]
    Pem(PathBuf, &'static str, &'static str),
    /// Key and certificate do not fit.
    #[error("the key does not fit the certificate")]
    Pair(#[source] rustls::Error),
}

/// Where the two files are.
#[derive(Clone, Debug)]
pub struct Files {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Files {
    /// Reads and checks the pair.
    pub fn load(&self) -> Result<CertifiedKey, CertificateError> {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| CertificateError::Read(path.clone(), error));
        let (certificates, key) = (read(&self.certificate)?, read(&self.key)?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
        let chain = chain
            .map_err(|error| CertificateError::Pem(self.certificate.clone(), "certificate", fault(&error)))?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| CertificateError::Pem(self.key.clone(), "private key", fault(&error)))?;
        let signer = aws_lc_rs::sign::any_supported_type(&key).map_err(CertificateError::Pair)?;
        let pair = CertifiedKey::new(chain, signer);
        match pair.keys_match() {
            Err(error @ rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Pair(error)),
            _ => Ok(pair),
        }
    }
}

/// Gives every handshake the newest certificate.
pub struct Newest(ArcSwap<CertifiedKey>);

impl Newest {
    /// Begins with this one.
    pub fn new(pair: CertifiedKey) -> Self {
        Self(ArcSwap::from_pointee(pair))
    }

    /// Serves this one from now on; whether it is another.
    pub fn replace(&self, pair: CertifiedKey) -> bool {
        let is_new = self.0.load().cert != pair.cert;
        if is_new {
            self.0.store(Arc::new(pair));
        }
        is_new
    }
}

impl fmt::Debug for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Newest([redacted])")
    }
}

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
