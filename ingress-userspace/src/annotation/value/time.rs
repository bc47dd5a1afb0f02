//! Spans of time with units, and bare seconds from 0.

use std::time::Duration;

/// Longest span that is taken.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Whole seconds from 0, without unit.
pub fn seconds_from_zero(text: &str) -> Result<Duration, String> {
    match super::integer(text) {
        Ok(seconds) => within(Duration::from_secs(seconds.into())),
        Err(_) if text.ends_with(['s', 'm', 'h']) => {
            Err("is not a bare number of seconds (no unit)".to_owned())
        }
        Err(reason) => Err(reason),
    }
}

/// A span above zero: `10s`, `1m30s`, `500ms`, or bare seconds.
pub fn span(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "" if number.len() == text.len() => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err("is not a time such as 10s".to_owned()),
        };
        let number: u64 = number.parse().ok().ok_or("is not a time such as 10s")?;
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or("is too long")?;
        rest = tail;
    }
    if total.is_zero() {
        return Err("is not a time above zero, such as 10s".to_owned());
    }
    within(total)
}

fn within(time: Duration) -> Result<Duration, String> {
    if time > LONGEST { Err("is longer than ten years".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_or_are_seconds() {
        for (text, millis) in [
            ("10s", 10_000),
            ("10", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", "0", "0s", "s", "-1s", "1.5s", "10 s", "1m30", "10x", "99999999999999999999s", "999999d"]
        {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bare_seconds_may_be_zero() {
        assert_eq!(seconds_from_zero("0"), Ok(Duration::ZERO));
        assert!(seconds_from_zero("10s").is_err());
        assert!(seconds_from_zero("4294967295").is_err());
    }
}
