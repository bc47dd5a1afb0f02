//! A listener: a port, its protocol and, for TLS, the certificate that answers when no host's does.

use serde::{Deserialize, Serialize};

use super::certificate::CertificateId;

/// Names a listener within the model: `http`, `https`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListenerName(pub String);

/// One port on which connections are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name, which hosts refer to.
    pub name: ListenerName,
    /// The port that clients connect to (VIP or node address), host byte order.
    pub port: u16,
    /// How its bytes are read.
    pub protocol: ListenerProtocol,
}

/// How the bytes of a connection are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    /// Cleartext HTTP/1.1, or HTTP/2 by prior knowledge.
    Http,
    /// TLS, then HTTP/1.1 or HTTP/2 by ALPN.
    Https {
        /// For names that no host's certificate covers; `None`: the proxy's own self-signed one.
        default_certificate: Option<CertificateId>,
    },
}
