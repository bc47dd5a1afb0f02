//! Clients: bytes as they are, and HTTP/1.1 or HTTP/2 by hyper, with TLS and a server name.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a broken rig fails its test by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No test waits longer for an answer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A response whose body was read.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request without a body.
pub fn get(host: &str, target: &str) -> Request<Full<Bytes>> {
    request("GET", host, target, "")
}

/// A request with a body of known length.
pub fn request(method: &str, host: &str, target: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", host)
        .body(Full::new(body.into()))
        .expect("a valid request")
}

/// Sends a request on a connection of its own.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let mut connection = Http1::open(address).await?;
    connection.send(request).await
}

/// `GET` on a connection of its own.
pub async fn fetch(address: SocketAddr, host: &str, target: &str) -> anyhow::Result<Answer> {
    send(address, get(host, target)).await
}

async fn answer(response: Response<hyper::body::Incoming>) -> anyhow::Result<Answer> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.context("the body broke off")?.to_bytes();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// An HTTP/1.1 connection that is kept.
#[derive(Debug)]
pub struct Http1(http1::SendRequest<Full<Bytes>>);

impl Http1 {
    /// In cleartext.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Over TLS.
    pub async fn open_tls(address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        Self::open_over(tls(address, name, &["http/1.1"]).await?).await
    }

    /// Over a TLS connection that stands.
    pub async fn open_over(stream: TlsStream<TcpStream>) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// One request after the other.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        timeout(PATIENCE, async {
            self.0.ready().await?;
            answer(self.0.send_request(request).await?).await
        })
        .await
        .context("no answer in time")?
    }

    /// Whether the server closed it.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// An HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct Http2(http2::SendRequest<Full<Bytes>>);

impl Http2 {
    /// In cleartext, by prior knowledge.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Over TLS, by ALPN.
    pub async fn open_tls(address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        Self::open_over(tls(address, name, &["h2"]).await?).await
    }

    /// Over a TLS connection that stands.
    pub async fn open_over(stream: TlsStream<TcpStream>) -> anyhow::Result<Self> {
        anyhow::ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "the server does not offer h2");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// A request; `host` becomes the authority.
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        if let Some(host) = request.headers_mut().remove("host") {
            let target = format!("https://{}{}", host.to_str()?, request.uri());
            *request.uri_mut() = target.parse()?;
        }
        timeout(PATIENCE, async {
            self.0.ready().await?;
            answer(self.0.send_request(request).await?).await
        })
        .await
        .context("no answer in time")?
    }

    /// Whether the server said goodbye and all streams are done.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Sends bytes as they are and reads until the server closes or is silent for a moment.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    timeout(PATIENCE, async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
            if is_complete(&answer) {
                break;
            }
        }
    })
    .await
    .context("the server neither answered nor closed")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A head and a body of the announced length are there, and the connection stays open.
fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let is_closing = head.contains("connection: close");
    !is_closing
        && length.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| body.len() >= length)
}

/// What a client shows when it is asked for a certificate: the chain, and the key of its first one.
#[derive(Debug)]
pub struct Identity {
    /// DER, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: Vec<u8>,
}

/// A TLS connection that trusts everybody; the certificate is there to be looked at.
pub async fn tls(address: SocketAddr, name: &str, alpn: &[&str]) -> anyhow::Result<TlsStream<TcpStream>> {
    tls_as(address, name, alpn, None).await
}

/// The same by a client that has a certificate.
pub async fn tls_as(
    address: SocketAddr,
    name: &str,
    alpn: &[&str],
    identity: Option<&Identity>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let config = tls_config(alpn, identity)?;
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await??)
}

/// A configuration that several connections may share, and resume sessions by.
pub fn tls_config(alpn: &[&str], identity: Option<&Identity>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match identity {
        Some(Identity { chain, key }) => {
            let key = PrivateKeyDer::Pkcs8(key.clone().into());
            let signer = aws_lc_rs::sign::any_supported_type(&key)?;
            // Shows whatever it has, also what no server should take.
            let shown = SingleCertAndKey::from(CertifiedKey::new(chain.clone(), signer));
            builder.with_client_cert_resolver(Arc::new(shown))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

/// The leaf certificate that a server name gets, DER.
pub async fn certificate(address: SocketAddr, name: &str) -> anyhow::Result<Vec<u8>> {
    let stream = tls(address, name, &[]).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    Ok(chain.first().context("an empty chain")?.to_vec())
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
