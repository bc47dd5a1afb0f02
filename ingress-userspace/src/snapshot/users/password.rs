//! Passwords against the hashes of `htpasswd` and crypt(3). All comparisons take the same time wherever the first
//! difference is.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::{Digest, Sha1};

/// Whether a comparison is too short to be worth another thread.
pub fn is_cheap(hash: &str) -> bool {
    ["{SHA}", "{SSHA}", "{PLAIN}"].iter().any(|start| hash.starts_with(start))
}

/// Whether the password is the one of the hash.
pub fn is_right(password: &[u8], hash: &str) -> bool {
    if let Some(plain) = hash.strip_prefix("{PLAIN}") {
        return is_equal(password, plain.as_bytes());
    }
    if let Some(encoded) = hash.strip_prefix("{SHA}") {
        let found: [u8; 20] = Sha1::digest(password).into();
        return STANDARD.decode(encoded).is_ok_and(|expected| is_equal(&found, &expected));
    }
    if let Some(encoded) = hash.strip_prefix("{SSHA}") {
        let Ok(bytes) = STANDARD.decode(encoded) else { return false };
        let Some((expected, salt)) = bytes.split_at_checked(20) else { return false };
        let found: [u8; 20] = Sha1::new().chain_update(password).chain_update(salt).finalize().into();
        return is_equal(&found, expected);
    }
    if hash.starts_with("$apr1$") {
        return apr1(password, hash).is_some_and(|found| is_equal(found.as_bytes(), hash.as_bytes()));
    }
    // crypt(3) reads to the first NUL: what comes after it must not be free to choose.
    if password.contains(&0) {
        return false;
    }
    pwhash::unix::verify(password, hash)
}

fn is_equal(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// Apache's variant of MD5 crypt: a thousand rounds of MD5 over password, salt and the result before.
fn apr1(password: &[u8], hash: &str) -> Option<String> {
    const MAGIC: &str = "$apr1$";
    let salt = hash.strip_prefix(MAGIC)?.split('$').next()?;
    let salt = salt.get(..8).unwrap_or(salt);
    let inner: [u8; 16] =
        Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();
    let mut outer = Md5::new().chain_update(password).chain_update(MAGIC).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let part = left.min(16);
        outer.update(inner.get(..part)?);
        left -= part;
    }
    // A bit of the length at a time: a zero byte for 1, the first byte of the password for 0.
    let mut bits = password.len();
    while bits > 0 {
        let byte: &[u8] = if bits & 1 == 1 { &[0] } else { password.get(..1)? };
        outer.update(byte);
        bits >>= 1;
    }
    let mut state: [u8; 16] = outer.finalize().into();
    for round in 0..1000 {
        let mut md5 = Md5::new();
        let is_odd = round % 2 == 1;
        md5.update(if is_odd { password } else { &state });
        if round % 3 != 0 {
            md5.update(salt);
        }
        if round % 7 != 0 {
            md5.update(password);
        }
        md5.update(if is_odd { &state } else { password });
        state = md5.finalize().into();
    }
    Some(format!("{MAGIC}{salt}${}", crypt_text(&state)))
}

/// crypt's own base 64: six bits at a time, the lowest first, over bytes in an order of its own.
fn crypt_text(state: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let byte = |at: usize| u32::from(state.get(at).copied().unwrap_or_default());
    let groups = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)];
    let words = groups.into_iter().map(|(a, b, c)| (byte(a) << 16 | byte(b) << 8 | byte(c), 4));
    let mut text = String::with_capacity(22);
    for (mut word, digits) in words.chain([(byte(11), 2)]) {
        for _ in 0..digits {
            let digit = usize::try_from(word & 63).unwrap_or_default();
            text.push(char::from(DIGITS.get(digit).copied().unwrap_or(b'.')));
            word >>= 6;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `htpasswd`, `openssl passwd` and crypt(3).
    const HASHES: &[(&str, &str, &str)] = &[
        ("plain", "secret", "{PLAIN}secret"),
        ("sha", "secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("salted sha", "secret", "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0"),
        ("apr1", "secret", "$apr1$12345678$0lqb/6VUFP8JY/s/jTrIk0"),
        ("apr1, long", "a longer password than sixteen bytes", "$apr1$short$TyC2MvY5DUsJaFg6Xev7l/"),
        ("md5", "secret", "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"),
        ("bcrypt of htpasswd", "secret", "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"),
        ("bcrypt 2a", "secret", "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
        ("bcrypt 2b", "secret", "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
        ("sha-256", "secret", "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA"),
        (
            "sha-512",
            "secret",
            "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
        ),
        (
            "sha-512, rounds",
            "secret",
            "$6$rounds=1000$saltsalt$LAV5VE5Y7w1d73x1mFNspYWUpazfmwv2SoepNXNKJ/otop/Zok96Hr8Q13LEv0DRY/x8v0/crpIjl8NJSAqXV/",
        ),
        ("des", "secret", "abNANd1rDfiNc"),
    ];

    #[test]
    fn every_kind_of_hash_takes_its_password_and_no_other() {
        for (kind, password, hash) in HASHES {
            assert!(is_right(password.as_bytes(), hash), "{kind}");
            for wrong in ["", "secreT", "secre", "secret ", "secret\0", "\0"] {
                assert!(!is_right(wrong.as_bytes(), hash), "{kind} {wrong:?}");
            }
        }
    }

    #[test]
    fn broken_hashes_take_nothing() {
        for hash in [
            "",
            "{SHA}",
            "{SSHA}AAAA",
            "{SHA}?",
            "$apr1$",
            "$apr1$salt",
            "$2y$",
            "$5$",
            "$6$rounds=x$a",
            "x",
            "$",
            "$9$a$b",
        ] {
            for password in ["", "secret"] {
                assert!(!is_right(password.as_bytes(), hash), "{hash:?}");
            }
        }
    }
}
