//! Values of external authentication.

use std::time::Duration;

use super::{header_name, url};
use crate::model::policy::auth_external::CacheDuration;
use crate::model::template::Template;

/// A method that a question can have.
pub fn method(text: &str) -> Result<String, String> {
    match text {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "TRACE" => Ok(text.to_owned()),
        "CONNECT" => Err("asks for a tunnel, which gives no verdict".to_owned()),
        _ => Err("is not a method".to_owned()),
    }
}

/// The name of an argument of a query.
pub fn argument(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err("is not the name of an argument".to_owned());
    }
    Ok(text.to_owned())
}

/// Names of headers that may be set on a request for the backend, in lower case.
pub fn response_headers(text: &str) -> Result<Vec<String>, String> {
    const FRAMING: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let mut names = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let name = header_name(name).map_err(|reason| format!("holds {name:?}, which {reason}"))?;
        let name = name.to_ascii_lowercase();
        if FRAMING.contains(&name.as_str()) {
            return Err(format!("holds {name}, which frames the request and cannot be copied"));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { Err("names no header".to_owned()) } else { Ok(names) }
}

/// `name` or `namespace/name` of an object.
pub fn reference(text: &str) -> Result<String, String> {
    let is_name = |part: &str| {
        !part.is_empty()
            && part.len() <= 253
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    };
    let is_reference = match text.split_once('/') {
        Some((namespace, name)) => is_name(namespace) && is_name(name),
        None => is_name(text),
    };
    if is_reference { Ok(text.to_owned()) } else { Err("is not the name of an object".to_owned()) }
}

/// Text by which verdicts are told apart.
pub fn cache_key(text: &str) -> Result<Template, String> {
    let template = url::template(text)?;
    if template.variables().next().is_none() && text.len() > 256 {
        return Err("is too long".to_owned());
    }
    Ok(template)
}

/// `200 202 30m, 401 1m, any 10s`. The first group that covers a status counts.
pub fn cache_durations(text: &str) -> Result<Vec<CacheDuration>, String> {
    let mut durations = Vec::new();
    for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let mut words: Vec<&str> = group.split_ascii_whitespace().collect();
        let last = words.pop().unwrap_or_default();
        let time =
            time(last).ok_or_else(|| format!("holds {group:?}, which does not end in a time such as 5m"))?;
        let mut statuses = Vec::new();
        let is_any = words.contains(&"any");
        for word in words.into_iter().filter(|word| *word != "any") {
            let status = word.parse().ok().filter(|status| word.len() == 3 && (100..=599).contains(status));
            statuses.push(status.ok_or_else(|| format!("holds {word:?}, which is not a status"))?);
        }
        if is_any {
            statuses.clear();
        } else if statuses.is_empty() {
            // As nginx's `proxy_cache_valid 5m`.
            statuses = vec![200, 301, 302];
        }
        durations.push(CacheDuration { statuses, time });
    }
    if durations.is_empty() { Err("names no time".to_owned()) } else { Ok(durations) }
}

/// nginx's units: `ms`, `s`, `m`, `h`, `d`, `w`, `M` (30 days), `y`.
fn time(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit_at);
    let number: u64 = digits.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        "M" => 30 * 86_400_000,
        "y" => 365 * 86_400_000,
        _ => return None,
    };
    let time = Duration::from_millis(number.checked_mul(millis)?);
    // Longer times would run out of the clock.
    Some(time.min(Duration::from_secs(10 * 365 * 86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_methods_are_methods() {
        assert!(method("POST").is_ok());
        for bad in ["", "get", "GET;", "GET\nPOST", "GET; proxy_pass http://evil", "CONNECT", "FOO"] {
            assert!(method(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn headers_that_frame_a_message_are_not_copied() {
        assert_eq!(response_headers("X-User, x-email ,X-USER,").unwrap(), ["x-user", "x-email"]);
        for bad in
            ["", ",", "X User", "X-A: b", "X-A\r\nX-B", "Content-Length", "x-a, Transfer-Encoding", "Host"]
        {
            assert!(response_headers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_groups_of_statuses_with_a_time() {
        let shown = |text| {
            let groups = cache_durations(text).ok()?;
            Some(groups.into_iter().map(|group| (group.statuses, group.time.as_millis())).collect::<Vec<_>>())
        };
        assert_eq!(
            shown("200 202 30m, 401 1m"),
            Some(vec![(vec![200, 202], 1_800_000), (vec![401], 60_000)])
        );
        assert_eq!(shown("5m"), Some(vec![(vec![200, 301, 302], 300_000)]));
        assert_eq!(
            shown("200 5m, any 1m"),
            Some(vec![(vec![200], 300_000), (Vec::new(), 60_000)]),
            "no status stands for all"
        );
        assert_eq!(shown("200 1500ms"), Some(vec![(vec![200], 1500)]));
        for bad in ["", "200", "200 5m 401", "5x", "200 401", "2000 5m", "5m 5m", "-5m", "200 m"] {
            assert_eq!(shown(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_hold_no_configuration() {
        assert!(cache_key("$remote_user$http_authorization").is_ok());
        assert!(cache_key("fixed").is_ok());
        for bad in ["$nope", "a b", "a;b", "'x'", "a\nb"] {
            assert!(cache_key(bad).is_err(), "{bad:?}");
        }
    }
}
