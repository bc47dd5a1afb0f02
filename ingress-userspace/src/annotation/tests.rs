use std::collections::{BTreeMap, BTreeSet};

use super::config_map::{self, Defaults};
use super::registry::{rows, served};
use super::{Effect, FindingKind, Settings, read};

const NGINX: &str = "nginx.ingress.kubernetes.io";

fn annotated(rows: &[(&str, &str)]) -> (Settings, Vec<(String, FindingKind, Effect)>) {
    let annotations: BTreeMap<String, String> = rows
        .iter()
        .map(|(key, value)| {
            let key = if key.contains('/') { (*key).to_owned() } else { format!("{NGINX}/{key}") };
            (key, (*value).to_owned())
        })
        .collect();
    let (settings, findings) = read(NGINX, &annotations, &Defaults::default());
    let short = |key: &str| key.trim_start_matches(NGINX).trim_start_matches('/').to_owned();
    (settings, findings.into_iter().map(|f| (short(&f.key), f.kind, f.effect)).collect())
}

#[test]
fn every_default_is_read_by_its_own_parser() {
    for row in rows() {
        if !row.default.is_empty() {
            assert_eq!((row.check)(row.default), Ok(()), "{}", row.key);
        }
        assert!(
            row.docs.trim_start().starts_with(|c: char| c.is_uppercase() || c == '`'),
            "{} has no docs",
            row.key
        );
    }
    let keys = rows().filter(|row| row.is_config_key() && !row.default.is_empty());
    let data: BTreeMap<_, _> = keys.map(|row| (row.key.to_owned(), row.default.to_owned())).collect();
    let (defaults, findings) = config_map::read(&data);
    assert_eq!(findings, []);
    let (unset, _) = config_map::read(&BTreeMap::new());
    assert_eq!(Defaults { data: BTreeMap::new(), ..defaults }, unset);
}

#[test]
fn no_key_is_listed_twice() {
    let all: Vec<&str> = served().collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
    let all: Vec<&str> = config_map::all().collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
}

#[test]
fn values_that_cannot_be_read_leave_the_default_or_deny() {
    let rows = [
        ("proxy-body-size", "20MB", Effect::Warn),
        ("proxy-read-timeout", "60s", Effect::Warn),
        ("ssl-redirect", "yes", Effect::Warn),
        ("use-regex", "on", Effect::Warn),
        ("default-backend", "other/svc", Effect::Warn),
        ("limit-burst-multiplier", "0", Effect::Warn),
        ("limit-rps", "10/s", Effect::Refuse),
        ("whitelist-source-range", "bogus", Effect::Deny),
        ("allowlist-source-range", "bogus", Effect::Deny),
        ("rewrite-target", "ftp://example.com", Effect::Deny),
        ("permanent-redirect", "javascript:alert(1)", Effect::Refuse),
        ("permanent-redirect-code", "200", Effect::Warn),
        ("app-root", "https://example.com/", Effect::Warn),
        ("cors-max-age", "1h", Effect::Warn),
        ("custom-headers", "a/b/c", Effect::Deny),
        ("proxy-cookie-path", "/", Effect::Warn),
        ("connection-proxy-header", "upgrade", Effect::Warn),
    ];
    for (key, value, effect) in rows {
        let (settings, findings) = annotated(&[(key, value)]);
        assert_eq!(findings, [(key.to_owned(), FindingKind::Invalid, effect)], "{key}");
        let expected = Settings {
            deny: matches!(effect, Effect::Deny | Effect::Refuse)
                .then(|| format!("annotation {NGINX}/{key}")),
            ..annotated(&[]).0
        };
        assert_eq!(settings, expected, "{key}");
    }
}

#[test]
fn unsupported_protection_denies_and_the_rest_does_not() {
    let (settings, findings) =
        annotated(&[("secure-verify-ca-secret", "ca"), ("grpc-backend", "true"), ("add-base-url", "true")]);
    let denied = "annotation nginx.ingress.kubernetes.io/secure-verify-ca-secret";
    assert_eq!(settings.deny.as_deref(), Some(denied));
    let effects: Vec<Effect> = findings.into_iter().map(|(_, _, effect)| effect).collect();
    // In the order of the keys.
    assert_eq!(effects, [Effect::Note, Effect::Warn, Effect::Deny]);
    let off = [
        ("enable-modsecurity", "false"),
        ("enable-cors", "0"),
        ("modsecurity-snippet", " "),
        ("satisfy", "all"),
    ];
    assert_eq!(annotated(&off).1, []);
    assert!(annotated(&[("canary", "yes")]).0.is_skipped);
}

