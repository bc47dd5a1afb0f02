//! Rate limits that nodes share through a Redis.

use serde::{Deserialize, Serialize};

/// Where nodes tell each other how far their clients' limits are used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLimits {
    /// Host and port of the Redis.
    pub address: String,
    /// Number of its database.
    pub database: u32,
    /// Spoken to over TLS.
    pub is_tls: bool,
    /// The authorities by which its certificate is verified, PEM; `None`: those of the system.
    pub authorities: Option<String>,
    /// In front of every key.
    pub prefix: String,
    /// Its user, if it wants one.
    pub user: Option<String>,
    /// Its password, if it wants one.
    pub password: Option<Password>,
}

/// A password. Prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
