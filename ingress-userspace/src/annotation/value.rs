//! Parsers of annotation values. Total and strict: what ingress-nginx does not read, we do not either.

pub mod auth;
pub mod cipher;
pub mod limit;
pub mod media;
pub mod plain;
pub mod text;
pub mod time;
pub mod url;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

/// A boolean in any of Go's spellings.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("is not a boolean".to_owned()),
    }
}

/// `on` or `off`.
pub fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is neither on nor off".to_owned()),
    }
}

/// A bare integer from 0.
pub fn integer(text: &str) -> Result<u32, String> {
    // Rust's own parser would take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a bare whole number".to_owned());
    }
    text.parse().ok().ok_or_else(|| "is too large".to_owned())
}

/// A whole number with an optional sign; what is below zero means zero, which is no limit.
pub fn at_most(text: &str) -> Result<u32, String> {
    match text.strip_prefix('-') {
        Some(digits) => integer(digits).map(|_| 0),
        None => integer(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// A whole number with an optional sign.
pub fn whole_number(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a bare whole number".to_owned());
    }
    text.parse().ok().ok_or_else(|| "is too large".to_owned())
}

/// What tells clients apart in limits: text with variables of the request.
pub fn limit_key(text: &str) -> Result<crate::model::template::Template, String> {
    limit::variable_key(text)
}

/// A bare integer from 1.
pub fn positive(text: &str) -> Result<u32, String> {
    match integer(text)? {
        0 => Err("must be at least 1".to_owned()),
        value => Ok(value),
    }
}

/// Whole seconds, at least 1, without unit.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let longest = 10 * 365 * 24 * 3600;
    match positive(text) {
        Ok(value) if value <= longest => Ok(Duration::from_secs(value.into())),
        Ok(_) => Err("is longer than ten years".to_owned()),
        Err(_) if text.ends_with(['s', 'm', 'h']) => {
            Err("is not a bare number of seconds (no unit)".to_owned())
        }
        Err(reason) => Err(reason),
    }
}

/// A size as nginx reads it: digits, then nothing, `b`, `k`, `m` or `g`. Zero means without limit.
pub fn size(text: &str) -> Result<Option<u64>, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, last)) if last.is_ascii_alphabetic() => {
            (text.get(..at).unwrap_or_default(), last.to_ascii_lowercase())
        }
        _ => (text, 'b'),
    };
    let shift = match unit {
        'b' => 0,
        'k' => 10,
        'm' => 20,
        'g' => 30,
        _ => return Err("has a unit that is none of b, k, m, g".to_owned()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a size".to_owned());
    }
    let bytes = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(1 << shift));
    match bytes {
        Some(0) => Ok(None),
        Some(bytes) => Ok(Some(bytes)),
        None => Err("is too large".to_owned()),
    }
}

/// The size of a buffer: a size as nginx reads it, at least one byte.
pub fn buffer_size(text: &str) -> Result<u64, String> {
    size(text)?.ok_or_else(|| "must be at least 1".to_owned())
}

/// What a list of networks held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Readable entries without host bits, ordered, no duplicates.
    pub networks: Vec<IpNet>,
    /// Entries that are no network.
    pub unreadable: Vec<String>,
    /// Entries with bits after the prefix, and the network they are read as.
    pub masked: Vec<(String, IpNet)>,
}

/// A comma-separated list of networks and addresses. An error when no entry can be read.
pub fn networks(text: &str) -> Result<Networks, String> {
    let mut found = Networks::default();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => {
                let network = unmapped(network).unwrap_or(network);
                if network.trunc() != network {
                    found.masked.push((entry.to_owned(), network.trunc()));
                }
                found.networks.push(network.trunc());
            }
            Err(_) => found.unreadable.push(entry.to_owned()),
        }
    }
    found.networks.sort();
    found.networks.dedup();
    match (found.networks.is_empty(), found.unreadable.is_empty()) {
        (true, true) => Err("names no network".to_owned()),
        (true, false) => Err("holds no entry that is a network or an address".to_owned()),
        (false, _) => Ok(found),
    }
}

/// The IPv4 network that an IPv4-mapped one (`::ffff:203.0.113.0/120`) stands for. No packet carries such an address.
pub fn unmapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(network) = network else { return None };
    let length = network.prefix_len().checked_sub(96)?;
    Some(IpNet::V4(Ipv4Net::new(network.addr().to_ipv4_mapped()?, length).ok()?))
}

/// The name of a Service.
pub fn service_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.contains('/') {
        return Err("names another namespace; only the Ingress's own is allowed".to_owned());
    }
    if text.is_empty()
        || text.len() > 63
        || !text.chars().all(is_plain)
        || text.starts_with('-')
        || text.ends_with('-')
    {
        return Err("is not the name of a Service".to_owned());
    }
    Ok(text.to_owned())
}

/// A Secret: its name, and its namespace if another than the Ingress's may be meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretName {
    /// As written before the slash.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// `name` or `namespace/name` of a Secret.
pub fn secret_name(text: &str) -> Result<SecretName, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace).filter(|namespace| !namespace.is_empty()), name),
        None => (None, text),
    };
    if !is_object_name(name) || !namespace.is_none_or(is_object_name) {
        return Err("is not the name of a Secret".to_owned());
    }
    Ok(SecretName { namespace: namespace.map(str::to_owned), name: name.to_owned() })
}

