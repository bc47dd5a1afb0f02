//! The cipher suites of TLS 1.2 that the model names, as rustls has them.

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as known};

use crate::model::tls::CipherSuite;

/// What is offered: these, behind the suites of TLS 1.3, which are not chosen by lists, as in OpenSSL.
pub fn offered(tls12: &[CipherSuite]) -> Vec<SupportedCipherSuite> {
    let mut suites = aws_lc_rs::default_provider().cipher_suites;
    suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
    suites.extend(tls12.iter().map(|suite| supported(*suite)));
    suites
}

/// OpenSSL's name of a suite that was agreed on.
pub fn name(suite: rustls::CipherSuite) -> &'static str {
    match suite {
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => {
            let found = CipherSuite::ALL.into_iter().find(|known| supported(*known).suite() == other);
            found.map_or("", CipherSuite::name)
        }
    }
}

fn supported(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdsaAes128 => known::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes128 => known::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => known::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaAes256 => known::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChacha20 => known::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaChacha20 => known::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_that_can_be_offered_has_a_name() {
        let offered = offered(&CipherSuite::ALL);
        assert_eq!(offered.len(), 9);
        assert!(offered.iter().all(|suite| !name(suite.suite()).is_empty()));
        assert_eq!(
            name(rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
            CipherSuite::RsaAes256.name()
        );
    }
}
