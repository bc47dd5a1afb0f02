//! Certificates that webpki does not judge, and OpenSSL does: those of X.509 version 1, and those that are authorities
//! themselves (`CA:TRUE`), as `openssl req -x509` makes them. A certificate that stands in `ca.crt` itself is the simplest
//! way to trust one client, or one backend.
//!
//! They must be signed by one of the authorities itself, not by one below. Where there are revocation lists they are refused.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::UnixTime;
use webpki::{Error, RawPublicKeyEntity};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Version};

use super::version_one::public_key;

/// Whom a certificate stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// One that asks.
    Client,
    /// One that is asked.
    Server,
}

/// Whether a certificate names itself as its issuer.
pub fn is_self_issued(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, read)| read.subject().as_raw() == read.issuer().as_raw())
}

/// Whether one of the authorities vouches for a certificate that is an authority's.
pub fn check_authority(
    leaf: &[u8],
    side: Side,
    authorities: &[Vec<u8>],
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<(), Error> {
    // An authority of the same name did not sign it.
    if is_self_issued(leaf) && authorities.iter().all(|authority| authority != leaf) {
        return Err(Error::UnknownIssuer);
    }
    let (rest, leaf) = X509Certificate::from_der(leaf).map_err(|_unreadable| Error::BadDer)?;
    if !rest.is_empty() || !may_stand_for(&leaf, side) {
        return Err(Error::CaUsedAsEndEntity);
    }
    check(&leaf, authorities, algorithms, now)
}

/// Whether the extensions allow it. One that is critical and not understood forbids it.
fn may_stand_for(leaf: &X509Certificate<'_>, side: Side) -> bool {
    leaf.extensions().iter().all(|extension| match (extension.parsed_extension(), side) {
        (ParsedExtension::KeyUsage(usage), Side::Client) => {
            usage.digital_signature() || usage.key_agreement()
        }
        (ParsedExtension::KeyUsage(usage), Side::Server) => {
            usage.digital_signature() || usage.key_agreement() || usage.key_encipherment()
        }
        (ParsedExtension::ExtendedKeyUsage(usage), Side::Client) => usage.client_auth || usage.any,
        (ParsedExtension::ExtendedKeyUsage(usage), Side::Server) => usage.server_auth || usage.any,
        (ParsedExtension::BasicConstraints(_) | ParsedExtension::SubjectAlternativeName(_), _) => true,
        _ => !extension.critical,
    })
}

/// Whether the common name is that of a host. It counts where no alternative name is a host's, as OpenSSL does.
pub fn is_named(der: &[u8], host: &str) -> bool {
    let Ok((_, read)) = X509Certificate::from_der(der) else { return false };
    let has_others = read.subject_alternative_name().map(|names| {
        names.is_some_and(|names| {
            names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(_)))
        })
    });
    // Names that cannot be read may be others.
    if has_others.unwrap_or(true) {
        return false;
    }
    let mut names = read.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    names.any(|name| match name.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    })
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
