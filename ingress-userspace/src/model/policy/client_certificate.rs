//! Certificates of clients: what a host asks for, and the authorities that it trusts.

use serde::{Deserialize, Serialize};

use crate::model::certificate::CertificateId;

/// What a host asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    /// It cannot be told whom to trust: every request is refused.
    Broken {
        /// Why, for the log.
        reason: String,
    },
    /// A certificate.
    Certificate(ClientCertificate),
}

/// Which certificates are taken, and what is done with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// How they are judged.
    pub trust: Trust,
    /// Where clients are sent whose certificate is refused.
    pub error_page: Option<String>,
    /// The backend sees the certificate.
    pub is_passed: bool,
    /// An expression that the subject must match.
    pub subject: Option<String>,
}

/// How certificates are judged. A connection that was judged otherwise counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Trust {
    /// A key of `Model::client_authorities`.
    pub authorities: String,
    /// Whether there must be a certificate.
    pub requirement: Requirement,
    /// Certificates that may stand between the client's and the authority's.
    pub depth: u32,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Requirement {
    /// A valid one.
    #[default]
    Required,
    /// None, or a valid one.
    Optional,
    /// None, or one that is valid but for its authority.
    OptionalNoCa,
    /// It is not asked.
    Off,
}

/// Authorities that may certify clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAuthorities {
    /// The Secret that they come from.
    pub source: CertificateId,
    /// DER.
    pub certificates: Vec<Vec<u8>>,
    /// Lists of revoked certificates, DER. If there is one, every certificate must be covered.
    pub revocations: Vec<Vec<u8>>,
}
