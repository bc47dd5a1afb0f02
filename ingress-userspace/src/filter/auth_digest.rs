//! `auth-type: digest`: RFC 7616 with MD5 and `qop=auth`, from lines as `htdigest` writes them. A nonce that is too old or
//! used up gets `stale=true`, upon which clients repeat the request without asking their user.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderValue, StatusCode, header};
use md5::{Digest as _, Md5};

use super::auth_basic::{AuthError, quotable, users};
use super::{Filter, Outcome, Stop};
use crate::model::policy::password_auth::PasswordAuth;
use crate::proxy::context::RequestCtx;
use crate::proxy::head::{Request, RequestHead, Response};
use crate::snapshot::nonces::{Nonces, Use};
use crate::snapshot::users::{UserLists, Users};

/// The users of a route.
#[derive(Debug)]
pub struct DigestAuth {
    realm: Box<str>,
    users: Arc<Users>,
    nonces: Arc<Nonces>,
}

/// What the answer to a challenge is worth.
enum Verdict {
    Right(String),
    /// Right, but the nonce is too old.
    Stale,
    Wrong,
}

impl DigestAuth {
    /// From the model.
    pub fn from_policy(
        policy: &PasswordAuth,
        lists: &UserLists,
        nonces: &Arc<Nonces>,
    ) -> Result<Self, AuthError> {
        let realm = quotable(&policy.realm)?.into();
        Ok(Self { realm, users: users(policy, lists)?, nonces: Arc::clone(nonces) })
    }

    fn verdict(&self, head: &RequestHead) -> Verdict {
        let Some(fields) = head.headers.text(&header::AUTHORIZATION).and_then(fields) else {
            return Verdict::Wrong;
        };
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let is_of_us = field("realm") == &*self.realm
            && field("qop") == "auth"
            && (field("algorithm").is_empty() || field("algorithm").eq_ignore_ascii_case("md5"))
            && field("uri") == head.target.raw();
        let count = u32::from_str_radix(field("nc"), 16);
        let (true, Ok(count), 8) = (is_of_us, count, field("nc").len()) else { return Verdict::Wrong };
        let Some(candidate) = self.users.candidate(field("username"), &self.realm) else {
            return Verdict::Wrong;
        };
        let of_request = md5(&[head.method.as_str(), field("uri")]);
        let secret = candidate.hash.to_ascii_lowercase();
        let expected =
            md5(&[&secret, field("nonce"), field("nc"), field("cnonce"), field("qop"), &of_request]);
        let is_right =
            verify_slices_are_equal(expected.as_bytes(), field("response").to_ascii_lowercase().as_bytes())
                .is_ok();
        if !is_right || !candidate.is_known {
            return Verdict::Wrong;
        }
        match self.nonces.take(field("nonce"), count) {
            Use::Fresh => Verdict::Right(field("username").to_owned()),
            Use::Stale => Verdict::Stale,
        }
    }

    fn challenge(&self, is_stale: bool) -> Stop {
        let mut text = format!(
            "Digest algorithm=MD5, qop=\"auth\", realm=\"{}\", nonce=\"{}\"",
            self.realm,
            self.nonces.give()
        );
        if is_stale {
            text.push_str(", stale=true");
        }
        let mut response = Response::text(StatusCode::UNAUTHORIZED);
        if let Ok(value) = HeaderValue::try_from(text) {
            response.head.headers.set(header::WWW_AUTHENTICATE, value);
        }
        Stop::Refuse(response)
    }
}

impl Filter for DigestAuth {
    const NAME: &'static str = "auth_digest";

    async fn on_request(&self, ctx: &mut RequestCtx, request: &mut Request) -> Outcome {
        let verdict = self.verdict(&request.head);
        request.head.headers.remove(&header::AUTHORIZATION);
        match verdict {
            Verdict::Right(user) => {
                ctx.record.user = Some(user.into());
                ControlFlow::Continue(())
            }
            Verdict::Stale => ControlFlow::Break(self.challenge(true)),
            Verdict::Wrong => ControlFlow::Break(self.challenge(false)),
        }
    }

    fn when_skipped(&self, request: &mut Request) {
        request.head.headers.remove(&header::AUTHORIZATION);
    }
}

/// MD5 of parts joined by colons, as text.
fn md5(parts: &[&str]) -> String {
    let hash: [u8; 16] = Md5::digest(parts.join(":")).into();
    hash.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The fields of `Authorization: Digest …`, names in lower case. `None`: it is not of that form.
fn fields(text: &str) -> Option<HashMap<String, String>> {
    let (scheme, mut rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let mut fields = HashMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(fields);
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
                (after.get(..end)?.to_owned(), after.get(end..)?)
            }
        };
        // Two answers to one question are none.
        if fields.insert(name.trim().to_ascii_lowercase(), value).is_some() {
            return None;
        }
        rest = after;
    }
}

/// The text to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_quoted_or_not() {
        let read =
            fields("Digest username=\"a \\\"b\\\", c\", nc=00000001,qop=auth , uri=\"/x?y=1,2\"").unwrap();
        let field = |name: &str| read.get(name).map(String::as_str);
        assert_eq!(field("username"), Some("a \"b\", c"));
        assert_eq!(field("nc"), Some("00000001"));
        assert_eq!(field("qop"), Some("auth"));
        assert_eq!(field("uri"), Some("/x?y=1,2"));
        for broken in ["Basic x", "Digest", "Digest a", "Digest a=\"b", "Digest a=1, a=2", "Digest a=\"\\"] {
            assert!(fields(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_right() {
        // RFC 7616 section 3.9.1.
        let secret = md5(&["Mufasa", "http-auth@example.org", "Circle of Life"]);
        let of_request = md5(&["GET", "/dir/index.html"]);
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let response = md5(&[&secret, nonce, "00000001", cnonce, "auth", &of_request]);
        assert_eq!(response, "8ca523f5e9506fed4657c9700eebdbec");
    }
}
