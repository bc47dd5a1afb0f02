//! How the endpoints of a route are spoken to.

use serde::{Deserialize, Serialize};

use crate::model::certificate::CertificateId;
use crate::model::tls::CipherSuite;

/// The protocol towards the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// Which.
    pub protocol: UpstreamProtocol,
    /// HTTP/1.0 instead of 1.1, where HTTP/1 is spoken.
    pub is_http10: bool,
    /// How TLS is spoken, where it is.
    pub tls: UpstreamTls,
}

/// A protocol towards endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpstreamProtocol {
    /// HTTP/1 in cleartext.
    #[default]
    Http,
    /// HTTP/1 over TLS.
    Https,
    /// As the client came: over TLS when it did.
    AutoHttp,
    /// HTTP/2 in cleartext, by prior knowledge.
    Grpc,
    /// HTTP/2 over TLS.
    Grpcs,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// What is shown to endpoints that ask for a certificate.
    pub certificate: Option<ClientCertificate>,
    /// Whether and how the endpoint's certificate is verified.
    pub verify: Option<Verify>,
    /// The server name that is sent (SNI); none by default.
    pub server_name: Option<String>,
    /// TLS 1.2 may be spoken.
    pub has_tls12: bool,
    /// TLS 1.3 may be spoken.
    pub has_tls13: bool,
    /// The only cipher suites of TLS 1.2 that are offered, the best first; empty: all.
    pub ciphers: Vec<CipherSuite>,
}

/// The verification of an endpoint's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verify {
    /// The authorities that are trusted, a key of `Model::authorities`.
    pub authorities: String,
    /// The name that the certificate must be for.
    pub name: String,
    /// Certificates that may stand between the endpoint's own and the authority.
    pub depth: u32,
}

/// A certificate of ours. Changes with what the Secret holds, so that what was made of it is made anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// A key of `Model::certificates`.
    pub id: CertificateId,
    /// Of that certificate.
    pub fingerprint: String,
}
