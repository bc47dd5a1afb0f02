//! A listener: a port, its protocol and, for TLS, the certificate that answers when no host's does.

use serde::{Deserialize, Serialize};

use super::certificate::CertificateId;
use super::stream::StreamRoute;

/// Names a listener within the model: `http`, `https`, `tcp-9000`, `udp-53`.
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
    /// Nothing of them: connections go to a backend as they are.
    Tcp(StreamRoute),
    /// Nothing of them: datagrams go to a backend as they are.
    Udp(StreamRoute),
}

impl ListenerProtocol {
    /// Whether clients send datagrams.
    pub fn is_udp(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    /// Whether it is a service of its own port, and not one of the two that all hosts share.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Udp(_))
    }
}
