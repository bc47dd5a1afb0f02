//! An address that the proxy itself asks: for a verdict about a request, or with a copy of it.

use serde::{Deserialize, Serialize};

use super::backend::BackendId;
use super::template::Template;

/// A URL whose parts may hold variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// Over TLS. The certificate is not verified, as in nginx.
    pub is_https: bool,
    /// Who is asked.
    pub authority: Authority,
    /// Path and query; empty means `/`.
    pub path: Template,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// A port of a Service, by the endpoints that the model has.
    Service {
        /// Which.
        backend: BackendId,
        /// The name as it stands in the URL, for `Host` and the server name.
        host: String,
    },
    /// An address, or a name that is looked up when it is needed.
    Literal {
        /// Lower case; IPv6 addresses without brackets.
        host: String,
        /// `None`: the scheme's.
        port: Option<u16>,
    },
    /// `host[:port]`, known only with the request.
    Variable(Template),
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_https { "https://" } else { "http://" })?;
        match &self.authority {
            Authority::Service { backend, host } => write!(f, "{host} ({backend})")?,
            Authority::Literal { host, port } => {
                match host.contains(':') {
                    true => write!(f, "[{host}]")?,
                    false => f.write_str(host)?,
                }
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
            }
            Authority::Variable(template) => write!(f, "{template}")?,
        }
        write!(f, "{}", self.path)
    }
}
