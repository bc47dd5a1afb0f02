//! How bodies are handled, for all routes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Cluster-wide settings of bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bodies {
    /// The longest gap between two reads of a client's body.
    pub client_gap: Duration,
    /// Codings that responses may be compressed with, the preferred one first.
    pub codings: Vec<CodingPolicy>,
    /// Clients whose `User-Agent` matches this expression get no gzip.
    pub gzip_except: Option<String>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { client_gap: Duration::from_secs(60), codings: Vec::new(), gzip_except: None }
    }
}

/// A coding and what is compressed with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodingPolicy {
    /// Which.
    pub coding: Coding,
    /// How hard it tries; the scale is the coding's own.
    pub level: u32,
    /// Shorter bodies are left alone, if their length is known.
    pub min_length: u64,
    /// Media types, lower case, without parameters; `*` is every one. `text/html` always is.
    pub types: Vec<String>,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coding {
    /// `zstd`.
    Zstd,
    /// `br`.
    Brotli,
    /// `gzip`.
    Gzip,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}
