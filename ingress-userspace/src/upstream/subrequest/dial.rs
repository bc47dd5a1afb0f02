//! New connections for requests of our own, in cleartext or over TLS.
//!
//! Certificates are not verified, as nginx does not unless told to: these URLs name services inside the cluster, whose
//! certificates are mostly self-signed. The server name is sent.

use std::io;
use std::sync::{Arc, LazyLock};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Place, Sender, SubrequestError};

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
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
});

/// Takes any certificate; its signature over the handshake is checked, so that nobody joins later.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
