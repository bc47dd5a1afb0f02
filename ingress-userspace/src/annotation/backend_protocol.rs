//! `backend-protocol`, `proxy-http-version`, and what belongs to FastCGI.

use super::registry::annotations;
use super::{Effect, Read, Reader};
use crate::model::policy::upstream::UpstreamProtocol;

annotations! { "Protocol towards the backend";
    /// How the endpoints are spoken to, in any case: `HTTP`; `HTTPS`, HTTP over TLS; `AUTO_HTTP`, as the client came; `GRPC`
    /// and `GRPCS`, HTTP/2 in cleartext and over TLS. As in ingress-nginx the certificate of an endpoint is not verified and
    /// no server name is sent, unless `proxy-ssl-*` asks for it, and gRPC has the timeouts of `proxy-*-timeout`. Unlike in
    /// ingress-nginx `FCGI` is not served: put an HTTP server in front of the FastCGI application, in its pod.
    BACKEND_PROTOCOL: Protocol = "backend-protocol", parse: protocol,
    values: "HTTP, HTTPS, AUTO_HTTP, GRPC or GRPCS", default: "HTTP", on_invalid: Warn, scope: "path", twins: [],
    in: Annotation, support: Differs;
    /// The version of HTTP towards endpoints that are not spoken to by gRPC. With 1.0 there is a connection per request, and
    /// no WebSocket.
    PROXY_HTTP_VERSION: HttpVersion = "proxy-http-version", parse: http_version, values: "1.0 or 1.1", default: "1.1",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Only FastCGI backends would read it, which are not served: accepted, and nothing is done.
    FASTCGI_INDEX: String = "fastcgi-index", parse: text, values: "the name of a file", default: "", on_invalid: Note,
    scope: "path", twins: [], in: Annotation, support: Ignored;
    /// Only FastCGI backends would read it, which are not served: accepted, and nothing is done.
    FASTCGI_PARAMS: String = "fastcgi-params-configmap", parse: text, values: "the name of a ConfigMap", default: "",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Ignored;
}

/// A value of `backend-protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One that we speak.
    Spoken(UpstreamProtocol),
    /// `FCGI`.
    FastCgi,
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Spoken(UpstreamProtocol::default())
    }
}

/// A value of `proxy-http-version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// `1.0`.
    Http10,
    /// `1.1`.
    #[default]
    Http11,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendProtocol {
    /// `backend-protocol`.
    pub protocol: UpstreamProtocol,
    /// `proxy-http-version: 1.0`.
    pub is_http10: bool,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> BackendProtocol {
    let protocol = match reader.value(&BACKEND_PROTOCOL) {
        Protocol::Spoken(protocol) => protocol,
        Protocol::FastCgi => {
            let message = "FastCGI is not spoken, so the paths of this Ingress answer 503; run an HTTP server (nginx, Caddy) in \
                           the pod of the application and point the Service at it";
            reader.note(BACKEND_PROTOCOL.row.key, Effect::Deny, message);
            UpstreamProtocol::Http
        }
    };
    for row in [&FASTCGI_INDEX, &FASTCGI_PARAMS] {
        if let Read::Value(_) = reader.get(row) {
            let message =
                "only FastCGI backends would read it, which are not served; it changes nothing; remove it";
            reader.note(row.row.key, Effect::Note, message);
        }
    }
    BackendProtocol { protocol, is_http10: reader.value(&PROXY_HTTP_VERSION) == HttpVersion::Http10 }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let spoken = match text.to_ascii_uppercase().as_str() {
        "HTTP" => UpstreamProtocol::Http,
        "HTTPS" => UpstreamProtocol::Https,
        "AUTO_HTTP" => UpstreamProtocol::AutoHttp,
        "GRPC" => UpstreamProtocol::Grpc,
        "GRPCS" => UpstreamProtocol::Grpcs,
        "FCGI" => return Ok(Protocol::FastCgi),
        _ => return Err("is not a protocol that is spoken to backends".to_owned()),
    };
    Ok(Protocol::Spoken(spoken))
}

fn http_version(text: &str) -> Result<HttpVersion, String> {
    match text {
        "1.0" => Ok(HttpVersion::Http10),
        "1.1" => Ok(HttpVersion::Http11),
        _ => Err("is neither 1.0 nor 1.1".to_owned()),
    }
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}