#[test]
fn both_prefixes_are_read_and_ours_wins() {
    let rows = [("limit-rps", "5"), ("portcullis.dev/limit-rps", "7"), ("example.com/limit-rps", "9")];
    let (settings, findings) = annotated(&rows);
    let rates = settings.rate.map(|rate| rate.rates).unwrap_or_default();
    assert_eq!(rates.iter().map(|rate| (rate.requests, rate.burst)).collect::<Vec<_>>(), [(7, 35)]);
    assert_eq!(findings, []);
    let (_, findings) = annotated(&[("portcullis.dev/rewrit-target", "/")]);
    assert_eq!(findings, [("portcullis.dev/rewrit-target".to_owned(), FindingKind::Unknown, Effect::Warn)]);
}

#[test]
fn the_newer_name_of_the_allow_list_counts() {
    let (settings, findings) = annotated(&[
        ("whitelist-source-range", "198.18.1.0/24"),
        ("allowlist-source-range", "198.18.0.0/24"),
    ]);
    assert_eq!(settings.allow_list.unwrap().sources[0].to_string(), "198.18.0.0/24");
    assert_eq!(findings.len(), 1);
    let (settings, findings) = annotated(&[("whitelist-source-range", "198.18.0.0/24,oops")]);
    assert_eq!((settings.allow_list.unwrap().sources.len(), settings.deny), (1, None));
    assert_eq!(findings.len(), 1);
}

#[test]
fn config_map_keys_are_checked() {
    let data =
        [("ssl-redirct", "false"), ("proxy-body-size", "20MB"), ("server-snippet", "x"), ("hsts", "false")];
    let data = data.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let (_, findings) = config_map::read(&data);
    let found: Vec<_> = findings.iter().map(|f| (f.key.as_str(), f.kind)).collect();
    let expected = [
        ("proxy-body-size", FindingKind::Invalid),
        ("server-snippet", FindingKind::Unsupported),
        ("ssl-redirct", FindingKind::Unknown),
    ];
    assert_eq!(found, expected);
}

/// What hostile and careless authors write: any text, and text made of the pieces that parsers care about.
fn any_value() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let pieces = prop::sample::select(vec![
        "0",
        "1",
        "9",
        "-",
        "+",
        ".",
        "k",
        "m",
        "G",
        "MB",
        "s",
        "/",
        "$1",
        "$",
        "(",
        ")",
        ",",
        " ",
        "198.18.0.0",
        "/15",
        "/33",
        "2001:db8::",
        ":",
        "true",
        "\u{0}",
        "\r\n",
        "{",
        "}",
        ";",
        "\"",
        "#",
        "\u{e9}",
        "\u{202e}",
        "%2f",
        "..",
        "//",
    ]);
    prop_oneof![any::<String>(), prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())]
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_value_of_any_key_is_read_or_reported(key in 0..served().count(), value in any_value()) {
        let key = served().nth(key).unwrap_or_default();
        let (settings, findings) = annotated(&[(key, &value)]);
        // Nothing is silent: what differs from the defaults was asked for by a served key, or is reported.
        let is_served = served().any(|served| served == key);
        proptest::prop_assert!(settings == annotated(&[]).0 || is_served || !findings.is_empty());
        if let Some(target) = settings.rewriting.target {
            let target = target.to_string();
            proptest::prop_assert!(target.starts_with(['/', '$', 'h']) && !target.contains(['\r', '\n', '\0', ' ']));
        }
        if let Some(list) = settings.allow_list {
            proptest::prop_assert!(!list.sources.is_empty());
            proptest::prop_assert!(list.sources.iter().all(|network| network.trunc() == *network));
        }
    }

    #[test]
    fn any_config_map_is_read(key in 0..config_map::all().count(), value in any_value()) {
        let key = config_map::all().nth(key).unwrap_or_default();
        let (defaults, findings) = config_map::read(&[(key.to_owned(), value)].into());
        let is_served = super::registry::config_row(key).is_some();
        let (unset, _) = config_map::read(&BTreeMap::new());
        proptest::prop_assert!(defaults.global == unset.global || is_served);
        proptest::prop_assert!(findings.len() <= 64);
    }
}
