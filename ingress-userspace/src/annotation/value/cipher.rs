//! OpenSSL's cipher lists: `ECDHE-RSA-AES128-GCM-SHA256:HIGH:!aNULL`.
//!
//! An entry is the name of a suite, or keywords joined by `+`; `!` and `-` take away, `+` moves to the end. Of what a list
//! names, the six suites of TLS 1.2 that we speak remain, in its order.

use crate::model::tls::CipherSuite;

/// What a list comes down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CipherList {
    /// The best first.
    pub suites: Vec<CipherSuite>,
    /// Entries that name nothing we speak.
    pub unknown: Vec<String>,
}

/// Reads a list.
pub fn list(text: &str) -> Result<CipherList, String> {
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_+!@=:,. ".contains(c)) {
        return Err("is not a list of ciphers".to_owned());
    }
    let mut list = CipherList::default();
    let mut killed: Vec<CipherSuite> = Vec::new();
    for entry in text.split([':', ',', ' ']).filter(|entry| !entry.is_empty()) {
        if entry.starts_with('@') {
            // `@STRENGTH`, `@SECLEVEL=…`: all that we speak is of the highest level.
            continue;
        }
        let (sign, words) = match entry.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), words)) => (sign, words),
            _ => ("", entry),
        };
        let named = named(words);
        match sign {
            "!" => {
                list.suites.retain(|suite| !named.contains(suite));
                killed.extend(named);
            }
            "-" => list.suites.retain(|suite| !named.contains(suite)),
            "+" => {
                let (last, mut rest): (Vec<_>, Vec<_>) =
                    list.suites.iter().partition(|suite| named.contains(suite));
                rest.extend(last);
                list.suites = rest;
            }
            _ if named.is_empty() => list.unknown.push(entry.to_owned()),
            _ => {
                for suite in named {
                    if !list.suites.contains(&suite) && !killed.contains(&suite) {
                        list.suites.push(suite);
                    }
                }
            }
        }
    }
    if list.suites.is_empty() { Err("names no cipher suite that is spoken".to_owned()) } else { Ok(list) }
}

/// The suites that a name or keywords joined by `+` stand for.
fn named(words: &str) -> Vec<CipherSuite> {
    if let Some(suite) = CipherSuite::ALL.into_iter().find(|suite| suite.name() == words) {
        return vec![suite];
    }
    let all = CipherSuite::ALL.into_iter();
    all.filter(|suite| words.split('+').all(|word| is_meant(*suite, word))).collect()
}

fn is_meant(suite: CipherSuite, word: &str) -> bool {
    let name = suite.name();
    match word {
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "AEAD" => true,
        "aRSA" => name.contains("-RSA-"),
        "ECDSA" | "aECDSA" => name.contains("-ECDSA-"),
        "AES" => name.contains("-AES"),
        "AES128" => name.contains("-AES128-"),
        "AES256" => name.contains("-AES256-"),
        "AESGCM" => name.contains("-GCM-"),
        "CHACHA20" => name.contains("-CHACHA20-"),
        // As an alias of key exchange RSA stands for encryption with the server's key, which is not spoken.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (String, usize) {
        let list = list(text).unwrap();
        let names: Vec<&str> = list.suites.iter().map(|suite| suite.name()).collect();
        (names.join(":").replace("ECDHE-", ""), list.unknown.len())
    }

    #[test]
    fn what_we_speak_of_a_list_remains_in_its_order() {
        for (text, expected, unknown) in [
            (
                "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
                "RSA-AES256-GCM-SHA384:RSA-AES128-GCM-SHA256",
                0,
            ),
            ("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:AES128-SHA", "RSA-AES128-GCM-SHA256", 2),
            ("EECDH+AESGCM+aRSA", "RSA-AES128-GCM-SHA256:RSA-AES256-GCM-SHA384", 0),
            ("HIGH:!aNULL:!MD5:!ECDSA:-AES128", "RSA-AES256-GCM-SHA384:RSA-CHACHA20-POLY1305", 0),
            (
                "CHACHA20:AES256+aRSA:+CHACHA20",
                "RSA-AES256-GCM-SHA384:ECDSA-CHACHA20-POLY1305:RSA-CHACHA20-POLY1305",
                0,
            ),
            ("!CHACHA20:CHACHA20:ECDHE-RSA-AES256-GCM-SHA384@SECLEVEL=2", "", 0),
        ] {
            if expected.is_empty() {
                assert!(list(text).is_err(), "{text}");
            } else {
                assert_eq!(shown(text), (expected.to_owned(), unknown), "{text}");
            }
        }
        for text in ["AES128-SHA", "!ALL", "a;b", "\"", "ECDHE\nRSA"] {
            assert!(list(text).is_err(), "{text}");
        }
    }
}
