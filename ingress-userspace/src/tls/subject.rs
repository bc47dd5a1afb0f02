//! Distinguished names as text, as RFC 2253 and OpenSSL write them: the last part first, `CN=client,O=Example,C=US`.

use std::fmt::Write as _;

use x509_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Types that have a short name; others appear as numbers.
const NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The whole name.
pub fn text(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for set in name.iter_rdn() {
        let values: Vec<String> = set.iter().map(part).collect();
        parts.push(values.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn part(attribute: &AttributeTypeAndValue<'_>) -> String {
    let id = attribute.attr_type().to_id_string();
    let known = NAMES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
    let value = attribute.attr_value();
    let content = value.data;
    let text = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::T61String => {
            Some(content.to_vec())
        }
        Tag::BmpString => utf16(content),
        _ => None,
    };
    match (known, text) {
        (Some(name), Some(text)) => format!("{name}={}", escape(&text)),
        // What has no name or is no text stands as its encoding.
        (name, _) => {
            let mut shown = format!("{}=#", name.unwrap_or(&id));
            for byte in value.header.to_der_vec_or_empty().iter().chain(content) {
                // Writing into a String cannot fail.
                let _ = write!(shown, "{byte:02X}");
            }
            shown
        }
    }
}

trait HeaderBytes {
    fn to_der_vec_or_empty(&self) -> Vec<u8>;
}

impl HeaderBytes for x509_parser::asn1_rs::Header<'_> {
    fn to_der_vec_or_empty(&self) -> Vec<u8> {
        use x509_parser::asn1_rs::ToDer as _;
        self.to_der_vec().unwrap_or_default()
    }
}

fn utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let units =
        bytes.chunks_exact(2).map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
    let text = String::from_utf16(&units.collect::<Vec<u16>>()).ok()?;
    Some(text.into_bytes())
}

/// Special characters get a backslash, and what is not printable ASCII becomes `\HH`.
fn escape(text: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.iter().enumerate() {
        let is_edge = (*byte == b' ' && (at == 0 || at == last)) || (*byte == b'#' && at == 0);
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                escaped.push('\\');
                escaped.push(char::from(*byte));
            }
            b' '..=b'~' => {
                if is_edge {
                    escaped.push('\\');
                }
                escaped.push(char::from(*byte));
            }
            _ => {
                // Writing into a String cannot fail.
                let _ = write!(escaped, "\\{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    #[test]
    fn the_last_part_comes_first_and_nothing_can_pose_as_another() {
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, "US");
        name.push(DnType::OrganizationName, "Example, Inc");
        name.push(DnType::CommonName, "client,CN=admin \u{e9}");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name;
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, read) = X509Certificate::from_der(made.der()).unwrap();
        assert_eq!(text(read.subject()), "CN=client\\,CN=admin \\C3\\A9,O=Example\\, Inc,C=US");
    }

    #[test]
    fn edges_are_escaped() {
        for (plain, expected) in
            [(" a ", "\\ a\\ "), ("#a#", "\\#a#"), ("a b", "a b"), ("", ""), (" ", "\\ ")]
        {
            assert_eq!(escape(plain.as_bytes()), expected, "{plain:?}");
        }
    }
}
