//! How endpoints are spoken to: the version of HTTP, and TLS. Compiled once per distinct setting; connections are pooled by
//! endpoint and transport, so what one route may use no other may use by accident.

use std::sync::Arc;

use http::HeaderMap;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Version, header};

use crate::proxy::body::Body;
use crate::proxy::context;
use crate::proxy::forward::Outgoing;
use crate::tls::client::ClientTls;

/// The version of HTTP towards endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamVersion {
    /// HTTP/1.0: a connection per request, no switched protocols.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// One way to speak to endpoints.
#[derive(Debug)]
pub struct Transport {
    /// Tells it from all others of the process.
    pub id: u64,
    /// The version of HTTP.
    pub version: UpstreamVersion,
    /// `None`: cleartext.
    pub tls: Option<ClientTls>,
}

impl Transport {
    /// HTTP/1.1 in cleartext.
    pub fn plain() -> Self {
        Self { id: 0, version: UpstreamVersion::Http11, tls: None }
    }

    /// Whether requests share a connection.
    pub fn is_shared(&self) -> bool {
        self.version == UpstreamVersion::Http2
    }

    /// Whether a body may be sent whose length is not known before.
    pub fn can_stream(&self) -> bool {
        self.version != UpstreamVersion::Http10
    }

    /// Whether a connection can become a tunnel.
    pub fn can_upgrade(&self) -> bool {
        self.version == UpstreamVersion::Http11
    }

    /// The request as this version writes it.
    pub fn request(&self, outgoing: Outgoing, body: Body) -> Request<Body> {
        let Outgoing { method, uri, mut headers } = outgoing;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = match self.version {
            UpstreamVersion::Http11 => uri,
            UpstreamVersion::Http10 => {
                *request.version_mut() = Version::HTTP_10;
                headers.remove(header::CONNECTION);
                headers.remove(header::TE);
                uri
            }
            UpstreamVersion::Http2 => {
                *request.version_mut() = Version::HTTP_2;
                // HTTP/2 has no connection headers, and the engine would take away what they name: `TE`.
                headers.remove(header::CONNECTION);
                self.absolute(uri, &mut headers)
            }
        };
        *request.headers_mut() = headers;
        request
    }

    /// `Host` becomes `:authority`. One that cannot stand there stays a header.
    fn absolute(&self, uri: Uri, headers: &mut HeaderMap) -> Uri {
        let authority = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let Some(authority) = authority else { return uri };
        let mut parts = uri.clone().into_parts();
        parts.scheme = Some(if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(authority);
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        match Uri::from_parts(parts) {
            Ok(absolute) => {
                headers.remove(header::HOST);
                absolute
            }
            Err(_) => uri,
        }
    }
}

/// The transport of a route.
#[derive(Clone, Debug)]
pub enum RouteTransport {
    /// The same for all.
    Fixed(Arc<Transport>),
    /// By how the client came.
    ByScheme {
        /// In cleartext.
        http: Arc<Transport>,
        /// Over TLS.
        https: Arc<Transport>,
    },
}

impl RouteTransport {
    /// HTTP/1.1 in cleartext.
    pub fn plain() -> Self {
        Self::Fixed(Arc::new(Transport::plain()))
    }

    /// For checks, which no client asks for: where it goes by the client, in cleartext.
    pub fn of_checks(&self) -> &Arc<Transport> {
        self.of(context::Scheme::Http)
    }

    /// For a client that speaks like this.
    pub fn of(&self, scheme: context::Scheme) -> &Arc<Transport> {
        match (self, scheme) {
            (Self::Fixed(transport), _) => transport,
            (Self::ByScheme { http, .. }, context::Scheme::Http) => http,
            (Self::ByScheme { https, .. }, context::Scheme::Https) => https,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    fn made(version: UpstreamVersion) -> Request<Body> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "a.example:8080"), ("connection", "te"), ("te", "trailers")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let outgoing = Outgoing { method: Method::POST, uri: Uri::from_static("/a?b"), headers };
        Transport { id: 1, version, tls: None }.request(outgoing, Body::empty())
    }

    #[test]
    fn http2_has_an_authority_and_no_connection_headers() {
        let request = made(UpstreamVersion::Http2);
        assert_eq!(request.uri(), "http://a.example:8080/a?b");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()["te"], "trailers");
    }

    #[test]
    fn http10_offers_no_trailers_and_http11_keeps_everything() {
        let old = made(UpstreamVersion::Http10);
        assert_eq!((old.version(), old.headers().len()), (Version::HTTP_10, 1));
        let usual = made(UpstreamVersion::Http11);
        assert_eq!((usual.uri().to_string().as_str(), usual.headers().len()), ("/a?b", 3));
    }
}
