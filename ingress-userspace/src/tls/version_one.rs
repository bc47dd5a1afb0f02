//! Certificates of X.509 version 1, which `openssl x509 -req` makes unless it is told otherwise, and which webpki does not
//! read. Nothing but the version keeps them from being served, or from naming a client.
//!
//! Such a certificate has no extensions, so there is little to judge: who signed it, and when it is valid. It must be signed
//! by one of the authorities itself, not by one below. Where there are revocation lists, it is refused.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, PeerMisbehaved};
use rustls_pki_types::{SubjectPublicKeyInfoDer, UnixTime};
use webpki::{Error, RawPublicKeyEntity};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

/// Reads a certificate if it is of version 1.
pub fn read(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    (rest.is_empty() && certificate.version() == X509Version::V1).then_some(certificate)
}

/// Its public key.
pub fn public_key<'a>(certificate: &X509Certificate<'a>) -> SubjectPublicKeyInfoDer<'a> {
    SubjectPublicKeyInfoDer::from(certificate.tbs_certificate.subject_pki.raw)
}

/// Whether one of the authorities vouches for it.
pub fn check(
    leaf: &X509Certificate<'_>,
    authorities: &[Vec<u8>],
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<(), Error> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let time = |seconds: i64| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0).unsigned_abs()))
    };
    if seconds < begin {
        return Err(Error::CertNotValidYet { time: now, not_before: time(begin) });
    }
    if seconds > end {
        return Err(Error::CertExpired { time: now, not_after: time(end) });
    }
    let mut verdict = Error::UnknownIssuer;
    for der in authorities {
        let Ok((_, authority)) = X509Certificate::from_der(der) else { continue };
        if authority.subject().as_raw() != leaf.issuer().as_raw() || !may_sign(&authority) {
            continue;
        }
        match signed_by(leaf, &authority, algorithms) {
            Ok(()) => return Ok(()),
            Err(error) => verdict = error,
        }
    }
    Err(verdict)
}

/// An authority that may sign for any name.
fn may_sign(authority: &X509Certificate<'_>) -> bool {
    let is_authority = authority.is_ca() || authority.version() == X509Version::V1;
    is_authority && matches!(authority.name_constraints(), Ok(None))
}

fn signed_by(
    leaf: &X509Certificate<'_>,
    authority: &X509Certificate<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    if leaf.signature_algorithm != leaf.tbs_certificate.signature {
        return Err(Error::SignatureAlgorithmMismatch);
    }
    let name = leaf.signature_algorithm.algorithm.as_bytes();
    // An algorithm is named by an object identifier and, after it, parameters.
    let length = u8::try_from(name.len()).map_err(|_too_long| Error::BadDer)?;
    let identifier = [&[0x06, length], name].concat();
    let key = public_key(authority);
    let key = RawPublicKeyEntity::try_from(&key)?;
    let message = leaf.tbs_certificate.as_ref();
    let signature = leaf.signature_value.data.as_ref();
    let named =
        algorithms.all.iter().filter(|known| known.signature_alg_id().as_ref().starts_with(&identifier));
    let mut verdict = Error::InvalidSignatureForPublicKey;
    for algorithm in named {
        match key.verify_signature(*algorithm, message, signature) {
            Ok(()) => return Ok(()),
            Err(error) => verdict = error,
        }
    }
    Err(verdict)
}

/// Whether the handshake was signed with its key, in TLS 1.2.
pub fn verify_tls12_signature(
    message: &[u8],
    certificate: &X509Certificate<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let possible = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, possible) = possible.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let key = public_key(certificate);
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_unreadable| CertificateError::BadEncoding)?;
    // In TLS 1.2 a scheme leaves the curve open.
    let is_valid = possible
        .iter()
        .any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok());
    match is_valid {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

/// The same in TLS 1.3.
pub fn verify_tls13_signature(
    message: &[u8],
    certificate: &X509Certificate<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify_tls13_signature_with_raw_key(message, &public_key(certificate), signed, algorithms)
}
