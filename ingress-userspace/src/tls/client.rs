//! TLS towards endpoints. As nginx does: neither verification nor a server name unless they are asked for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::{EndEntityCert, InvalidNameContext, KeyUsage, VerifiedPath};

use crate::model::certificate::Authorities;
use crate::model::policy::upstream::UpstreamTls;
use crate::model::tls::CipherSuite;
use crate::tls::direct::{self, Side};
use crate::tls::{ciphers, version_one};

/// How TLS is spoken to endpoints.
#[derive(Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// The name that is sent; `None`: none is.
    name: Option<ServerName<'static>>,
}

/// What a policy refers to.
#[derive(Debug)]
pub struct Material<'a> {
    /// Ours.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// Whom we trust.
    pub authorities: Option<&'a Authorities>,
    /// HTTP/2 is spoken, and asked for.
    pub is_http2: bool,
}

/// Why a policy cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// No version is left.
    #[error("no version of TLS is allowed towards its endpoints")]
    NoVersion,
    /// A server name is not one.
    #[error("{0:?} is not a server name")]
    Name(String),
    /// None of the trusted certificates can be used.
    #[error("none of the trusted certificates can be used")]
    NoAuthority,
    /// The library refuses it.
    #[error("TLS towards its endpoints cannot be set up")]
    Refused(#[from] rustls::Error),
}

impl ClientTls {
    /// From the policy.
    pub fn new(policy: &UpstreamTls, material: Material<'_>) -> Result<Self, ClientTlsError> {
        let suites = if policy.ciphers.is_empty() { &CipherSuite::ALL[..] } else { &policy.ciphers };
        let provider =
            CryptoProvider { cipher_suites: ciphers::offered(suites), ..aws_lc_rs::default_provider() };
        let is_default = *policy == UpstreamTls::default();
        let versions: Vec<&'static SupportedProtocolVersion> = [
            (policy.has_tls13 || is_default, &rustls::version::TLS13),
            (policy.has_tls12 || is_default, &rustls::version::TLS12),
        ]
        .into_iter()
        .filter_map(|(is_allowed, version)| is_allowed.then_some(version))
        .collect();
        if versions.is_empty() {
            return Err(ClientTlsError::NoVersion);
        }
        let server_name = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_invalid| ClientTlsError::Name(name.clone()))
        };
        let expected = match (&policy.verify, material.authorities) {
            (Some(verify), Some(authorities)) => Some(Expected {
                roots: roots(authorities)?,
                authorities: authorities.certificates.clone(),
                name: server_name(&verify.name)?,
                depth: verify.depth,
            }),
            (Some(_), None) => return Err(ClientTlsError::NoAuthority),
            (None, _) => None,
        };
        let verifier = Verifier { expected, algorithms: provider.signature_verification_algorithms };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match material.certificate {
            Some(certificate) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)))
            }
            None => builder.with_no_client_auth(),
        };
        if material.is_http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let name = policy.server_name.as_ref().map(server_name).transpose()?;
        config.enable_sni = name.is_some();
        Ok(Self { config: Arc::new(config), name })
    }

    /// Makes the connection a TLS one.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        endpoint: SocketAddr,
    ) -> io::Result<TlsStream<TcpStream>> {
        // An address is never sent as server name.
        let name = self.name.clone().unwrap_or_else(|| ServerName::IpAddress(endpoint.ip().into()));
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

fn roots(authorities: &Authorities) -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    let certificates = authorities.certificates.iter().map(|der| CertificateDer::from(der.as_slice()));
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(ClientTlsError::NoAuthority),
        _ => Ok(roots),
    }
}

/// Accepts the certificates of endpoints. In any case an endpoint must have the key of the one that it shows, so that
/// nobody joins later.
#[derive(Debug)]
pub struct Verifier {
    /// `None`: any certificate.
    expected: Option<Expected>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate of a trusted authority for one name, whatever name was asked for.
#[derive(Debug)]
struct Expected {
    roots: RootCertStore,
    /// The same, whole.
    authorities: Vec<Vec<u8>>,
    name: ServerName<'static>,
    depth: u32,
}

impl Verifier {
    /// Accepts every certificate.
    pub fn of_any(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { expected: None, algorithms }
    }
}

impl Expected {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), webpki::Error> {
        if let Some(old) = version_one::read(leaf) {
            direct::check(&old, &self.authorities, algorithms, now)?;
            return if self.is_common_name(leaf) { Ok(()) } else { Err(self.misnamed()) };
        }
        let certificate = EndEntityCert::try_from(leaf)?;
        let is_short = |path: &VerifiedPath<'_>| {
            let between = path.intermediate_certificates().count();
            if between > usize::try_from(self.depth).unwrap_or(usize::MAX) {
                return Err(webpki::Error::MaximumPathDepthExceeded);
            }
            Ok(())
        };
        let roots = &self.roots.roots;
        let usage = KeyUsage::server_auth();
        let path = certificate.verify_for_usage(
            algorithms.all,
            roots,
            intermediates,
            now,
            usage,
            None,
            Some(&is_short),
        );
        match path {
            Err(webpki::Error::CaUsedAsEndEntity) => {
                direct::check_authority(leaf, Side::Server, &self.authorities, algorithms, now)?;
            }
            path => drop(path?),
        }
        match certificate.verify_is_valid_for_subject_name(&self.name) {
            Err(webpki::Error::CertNotValidForName(_)) if self.is_common_name(leaf) => Ok(()),
            named => named,
        }
    }

    fn is_common_name(&self, leaf: &CertificateDer<'_>) -> bool {
        matches!(&self.name, ServerName::DnsName(name) if direct::is_named(leaf, name.as_ref()))
    }

    fn misnamed(&self) -> webpki::Error {
        let context = InvalidNameContext { expected: self.name.clone(), presented: Vec::new() };
        webpki::Error::CertNotValidForName(context)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(expected) = &self.expected {
            expected.verify(leaf, intermediates, now, &self.algorithms).map_err(bad)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match version_one::read(certificate) {
            Some(old) => version_one::verify_tls12_signature(message, &old, signed, &self.algorithms),
            None => verify_tls12_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match version_one::read(certificate) {
            Some(old) => version_one::verify_tls13_signature(message, &old, signed, &self.algorithms),
            None => verify_tls13_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn bad(error: webpki::Error) -> rustls::Error {
    use webpki::Error;
    rustls::Error::InvalidCertificate(match error {
        Error::CertExpired { .. } => CertificateError::Expired,
        Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Error::CertNotValidForName(_) => CertificateError::NotValidForName,
        Error::UnknownIssuer => CertificateError::UnknownIssuer,
        Error::BadDer => CertificateError::BadEncoding,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    })
}
