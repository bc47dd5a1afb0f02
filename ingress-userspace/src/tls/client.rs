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
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::model::certificate::Authorities;
use crate::model::policy::upstream::UpstreamTls;
use crate::tls::ciphers;

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
        let mut provider = aws_lc_rs::default_provider();
        if !policy.ciphers.is_empty() {
            provider.cipher_suites.retain(|suite| ciphers::is_allowed(*suite, &policy.ciphers));
        }
        let provider = Arc::new(provider);
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
        let verifier: Arc<dyn ServerCertVerifier> = match (&policy.verify, material.authorities) {
            (Some(verify), Some(authorities)) => Arc::new(Verifier {
                roots: roots(authorities)?,
                name: server_name(&verify.name)?,
                depth: verify.depth,
                algorithms: provider.signature_verification_algorithms,
            }),
            (Some(_), None) => return Err(ClientTlsError::NoAuthority),
            (None, _) => Arc::new(Unverified { algorithms: provider.signature_verification_algorithms }),
        };
        let builder = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider))
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
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

/// Accepts every certificate; the endpoint must only have the key of the one that it shows.
#[derive(Debug)]
pub struct Unverified {
    /// Checks the signature over the handshake, so that nobody joins later.
    pub algorithms: WebPkiSupportedAlgorithms,
}

/// Accepts a certificate of a trusted authority for one name, whatever name was asked for.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    name: ServerName<'static>,
    depth: u32,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Unverified {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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
        let certificate = EndEntityCert::try_from(leaf).map_err(bad)?;
        let is_short = |path: &VerifiedPath<'_>| {
            let between = path.intermediate_certificates().count();
            if between > usize::try_from(self.depth).unwrap_or(usize::MAX) {
                return Err(webpki::Error::MaximumPathDepthExceeded);
            }
            Ok(())
        };
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                Some(&is_short),
            )
            .map_err(bad)?;
        certificate.verify_is_valid_for_subject_name(&self.name).map_err(bad)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
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
