//! New connections for requests of our own, in cleartext or over TLS.
//!
//! Certificates are not verified, as nginx does not unless told to: these URLs name services inside the cluster, whose
//! certificates are mostly self-signed. The server name is sent.

use std::io;
use std::sync::{Arc, LazyLock};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Place, Sender, SubrequestError};
use crate::tls::client::Verifier;

/// Bytes of a response head: login cookies can be large.
const RESPONSE_HEAD: usize = 64 * 1024;

/// A new connection. Its task ends with it.
pub async fn connect(place: &Place) -> Result<Sender, SubrequestError> {
    let stream = TcpStream::connect(place.address).await.map_err(SubrequestError::Connect)?;
    // Only latency would suffer.
    let _ = stream.set_nodelay(true);
    let Some(name) = &place.server_name else { return handshake(stream).await };
    let Some(connector) = &*CONNECTOR else {
        return Err(SubrequestError::Connect(io::Error::other("no TLS client configuration")));
    };
    let name = ServerName::try_from(name.to_string()).map_err(|_invalid| SubrequestError::Url)?;
    let stream = connector.connect(name, stream).await.map_err(SubrequestError::Connect)?;
    handshake(stream).await
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Result<Sender, SubrequestError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(RESPONSE_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(SubrequestError::Broken)?;
    tokio::task::spawn_local(async move {
        // Whoever waits for an answer gets the error; an idle connection simply ends.
        let _ = connection.await;
    });
    Ok(sender)
}

/// `None` only if the provider could not speak TLS 1.2 and 1.3, which it can.
static CONNECTOR: LazyLock<Option<TlsConnector>> = LazyLock::new(|| {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::of_any(algorithms)))
        .with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
});
