//! Asks a service on behalf of a request.
//!
//! A URL whose host we serve ourselves (`https://$host/oauth2/auth` is the usual one) does not leave the process: it goes
//! through the same routes and filters as a client's request, without DNS and without a second connection to our own
//! address, which many networks do not allow. Everything else goes over the network.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Uri, Version};
use http_body_util::{BodyExt, Full};

use super::body::Body;
use super::context::{ConnectionInfo, RequestCtx, Scheme};
use super::head::{Headers, HostName, Request, RequestHead};
use super::path::Target;
use super::request::serve_internal;
use crate::telemetry::access_log::Record;
use crate::upstream::subrequest::target::Resolved;
use crate::upstream::subrequest::{Answer, Deadlines, SubrequestError};

/// Bytes of an answer's body that are read, to let its connection be used again.
const LONGEST_BODY: usize = 64 * 1024;

/// What is asked.
#[derive(Debug)]
pub struct Question {
    /// Usually `GET`.
    pub method: Method,
    /// With `Host`.
    pub headers: HeaderMap,
}

/// Asks, by the shortest way.
pub async fn ask(
    ctx: &RequestCtx,
    head: &RequestHead,
    to: &Resolved,
    question: Question,
    deadlines: Deadlines,
) -> Result<Answer, SubrequestError> {
    if let Some(listener) = own_listener(ctx, head, to) {
        if ctx.is_internal {
            return Err(SubrequestError::Loop);
        }
        let asked = tokio::time::timeout(
            deadlines.connect + deadlines.answer,
            ask_ourselves(ctx, listener, to, question),
        );
        return asked.await.map_err(|_elapsed| SubrequestError::Timeout)?;
    }
    let mut request = http::Request::new(Full::<Bytes>::default());
    *request.method_mut() = question.method;
    *request.uri_mut() = Uri::from(to.path.clone());
    *request.headers_mut() = question.headers;
    ctx.worker.subrequests.send(&ctx.snapshot.globals.subrequests, to, &request, deadlines).await
}

/// The listener that would take a request for this URL, if its host is ours: named by a rule, or the very host that the
/// request came for. What only a wildcard covers may be somewhere else.
fn own_listener(ctx: &RequestCtx, head: &RequestHead, to: &Resolved) -> Option<&'static str> {
    if to.backend.is_some() || !to.has_default_port() || to.host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let name = if to.is_https { "https" } else { "http" };
    let router = &ctx.snapshot.listener(name)?.router;
    let is_same_host = to.host == head.host.name();
    let is_ours = is_same_host || router.names(&to.host);
    let route = router.route(&to.host, to.path.path().as_bytes())?;
    // A host that wants certificates has seen the client's, or gets to ask for ours: over the network, where we have none.
    let is_shown = is_same_host && to.is_https && ctx.connection.tls.is_some();
    (is_ours && (is_shown || route.chain.client_certificate.is_none())).then_some(name)
}

/// Boxed, because the request that asks and the one that is asked take the same path.
fn ask_ourselves<'a>(
    ctx: &'a RequestCtx,
    listener: &'static str,
    to: &'a Resolved,
    question: Question,
) -> Pin<Box<dyn Future<Output = Result<Answer, SubrequestError>> + 'a>> {
    Box::pin(async move {
        let scheme = if to.is_https { Scheme::Https } else { Scheme::Http };
        let client = SocketAddr::new(ctx.peer.client, 0);
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), to.port);
        let mut connection = ConnectionInfo::new(client, local, Rc::from(listener), scheme);
        if to.is_https {
            // What the client showed in its handshake counts for the host that it showed it to.
            let tls = ctx.connection.tls.as_ref();
            connection.tls = tls.filter(|tls| tls.server_name.as_deref() == Some(to.host.as_str())).cloned();
        }
        let connection = Rc::new(connection);
        let mut request = http::Request::new(());
        *request.method_mut() = question.method;
        *request.uri_mut() = Uri::from(to.path.clone());
        *request.headers_mut() = question.headers;
        let (mut parts, ()) = request.into_parts();
        let (reporter, log) = (&ctx.worker.reporter, &ctx.snapshot.globals.access_log);
        let id = ctx.record.request_id.clone();
        let record = Record::open(reporter, &log.format, ctx.peer.client, &parts, id);
        let host = parts.headers.remove(header::HOST).unwrap_or(HeaderValue::from_static(""));
        let head = RequestHead {
            method: parts.method,
            target: Target::parse(to.path.clone()).map_err(|_reason| SubrequestError::Url)?,
            host: HostName::parse(host).ok_or(SubrequestError::Url)?,
            version: Version::HTTP_11,
            headers: Headers::from_engine(parts.headers),
        };
        let mut inner =
            RequestCtx::new(Rc::clone(&ctx.worker), connection, Arc::clone(&ctx.snapshot), record);
        inner.is_internal = true;
        let response = serve_internal(&mut inner, Request { head, body: Body::empty() }).await;
        let mut body = response.body;
        let mut left = LONGEST_BODY;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Ok(Answer { status: response.head.status, headers: response.head.headers.into_engine() })
    })
}
