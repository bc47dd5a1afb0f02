//! Plain values of the ConfigMap: text, ports, nginx's times, buffers, lists of addresses.

use std::net::IpAddr;
use std::time::Duration;

/// Any text.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A port.
pub fn port(text: &str) -> Result<u16, String> {
    super::integer(text)
        .ok()
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .ok_or_else(|| "is not a port".to_owned())
}

/// Bare seconds, of which there may be none.
pub fn seconds_or_none(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => super::seconds(text),
    }
}

/// A time as nginx reads it: `240s`, `4m`, `1h30m`, `500ms`; a bare number is seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 6] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
    let wrong = || "is not a time".to_owned();
    let mut rest = text;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok().filter(|number| *number <= 1_000_000_000).ok_or_else(wrong)?;
        let unit = UNITS.iter().find(|(unit, _)| after.starts_with(unit));
        let (length, factor) = match unit {
            Some((unit, factor)) => (unit.len(), *factor),
            None if after.is_empty() => (0, 1000),
            None => return Err(wrong()),
        };
        millis = number.checked_mul(factor).and_then(|part| millis.checked_add(part)).ok_or_else(wrong)?;
        rest = after.get(length..).unwrap_or_default().trim_start();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(millis)) }
}

/// Number and size of buffers: `4 8k`.
pub fn buffers(text: &str) -> Result<(usize, usize), String> {
    let wrong = || "is not a number and a size".to_owned();
    let (count, size) = text.split_once(' ').ok_or_else(wrong)?;
    let count = super::positive(count)?;
    let size = super::size(size.trim())?.ok_or_else(wrong)?;
    let bytes = usize::try_from(size).ok().filter(|bytes| *bytes <= 1 << 20);
    let bytes = bytes.ok_or("is more than 1m for one line")?;
    let count =
        usize::try_from(count).ok().filter(|count| *count <= 1024).ok_or("is more than 1024 buffers")?;
    Ok((count, bytes))
}

/// Addresses of this machine, separated by commas.
pub fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
            bare.parse().map_err(|_error| format!("holds {entry}, which is no address"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nginx_times() {
        for (text, millis) in [
            ("240s", 240_000),
            ("4m", 240_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("500ms", 500),
            ("75", 75_000),
            ("0", 0),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1x", "-1s", "1.5s", "99999999999s", "1s2x"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn buffers_are_a_number_and_a_size() {
        assert_eq!(buffers("4 8k"), Ok((4, 8192)));
        assert_eq!(buffers("8 16k"), Ok((8, 16384)));
        for text in ["", "4", "8k", "0 8k", "4 8kb", "4 0", "4 2m", "5000 1k", "4,8k"] {
            assert!(buffers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_may_stand_in_brackets() {
        let found = addresses("198.18.0.1, [2001:db8::1],::1").map(|list| list.len());
        assert_eq!(found, Ok(3));
        for text in ["localhost", "198.18.0.1/24", "198.18.0.1:80"] {
            assert!(addresses(text).is_err(), "{text}");
        }
    }
}
