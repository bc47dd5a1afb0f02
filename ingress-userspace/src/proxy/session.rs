//! Sessions by cookie: `affinity: cookie`.
//!
//! The value is `<key>|<backend>`, both opaque: the key is a random number (balanced) or stands for one endpoint
//! (persistent), the other part says whose key it is, so that a session of the canary is told from one of the main
//! backend. Nothing in it is trusted: another key is another session, and no value can name an address.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, header};

use super::context::{RequestCtx, Scheme};
use super::head::RequestHead;
use super::variables::cookie;
use crate::model::policy::delivery::{Affinity, AffinityMode, SameSite, SessionCookie};
use crate::upstream::backend::{BackendCell, Endpoint};
use crate::upstream::balance::{Picker, hash};

/// Keys that are tried to find one whose endpoint did not fail.
const MOST_DRAWS: usize = 16;

/// The session of a request with one backend.
#[derive(Debug)]
pub struct Session<'r> {
    affinity: &'r Affinity,
    backend: u64,
    /// What the cookie says, hashed where it is hashed.
    given: Option<u64>,
    /// The key of a session that begins with this request.
    issued: Option<String>,
}

/// The key of a cookie, if it is one of this backend.
fn key<'a>(affinity: &Affinity, backend: u64, head: &'a RequestHead) -> Option<&'a str> {
    let value = cookie(head, &affinity.cookie.name)?;
    let (key, written) = value.rsplit_once('|')?;
    (u64::from_str_radix(written, 16) == Ok(backend) && !key.is_empty()).then_some(key)
}

/// Whether a request belongs to a session with this backend.
pub fn is_of(affinity: &Affinity, backend: &BackendCell, head: &RequestHead) -> bool {
    key(affinity, backend.hash, head).is_some()
}

/// What stands for an endpoint in the cookies of a backend.
fn name(backend: u64, endpoint: &Endpoint) -> u64 {
    hash::of(&[backend.to_le_bytes(), endpoint.hash.to_le_bytes()].concat())
}

impl<'r> Session<'r> {
    /// The session that the cookies of a request name, or a new one.
    pub fn open(affinity: &'r Affinity, backend: &BackendCell, head: &RequestHead) -> Self {
        let given = key(affinity, backend.hash, head).and_then(|key| match affinity.mode {
            AffinityMode::Balanced => Some(hash::of(key.as_bytes())),
            AffinityMode::Persistent => u64::from_str_radix(key, 16).ok(),
        });
        Self { affinity, backend: backend.hash, given, issued: None }
    }

    /// The endpoint of the next try. A session that has one keeps it, also when it just failed, unless it may move then.
    pub fn pick<'a>(
        &mut self,
        endpoints: &'a [Arc<Endpoint>],
        failed: &[SocketAddr],
        picker: &Picker,
        mut random: impl FnMut() -> u64,
    ) -> Option<&'a Arc<Endpoint>> {
        let kept = self.given.and_then(|key| self.find(endpoints, key));
        if let Some(kept) = kept
            && (failed.is_empty() || !self.affinity.moves_on_failure)
        {
            return Some(kept);
        }
        let (key, endpoint) = match self.affinity.mode {
            AffinityMode::Balanced => {
                let mut drawn = None;
                for _ in 0..MOST_DRAWS {
                    let key = format!("{:016x}{:016x}", random(), random());
                    let endpoint = self.find(endpoints, hash::of(key.as_bytes()))?;
                    let is_fresh = !failed.contains(&endpoint.address);
                    drawn = Some((key, endpoint));
                    if is_fresh {
                        break;
                    }
                }
                drawn?
            }
            AffinityMode::Persistent => {
                let endpoint = picker.pick(endpoints, failed, random)?;
                (format!("{:016x}", name(self.backend, endpoint)), endpoint)
            }
        };
        self.issued = Some(key);
        Some(endpoint)
    }

    fn find<'a>(&self, endpoints: &'a [Arc<Endpoint>], key: u64) -> Option<&'a Arc<Endpoint>> {
        match self.affinity.mode {
            AffinityMode::Balanced => {
                let index = hash::ranked(endpoints.iter().map(|endpoint| endpoint.hash), key, 0)?;
                endpoints.get(index)
            }
            AffinityMode::Persistent => endpoints.iter().find(|endpoint| name(self.backend, endpoint) == key),
        }
    }

    /// The `Set-Cookie` line of a session that begins; none for one that goes on.
    pub fn cookie(&self, ctx: &RequestCtx, agent: Option<&HeaderValue>) -> Option<HeaderValue> {
        let key = self.issued.as_ref()?;
        let is_https = ctx.peer.scheme == Scheme::Https;
        let value = format!("{key}|{:016x}", self.backend);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        let now = jiff::Timestamp::now();
        HeaderValue::try_from(set_cookie(&self.affinity.cookie, &value, is_https, agent, now)).ok()
    }
}

