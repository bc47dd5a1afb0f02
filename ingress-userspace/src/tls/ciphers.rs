//! The TLS 1.2 cipher suites that we speak, by the names that OpenSSL gives them.

use rustls::{CipherSuite, SupportedCipherSuite};

/// Name and suite, the strongest first.
pub const KNOWN: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Whether a suite may be offered when these TLS 1.2 suites are named. As in OpenSSL, the suites of TLS 1.3 are not chosen
/// by such a list.
pub fn is_allowed(suite: SupportedCipherSuite, names: &[String]) -> bool {
    match suite {
        SupportedCipherSuite::Tls13(_) => true,
        SupportedCipherSuite::Tls12(_) => KNOWN
            .iter()
            .any(|(name, known)| *known == suite.suite() && names.iter().any(|wanted| wanted == name)),
    }
}
