//! A virtual host: a name, its certificate and its routes.

use serde::{Deserialize, Serialize};

use super::backend::BackendId;
use super::certificate::CertificateId;
use super::listener::ListenerName;
use super::policy::client_certificate::ClientAuth;
use super::route::Route;
use super::tls::Ciphers;

/// Which `Host` (`:authority`) values a virtual host serves. Lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HostPattern {
    /// Exactly this name.
    Exact(String),
    /// `*.` + this suffix: exactly one label before it, never the apex. The suffix is stored without `*.`.
    Wildcard(String),
    /// Every name that nothing more specific serves.
    Any,
}

/// The routes and the certificate of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The names it serves.
    pub pattern: HostPattern,
    /// The listeners it is attached to.
    pub listeners: Vec<ListenerName>,
    /// Certificate for handshakes whose SNI matches the pattern; `None`: the listener's default.
    pub certificate: Option<CertificateId>,
    /// Cipher suites of its own, for TLS 1.2.
    pub ciphers: Option<Ciphers>,
    /// What it asks of its clients in the handshake; its routes say the same.
    pub client_auth: Option<ClientAuth>,
    /// TLS with a server name of the pattern goes to this backend as it is.
    pub passthrough: Option<BackendId>,
    /// In order of precedence: the first that matches serves the request. The last is often a catch-all.
    pub routes: Vec<Route>,
}
