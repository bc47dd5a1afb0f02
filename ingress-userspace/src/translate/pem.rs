//! What is wrong with a PEM file, without a word of it: the wrong file may hold a key.

use rustls_pki_types::pem::Error;

/// The reason, to stand behind "that is not PEM".
pub fn fault(error: &Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { .. } => {
            "a BEGIN line without its END line, each of which stands on a line of its own, at its beginning"
        }
        Error::IllegalSectionStart { .. } => {
            "a BEGIN line that goes on behind its dashes; line breaks may have been lost"
        }
        Error::Base64Decode(_) => "something other than base64 between the BEGIN and END lines",
        Error::SectionTooLarge => "a part that is too large",
        _ => "nothing that can be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn nothing_of_the_file_is_quoted() {
        for text in [
            "-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY----- c2VjcmV0 -----END PRIVATE KEY-----",
            "-----BEGIN CERTIFICATE-----\n!c2VjcmV0\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n",
        ] {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
            let reason = fault(&read.unwrap_err());
            assert!(
                reason.len() > 20 && !reason.contains("c2Vj") && !reason.contains('['),
                "{text}: {reason}"
            );
        }
    }
}
