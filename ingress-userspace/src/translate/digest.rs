//! SHA-256 as text.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// In lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, bytes).as_ref() {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
