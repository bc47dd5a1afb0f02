//! Certificates of clients: asked for in the handshake, judged after it.
//!
//! A handshake does not fail for want of a valid certificate: the client gets an answer in HTTP that says so. What must hold
//! there is that the client has the key of the certificate that it shows. The verdict belongs to the connection and is made
//! anew for each: such sessions do not resume.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::direct::{self, Side};
use super::version_one;
use crate::model::policy::client_certificate::{ClientAuthorities, Requirement, Trust};

/// Judges certificates.
#[derive(Debug)]
pub struct Judge {
    /// What it was made of.
    pub trust: Trust,
    anchors: Vec<TrustAnchor<'static>>,
    /// The same, whole.
    authorities: Vec<Vec<u8>>,
    revocations: Vec<CertRevocationList<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What is to be said of the certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is none.
    None,
    /// It is valid.
    Valid,
    /// It would be, of another authority.
    Untrusted(&'static str),
    /// It is not valid.
    Invalid(&'static str),
}

impl Verdict {
    /// As nginx's `$ssl_client_verify`.
    pub fn text(&self) -> String {
        match self {
            Self::None => "NONE".to_owned(),
            Self::Valid => "SUCCESS".to_owned(),
            Self::Untrusted(reason) | Self::Invalid(reason) => format!("FAILED:{reason}"),
        }
    }

    /// Whether a client with it is let in.
    pub fn satisfies(&self, requirement: Requirement) -> bool {
        match (requirement, self) {
            (Requirement::Off, _) | (_, Self::Valid) => true,
            (Requirement::Optional | Requirement::OptionalNoCa, Self::None) => true,
            (Requirement::OptionalNoCa, Self::Untrusted(_)) => true,
            (_, Self::None | Self::Untrusted(_) | Self::Invalid(_)) => false,
        }
    }
}

impl Judge {
    /// From the model.
    pub fn new(trust: &Trust, authorities: &ClientAuthorities) -> Result<Self, webpki::Error> {
        let anchor = |der: &Vec<u8>| {
            let certificate = CertificateDer::from(der.as_slice());
            webpki::anchor_from_trusted_cert(&certificate).map(|anchor| anchor.to_owned())
        };
        let list = |der: &Vec<u8>| {
            let list = CertificateRevocationListDer::from(der.as_slice());
            OwnedCertRevocationList::from_der(&list).map(CertRevocationList::Owned)
        };
        Ok(Self {
            trust: trust.clone(),
            anchors: authorities.certificates.iter().map(anchor).collect::<Result<_, _>>()?,
            authorities: authorities.certificates.clone(),
            revocations: authorities.revocations.iter().map(list).collect::<Result<_, _>>()?,
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        })
    }

    /// Judges what a client showed, leaf first.
    pub fn verdict(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Verdict {
        let Some((leaf, intermediates)) = chain.split_first() else { return Verdict::None };
        match self.check(leaf, intermediates, now) {
            Ok(()) => Verdict::Valid,
            Err(webpki::Error::UnknownIssuer) => Verdict::Untrusted(why_unknown(leaf, intermediates)),
            Err(error) => reason(&error),
        }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        if let Some(leaf) = version_one::read(leaf) {
            return match self.revocations.is_empty() {
                true => direct::check(&leaf, &self.authorities, &self.algorithms, now),
                false => Err(webpki::Error::UnknownRevocationStatus),
            };
        }
        let certificate = EndEntityCert::try_from(leaf)?;
        let is_short = |path: &VerifiedPath<'_>| {
            let between = path.intermediate_certificates().count();
            match between > usize::try_from(self.trust.depth).unwrap_or(usize::MAX) {
                true => Err(webpki::Error::MaximumPathDepthExceeded),
                false => Ok(()),
            }
        };
        let lists: Vec<&CertRevocationList<'_>> = self.revocations.iter().collect();
        // Without a list nothing is known to be revoked; with one, what it does not cover is refused.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let checked = certificate.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            intermediates,
            now,
            KeyUsage::client_auth(),
            revocation,
            Some(&is_short),
        );
        match checked {
            Err(webpki::Error::CaUsedAsEndEntity) if self.revocations.is_empty() => {
                direct::check_authority(leaf, Side::Client, &self.authorities, &self.algorithms, now)
            }
            Err(webpki::Error::CaUsedAsEndEntity) => Err(webpki::Error::UnknownRevocationStatus),
            checked => checked.map(|_path| ()),
        }
    }
}

/// Why nobody vouches for a certificate, in the words of OpenSSL.
fn why_unknown(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> &'static str {
    if direct::is_self_issued(leaf) {
        "self-signed certificate"
    } else if intermediates.is_empty() {
        "unable to verify the first certificate"
    } else {
        "unable to get local issuer certificate"
    }
}

/// In the words of OpenSSL, which backends may know.
fn reason(error: &webpki::Error) -> Verdict {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } => Verdict::Invalid("certificate has expired"),
        Error::CertNotValidYet { .. } => Verdict::Invalid("certificate is not yet valid"),
        Error::CertRevoked => Verdict::Invalid("certificate revoked"),
        Error::UnknownRevocationStatus => Verdict::Invalid("unable to get certificate CRL"),
        Error::CrlExpired { .. } => Verdict::Invalid("CRL has expired"),
        Error::MaximumPathDepthExceeded => Verdict::Invalid("certificate chain too long"),
        Error::RequiredEkuNotFoundContext(_) | Error::CaUsedAsEndEntity => {
            Verdict::Invalid("unsuitable certificate purpose")
        }
        Error::InvalidSignatureForPublicKey => Verdict::Invalid("certificate signature failure"),
        _ => Verdict::Invalid("certificate rejected"),
    }
}

/// Asks for a certificate and takes any that the client has the key of.
#[derive(Debug)]
pub struct Asking {
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Asking {
    /// Names the authorities to the client, so that it can choose.
    pub fn new(judge: &Judge) -> Arc<Self> {
        let subjects = judge.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject));
        Arc::new(Self { subjects: subjects.collect(), algorithms: judge.algorithms })
    }
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
