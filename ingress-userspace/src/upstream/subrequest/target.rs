//! The URL of a request of our own, with its variables filled in.

use std::sync::Arc;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::SubrequestError;
use crate::model::backend::BackendId;
use crate::model::template::Template;
use crate::model::url;
use crate::proxy::head::HostName;
use crate::proxy::variables::View;
use crate::upstream::backend::BackendCell;

/// A URL, ready to be filled in.
#[derive(Debug)]
pub struct Target {
    is_https: bool,
    authority: Authority,
    path: Template,
}

#[derive(Debug)]
enum Authority {
    Service { cell: Arc<BackendCell>, host: String },
    Literal { host: String, port: Option<u16> },
    Variable(Template),
}

/// A URL for one request.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Over TLS.
    pub is_https: bool,
    /// Lower case, without port; IPv6 addresses without brackets.
    pub host: String,
    /// The URL's, or the scheme's.
    pub port: u16,
    /// Path and query.
    pub path: PathAndQuery,
    /// The Service behind it, if the model knows.
    pub backend: Option<Arc<BackendCell>>,
}

impl Target {
    /// From the model; `cell` gives the endpoints of a backend.
    pub fn new(url: &url::Url, cell: impl FnOnce(&BackendId) -> Arc<BackendCell>) -> Self {
        let authority = match &url.authority {
            url::Authority::Service { backend, host } => {
                Authority::Service { cell: cell(backend), host: host.clone() }
            }
            url::Authority::Literal { host, port } => Authority::Literal { host: host.clone(), port: *port },
            url::Authority::Variable(template) => Authority::Variable(template.clone()),
        };
        Self { is_https: url.is_https, authority, path: url.path.clone() }
    }

    /// Fills the variables in.
    pub fn resolve(&self, view: &View<'_>) -> Result<Resolved, SubrequestError> {
        let (host, port, backend) = match &self.authority {
            Authority::Service { cell, host } => (host.clone(), None, Some(Arc::clone(cell))),
            Authority::Literal { host, port } => (host.clone(), *port, None),
            Authority::Variable(template) => {
                let (host, port) = authority(&view.expand(template)).ok_or(SubrequestError::Url)?;
                (host, port, None)
            }
        };
        let text = view.expand(&self.path);
        let text = match text.as_bytes().first() {
            Some(b'/') => text,
            None => "/".to_owned(),
            Some(b'?') => format!("/{text}"),
            Some(_) => return Err(SubrequestError::Url),
        };
        let path = PathAndQuery::try_from(text).map_err(|_invalid| SubrequestError::Url)?;
        let port = port.unwrap_or(if self.is_https { 443 } else { 80 });
        Ok(Resolved { is_https: self.is_https, host, port, path, backend })
    }
}

impl Resolved {
    /// Its `Host`: the name alone, as ingress-nginx sends it.
    pub fn host_value(&self) -> Option<HeaderValue> {
        if self.host.contains(':') {
            return HeaderValue::try_from(format!("[{}]", self.host)).ok();
        }
        HeaderValue::try_from(self.host.as_str()).ok()
    }

    /// Whether the port is that of the scheme.
    pub fn has_default_port(&self) -> bool {
        self.port == if self.is_https { 443 } else { 80 }
    }
}

/// Reads `host[:port]`, which came from a request: exactly what a `Host` header may be.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let host = HostName::parse(HeaderValue::try_from(text).ok()?)?;
    let name = host.name().trim_start_matches('[').trim_end_matches(']').to_owned();
    let after = text.rsplit_once(']').map_or(text, |(_, after)| after);
    let port = after.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.is_empty());
    match port {
        Some(port) => Some((name, Some(port.parse().ok().filter(|port| *port != 0)?))),
        None => Some((name, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_variables_came_to_must_be_a_host() {
        for (text, expected) in [
            ("Auth.example:8080", Some(("auth.example", Some(8080)))),
            ("auth.example", Some(("auth.example", None))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("", None),
            ("user@auth.example", None),
            ("auth.example/x", None),
            ("auth.example:0", None),
            ("a b", None),
        ] {
            let found = authority(text);
            let found = found.as_ref().map(|(host, port)| (host.as_str(), *port));
            assert_eq!(found, expected, "{text}");
        }
    }
}
