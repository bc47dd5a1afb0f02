//! A certificate chain with its key. The key has no `Debug` and no `Serialize` beyond the unix socket of the pod.

use serde::{Deserialize, Serialize};

/// Identity of a certificate: the Secret it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CertificateId {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
}

/// A parsed, matching pair of chain and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// DER of the private key.
    pub key: KeyDer,
    /// DNS names of the leaf, lower case, wildcards as `*.suffix`.
    pub names: Vec<String>,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    /// SHA-256 of the leaf, lower-case hex: how dumps and logs name it.
    pub fingerprint: String,
    /// DER of an OCSP response about the leaf.
    pub ocsp: Option<Vec<u8>>,
}

/// Certificates of authorities that are trusted. In the model under their own digest, so that a change of content is a
/// change of whatever refers to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// The Secret that they come from.
    pub source: CertificateId,
    /// DER.
    pub certificates: Vec<Vec<u8>>,
}

/// A private key, DER (PKCS#8, PKCS#1 or SEC1). Prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDer(pub Vec<u8>);

impl std::fmt::Debug for KeyDer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
