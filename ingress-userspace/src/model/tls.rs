//! How TLS is spoken with clients: versions, cipher suites, groups, sessions. Which certificate answers stands with hosts
//! and listeners.

use serde::{Deserialize, Serialize};

/// TLS settings of the whole proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// TLS 1.2 is spoken.
    pub has_tls12: bool,
    /// TLS 1.3 is spoken.
    pub has_tls13: bool,
    /// The suites of TLS 1.2 and their order.
    pub ciphers: Ciphers,
    /// Groups of the key exchange, the best first.
    pub groups: Vec<Group>,
    /// Sessions are resumed by tickets, which all workers read.
    pub has_tickets: bool,
    /// Sessions are resumed from memory.
    pub has_session_cache: bool,
    /// A handshake for a name that no host has ends with an alert, not with the default certificate.
    pub rejects_unknown: bool,
    /// HTTP/2 is offered.
    pub has_http2: bool,
}

/// The suites of TLS 1.2. Those of TLS 1.3 are all on, as with OpenSSL's cipher lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ciphers {
    /// The best first, never empty.
    pub suites: Vec<CipherSuite>,
    /// Our order counts, not the client's.
    pub is_our_order: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            has_tls12: true,
            has_tls13: true,
            ciphers: Ciphers::default(),
            groups: Group::ALL.to_vec(),
            has_tickets: true,
            has_session_cache: true,
            rejects_unknown: false,
            has_http2: true,
        }
    }
}

impl Default for Ciphers {
    fn default() -> Self {
        Self { suites: CipherSuite::ALL.to_vec(), is_our_order: true }
    }
}

/// A suite of TLS 1.2. There are no others: key exchange without forward secrecy, CBC and 3DES are not implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "`name` says what each is")]
pub enum CipherSuite {
    EcdsaAes128,
    RsaAes128,
    EcdsaAes256,
    RsaAes256,
    EcdsaChacha20,
    RsaChacha20,
}

impl CipherSuite {
    /// All of them, in the order of ingress-nginx.
    pub const ALL: [Self; 6] = [
        Self::EcdsaAes128,
        Self::RsaAes128,
        Self::EcdsaAes256,
        Self::RsaAes256,
        Self::EcdsaChacha20,
        Self::RsaChacha20,
    ];

    /// OpenSSL's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcdsaAes128 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            Self::RsaAes128 => "ECDHE-RSA-AES128-GCM-SHA256",
            Self::EcdsaAes256 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            Self::RsaAes256 => "ECDHE-RSA-AES256-GCM-SHA384",
            Self::EcdsaChacha20 => "ECDHE-ECDSA-CHACHA20-POLY1305",
            Self::RsaChacha20 => "ECDHE-RSA-CHACHA20-POLY1305",
        }
    }
}

/// A group of the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the standards")]
pub enum Group {
    X25519MlKem768,
    X25519,
    P256,
    P384,
}

impl Group {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::X25519MlKem768, Self::X25519, Self::P256, Self::P384];
}
