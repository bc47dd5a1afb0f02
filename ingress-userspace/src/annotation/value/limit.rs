//! Parsers of what limits count, and by whom.

use super::{header_name, positive};
use crate::model::template::{Part, Template, Variable};

/// Requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// At least 1.
    pub requests: u32,
    /// At least 1.
    pub seconds: u64,
}

/// Windows that one limit may have: each costs every request a bucket.
const MOST_WINDOWS: usize = 4;
/// The longest window, in seconds.
const LONGEST: u64 = 31 * 24 * 3600;

/// `100/1m`, several separated by commas. A time without number is one of its unit.
pub fn windows(text: &str) -> Result<Vec<Window>, String> {
    let windows: Vec<Window> = text.split(',').map(|part| window(part.trim())).collect::<Result<_, _>>()?;
    if windows.len() > MOST_WINDOWS {
        return Err(format!("holds more than {MOST_WINDOWS} limits"));
    }
    let mut times: Vec<u64> = windows.iter().map(|window| window.seconds).collect();
    times.sort_unstable();
    times.dedup();
    if times.len() < windows.len() {
        return Err("holds two limits for the same time".to_owned());
    }
    Ok(windows)
}

fn window(text: &str) -> Result<Window, String> {
    let (requests, time) = text.split_once('/').ok_or("is not of the form requests/time")?;
    let requests = positive(requests).map_err(|reason| format!("has a number of requests that {reason}"))?;
    let unit = match time.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err("has a time without a unit (s, m, h or d)".to_owned()),
    };
    let number = match time.get(..time.len() - 1) {
        Some("") => 1,
        Some(number) => positive(number).map_err(|reason| format!("has a time that {reason}"))?,
        None => return Err("is not of the form requests/time".to_owned()),
    };
    let seconds = u64::from(number) * unit;
    if seconds > LONGEST {
        return Err("has a time longer than 31 days".to_owned());
    }
    Ok(Window { requests, seconds })
}

/// `address`, `header:NAME`, `cookie:NAME`, `path`, `host`, joined by `+`.
pub fn key(text: &str) -> Result<Template, String> {
    let mut parts = Vec::new();
    for part in text.split('+').map(str::trim) {
        let variable = match part.split_once(':') {
            None if part == "address" => Variable::RemoteAddr,
            None if part == "path" => Variable::Uri,
            None if part == "host" => Variable::Host,
            Some(("header", name)) => Variable::RequestHeader(header_name(name)?.to_ascii_lowercase()),
            Some(("cookie", name)) => Variable::Cookie(header_name(name)?),
            _ => return Err(format!("holds {part:?}, which names no part of a request")),
        };
        if !parts.is_empty() {
            parts.push(Part::Text("+".to_owned()));
        }
        parts.push(Part::Variable(variable));
    }
    Ok(Template(parts))
}

/// Text with variables that are known when a request comes in.
pub fn variable_key(text: &str) -> Result<Template, String> {
    let Template(mut parts) = Template::parse(text).map_err(|error| format!("cannot be read: {error}"))?;
    for part in &mut parts {
        let Part::Variable(variable) = part else { continue };
        match variable {
            // Where the PROXY protocol is on, it is what names the client.
            Variable::ProxyProtocolAddr => *variable = Variable::RemoteAddr,
            Variable::Scheme
            | Variable::Host
            | Variable::BestHttpHost
            | Variable::RequestUri
            | Variable::Uri
            | Variable::Args
            | Variable::RequestMethod
            | Variable::RemoteAddr
            | Variable::BinaryRemoteAddr
            | Variable::RealipRemoteAddr
            | Variable::ServerName
            | Variable::ServerPort
            | Variable::ContentType
            | Variable::Namespace
            | Variable::IngressName
            | Variable::ServiceName
            | Variable::RequestHeader(_)
            | Variable::Cookie(_)
            | Variable::Argument(_) => {}
            other => {
                return Err(format!("holds ${}, which is not known when limits are checked", other.name()));
            }
        }
    }
    if !parts.iter().any(|part| matches!(part, Part::Variable(_))) {
        return Err("holds no variable, so that all clients would be one".to_owned());
    }
    Ok(Template(parts))
}

/// `host:port`.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err("has no port between 1 and 65535".to_owned());
    }
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || !host.chars().all(is_host) || is_bare_v6 {
        return Err("has no host name or address".to_owned());
    }
    Ok(text.to_owned())
}

/// `namespace/name`.
pub fn qualified_name(text: &str) -> Result<(String, String), String> {
    let is_plain = |name: &str| {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        !name.is_empty() && name.chars().all(is_name)
    };
    match text.split_once('/') {
        Some((namespace, name)) if is_plain(namespace) && is_plain(name) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("is not of the form namespace/name".to_owned()),
    }
}

/// What keys begin with.
pub fn prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match text.chars().find(|c| !is_plain(*c)) {
        Some(bad) => Err(format!("holds {bad:?}")),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_requests_per_time() {
        let read =
            |text| windows(text).map(|all| all.iter().map(|w| (w.requests, w.seconds)).collect::<Vec<_>>());
        assert_eq!(read("100/1m"), Ok(vec![(100, 60)]));
        assert_eq!(read("5/s, 100/10m,1000/2h, 9/d"), Ok(vec![(5, 1), (100, 600), (1000, 7200), (9, 86400)]));
        for bad in [
            "",
            "100",
            "100/",
            "/1m",
            "0/1m",
            "1/0s",
            "1/1",
            "1/1w",
            "-1/1m",
            "1/60s,2/1m",
            "1/32d",
            "1/s,2/m,3/h,4/d,5/2d",
            "1/1é",
        ] {
            assert!(windows(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_name_parts_of_a_request() {
        for (text, shown) in [
            ("address", "${remote_addr}"),
            ("header:X-Api-Key", "${http_x_api_key}"),
            ("cookie:session+path", "${cookie_session}+${uri}"),
            ("host + address", "${host}+${remote_addr}"),
        ] {
            assert_eq!(key(text).map(|key| key.to_string()).as_deref(), Ok(shown));
        }
        for bad in ["", "ip", "header:", "header:a b", "query:x", "address+", "path:x"] {
            assert!(key(bad).is_err(), "{bad}");
        }
        assert_eq!(variable_key("$proxy_protocol_addr").unwrap().to_string(), "${remote_addr}");
        for bad in ["", "all", "$nope", "$status", "${remote_addr"] {
            assert!(variable_key(bad).is_err(), "{bad}");
        }
    }
}
