//! Backends that speak TLS and HTTP/2, with certificates of an authority of their own.
#![expect(clippy::expect_used, reason = "a broken rig fails its test by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::origin::Seen;

/// An authority and what it signs.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, PEM.
#[derive(Debug)]
pub struct Pair {
    /// The chain.
    pub certificate: String,
    /// The key.
    pub key: String,
    der: (Vec<u8>, Vec<u8>),
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        // A name of its own: what has the name of its issuer is taken for its own issuer.
        let mut params = with_common_name("Authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for a name.
    pub fn sign(&self, name: &str) -> Pair {
        self.sign_as(&CertificateParams::new(vec![name.to_owned()]).expect("a name"))
    }

    /// A certificate whose only name is the common name of its subject.
    pub fn sign_common_name(&self, name: &str) -> Pair {
        self.sign_as(&with_common_name(name))
    }

    fn sign_as(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair::new(&certificate, &key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn with_common_name(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Pair {
    /// One that was made elsewhere, PEM.
    pub fn of_pem(certificate: &str, key: &str) -> Self {
        let (shown, secret) = (
            CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate"),
            PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).expect("a key"),
        );
        let der = (shown.to_vec(), secret.secret_pkcs8_der().to_vec());
        Self { certificate: certificate.to_owned(), key: key.to_owned(), der }
    }

    fn new(certificate: &Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: (certificate.der().to_vec(), key.serialize_der()),
        }
    }

    /// What `openssl req -x509` makes: an authority that signs itself, named by its common name.
    pub fn self_signed(name: &str) -> Self {
        let mut params = with_common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self::new(&certificate, &key)
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der.0
    }
}

/// How a backend speaks.
#[derive(Debug)]
pub struct Speech<'a> {
    /// Over TLS with this certificate.
    pub pair: Option<&'a Pair>,
    /// Clients must show a certificate of this authority.
    pub clients: Option<&'a Authority>,
    /// HTTP/2, not HTTP/1.
    pub is_http2: bool,
}

/// A backend. Over HTTP/2 it answers as a gRPC service does: with the body that it got and a trailer `grpc-status`.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<Log>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Mutex<Vec<Seen>>,
    names: Mutex<Vec<Option<String>>>,
    connections: AtomicUsize,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Starts one.
    pub async fn start(speech: Speech<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let log = Arc::new(Log::default());
        let acceptor = speech.pair.map(|pair| TlsAcceptor::from(Arc::new(config(pair, &speech))));
        let (seen, is_http2) = (Arc::clone(&log), speech.is_http2);
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, acceptor) = (Arc::clone(&seen), acceptor.clone());
                tasks.spawn(async move {
                    seen.connections.fetch_add(1, Ordering::SeqCst);
                    match acceptor {
                        None => serve(stream, seen, is_http2).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            let name = stream.get_ref().1.server_name().map(str::to_owned);
                            seen.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                            serve(stream, seen, is_http2).await;
                        }
                    }
                });
            }
        });
        Self { address, log, task }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server names of the handshakes so far.
    pub fn names(&self) -> Vec<Option<String>> {
        self.log.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }
}

fn config(pair: &Pair, speech: &Speech<'_>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let verifier = match speech.clients {
        None => Arc::new(NoClientAuth),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).expect("an authority");
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("a verifier")
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.der.1.clone()));
    // Not compared with its certificate, which may be of a version that rustls does not read.
    let signer = aws_lc_rs::sign::any_supported_type(&key).expect("a key");
    let certified = CertifiedKey::new(vec![pair.der.0.clone().into()], signer);
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![if speech.is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config
}

async fn serve<T>(stream: T, log: Arc<Log>, is_http2: bool)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let log = Arc::clone(&log);
        async move { Ok::<_, Infallible>(answer(request, &log, is_http2).await) }
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

type Reply = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, log: &Log, is_http2: bool) -> Reply {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await;
    let trailers = collected.as_ref().ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
    let body = collected.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let fields = parts.headers.iter().chain(&trailers);
    let headers = fields
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let line = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
    log.requests.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
        line,
        headers,
        body: body.clone(),
    });
    if !is_http2 {
        return Response::new(Full::new(body).boxed());
    }
    let mut end = HeaderMap::new();
    end.insert("grpc-status", HeaderValue::from_static("0"));
    end.insert("grpc-message", HeaderValue::from_static("fine"));
    let body = Full::new(body).with_trailers(async move { Some(Ok(end)) });
    let mut response = Response::new(BodyExt::boxed(body));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