/// The name of the client's program, which must be read before the head goes upstream.
pub fn agent(session: Option<&Session<'_>>, head: &RequestHead) -> Option<HeaderValue> {
    let is_needed = session.is_some_and(|session| session.affinity.cookie.is_none_conditional);
    head.headers.get(&header::USER_AGENT).filter(|_| is_needed).cloned()
}

fn set_cookie(
    policy: &SessionCookie,
    value: &str,
    is_https: bool,
    agent: Option<&str>,
    now: jiff::Timestamp,
) -> String {
    let SessionCookie { name, max_age, expires, path, domain, secure, same_site, is_none_conditional } =
        policy;
    let mut line = format!("{name}={value}");
    // Writing into a String cannot fail.
    if let Some(expires) = expires
        && let Ok(at) = now.checked_add(jiff::SignedDuration::from_secs(*expires))
    {
        let _ = write!(line, "; Expires={}", at.strftime("%a, %d %b %Y %H:%M:%S GMT"));
    }
    if let Some(max_age) = max_age {
        let _ = write!(line, "; Max-Age={max_age}");
    }
    if let Some(domain) = domain {
        let _ = write!(line, "; Domain={domain}");
    }
    let _ = write!(line, "; Path={path}");
    if secure.unwrap_or(is_https) {
        line.push_str("; Secure");
    }
    line.push_str("; HttpOnly");
    line.push_str(match same_site {
        Some(SameSite::None) if *is_none_conditional && agent.is_some_and(misreads_none) => "",
        Some(SameSite::None) => "; SameSite=None",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::Strict) => "; SameSite=Strict",
        None => "",
    });
    line
}

/// Browsers that take `SameSite=None` for `Strict` or refuse the cookie: Chrome 51 to 66, iOS 12, Safari on macOS 10.14.
fn misreads_none(agent: &str) -> bool {
    let chrome = agent.split("Chrome/").nth(1).map(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..digits).and_then(|digits| digits.parse::<u32>().ok()).unwrap_or_default()
    });
    let is_old_chrome = chrome.is_some_and(|version| (51..67).contains(&version));
    let is_ios = agent.contains("CPU iPhone OS 12") || agent.contains("iPad; CPU OS 12");
    let is_mojave = agent.contains("Macintosh; Intel Mac OS X 10_14")
        && agent.contains("Version/")
        && agent.contains("Safari/")
        && chrome.is_none();
    is_old_chrome || is_ios || is_mojave
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie() -> SessionCookie {
        SessionCookie {
            name: "route".into(),
            max_age: None,
            expires: None,
            path: "/app".into(),
            domain: None,
            secure: None,
            same_site: None,
            is_none_conditional: false,
        }
    }

    #[test]
    fn the_cookie_has_the_attributes_that_were_asked_for() {
        let now = jiff::Timestamp::from_second(1_795_219_200).unwrap();
        let shown = |cookie: &SessionCookie, is_https| set_cookie(cookie, "k|b", is_https, None, now);
        assert_eq!(shown(&cookie(), false), "route=k|b; Path=/app; HttpOnly");
        assert_eq!(shown(&cookie(), true), "route=k|b; Path=/app; Secure; HttpOnly");
        let all = SessionCookie {
            max_age: Some(172_800),
            expires: Some(-60),
            domain: Some("example.com".into()),
            secure: Some(false),
            same_site: Some(SameSite::Lax),
            ..cookie()
        };
        assert_eq!(
            shown(&all, true),
            "route=k|b; Expires=Fri, 20 Nov 2026 23:59:00 GMT; Max-Age=172800; Domain=example.com; Path=/app; \
             HttpOnly; SameSite=Lax"
        );
        let far = SessionCookie { expires: Some(i64::MAX), ..cookie() };
        assert_eq!(shown(&far, false), "route=k|b; Path=/app; HttpOnly");
    }

    #[test]
    fn browsers_that_misread_none_get_none() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let none = SessionCookie { same_site: Some(SameSite::None), is_none_conditional: true, ..cookie() };
        for (agent, is_sent) in [
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/60.0.3112.78 Safari/537.36", false),
            ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36", true),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X) Version/12.1 Safari/604.1", false),
            ("Mozilla/5.0 (iPad; CPU OS 12_4 like Mac OS X) Version/12.1 Safari/604.1", false),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) Version/12.1 Safari/605.1", false),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/17.1 Safari/605.1", true),
            ("curl/8.0", true),
        ] {
            let line = set_cookie(&none, "v", true, Some(agent), now);
            assert_eq!(line.contains("SameSite=None"), is_sent, "{agent}");
            let always = SessionCookie { is_none_conditional: false, ..none.clone() };
            assert!(set_cookie(&always, "v", true, Some(agent), now).contains("SameSite=None"));
        }
    }
}
