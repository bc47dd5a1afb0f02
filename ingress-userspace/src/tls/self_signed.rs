//! The certificate of last resort: made at start, valid for nobody, so that a handshake for an unknown name still ends in
//! an HTTP answer (404), as with ingress-nginx's "Fake Certificate".

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The common name, by which operators recognise it.
pub const COMMON_NAME: &str = "Portcullis default certificate";

/// Why it could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// The certificate.
    #[error("the default certificate could not be generated")]
    Generate(#[from] rcgen::Error),
    /// The key.
    #[error("the key of the default certificate cannot be used")]
    Key(#[from] rustls::Error),
}

/// Generates it.
pub fn generate() -> Result<Arc<CertifiedKey>, SelfSignedError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["ingress.local".to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    let certificate = params.self_signed(&key)?;
    let signer = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
        key.serialize_der(),
    )))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)))
}