/// A DNS name as Kubernetes takes it for objects: so it can be no path.
fn is_object_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(is_plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// `all` or `any`.
pub fn is_any(text: &str) -> Result<bool, String> {
    match text {
        "all" => Ok(false),
        "any" => Ok(true),
        _ => Err("is neither all nor any".to_owned()),
    }
}

/// The name of a header.
pub fn header_name(text: &str) -> Result<String, String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.is_empty() || !text.chars().all(is_token) {
        return Err("is not the name of a header".to_owned());
    }
    Ok(text.to_owned())
}

/// Path prefixes, separated by commas.
pub fn locations(text: &str) -> Result<Vec<String>, String> {
    let locations: Vec<String> =
        text.split(',').map(str::trim).filter(|location| !location.is_empty()).map(str::to_owned).collect();
    match locations.iter().find(|location| !location.starts_with('/')) {
        Some(bad) => Err(format!("holds {bad}, which does not begin with /")),
        None => Ok(locations),
    }
}

/// What a list of statuses held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    /// Those that can be read, ordered.
    pub statuses: Vec<u16>,
    /// Entries that are none.
    pub unreadable: Vec<String>,
}

/// Statuses of errors and redirects, separated by commas. An error when no entry can be read.
pub fn error_statuses(text: &str) -> Result<Statuses, String> {
    let mut found = Statuses::default();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match status::<300, 599>(entry) {
            Ok(status) => found.statuses.push(status),
            Err(_) => found.unreadable.push(entry.to_owned()),
        }
    }
    found.statuses.sort_unstable();
    found.statuses.dedup();
    if found.statuses.is_empty() { Err("names no status between 300 and 599".to_owned()) } else { Ok(found) }
}

/// An HTTP status between two bounds.
pub fn status<const FIRST: u16, const LAST: u16>(text: &str) -> Result<u16, String> {
    match integer(text).ok().and_then(|value| u16::try_from(value).ok()) {
        Some(status) if (FIRST..=LAST).contains(&status) => Ok(status),
        _ => Err(format!("is not a status between {FIRST} and {LAST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(
        parse: fn(&str) -> Result<T, String>,
        rows: &[(&str, Option<T>)],
    ) {
        for (text, expected) in rows {
            assert_eq!(parse(text).ok().as_ref(), expected.as_ref(), "{text:?}");
        }
    }

    #[test]
    fn booleans_have_gos_spellings() {
        check(
            boolean,
            &[("true", Some(true)), ("T", Some(true)), ("0", Some(false)), ("False", Some(false))],
        );
        check(boolean, &[("yes", None), ("on", None), ("", None), ("tRUE", None), ("true ", None)]);
    }

    #[test]
    fn numbers_are_bare() {
        check(
            integer,
            &[
                ("0", Some(0)),
                ("42", Some(42)),
                ("+1", None),
                ("-1", None),
                ("1.5", None),
                ("4294967296", None),
            ],
        );
        check(positive, &[("1", Some(1)), ("0", None)]);
        let sixty = Some(Duration::from_secs(60));
        check(
            seconds,
            &[("60", sixty), ("60s", None), ("1m", None), ("0", None), ("", None), ("999999999", None)],
        );
    }

    #[test]
    fn sizes_are_nginx_sizes() {
        check(
            size,
            &[
                ("0", Some(None)),
                ("8m", Some(Some(8 << 20))),
                ("1G", Some(Some(1 << 30))),
                ("10", Some(Some(10))),
            ],
        );
        check(size, &[("5k", Some(Some(5120))), ("7b", Some(Some(7))), ("0m", Some(None))]);
        check(
            size,
            &[
                ("20MB", None),
                ("m", None),
                ("1.5m", None),
                ("-1", None),
                ("1 m", None),
                ("99999999999999g", None),
            ],
        );
        check(size, &[("8mi", None), ("é", None)]);
    }

    #[test]
    fn lists_of_networks_keep_what_is_readable() {
        let found = networks("198.18.0.0/15, 2001:db8::1,198.18.5.6/16 , bogus,").unwrap();
        let shown: Vec<String> = found.networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["198.18.0.0/15", "198.18.0.0/16", "2001:db8::1/128"]);
        assert_eq!(found.unreadable, ["bogus"]);
        assert_eq!(found.masked.len(), 1);
        // As Go reads them.
        let mapped = networks("::ffff:203.0.113.7,::ffff:198.18.0.0/111").unwrap();
        let shown: Vec<String> = mapped.networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["198.18.0.0/15", "203.0.113.7/32"]);
        for bad in ["", " , ", "bogus", "300.1.1.1", "10.0.0.0/33", "10.0.0.0/8/8"] {
            assert!(networks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_named_and_can_be_no_path() {
        let named = |namespace: Option<&str>, name: &str| {
            Some(SecretName { namespace: namespace.map(str::to_owned), name: name.to_owned() })
        };
        check(
            secret_name,
            &[
                ("users", named(None, "users")),
                ("a/users.v2", named(Some("a"), "users.v2")),
                ("/users", named(None, "users")),
                ("", None),
                ("a/", None),
                ("a/b/c", None),
                ("../users", None),
                ("a/../../etc/passwd", None),
                ("Users", None),
                ("users\n", None),
            ],
        );
    }

    #[test]
    fn services_are_named_without_namespace() {
        check(
            service_name,
            &[("a-1", Some("a-1".to_owned())), ("ns/a", None), ("A", None), ("", None), ("-a", None)],
        );
    }
}
