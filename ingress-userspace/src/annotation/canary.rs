//! `canary*`: an Ingress that takes a part of another one's requests.

use super::registry::annotations;
use super::{Effect, Read, Reader, affinity, value};
use crate::model::policy::delivery::{CanaryHeader, CanaryRule};

annotations! { "Canary";
    /// This Ingress takes a part of the requests of another one: of the paths that both have, with the same host, path and path
    /// type. Its other annotations are of no account, but for `load-balance`, `upstream-hash-by`, `affinity` and `upstream-health-check-*`. There must be
    /// an Ingress without it, and each path has one canary. While the canary's Service has no ready endpoint, the
    /// main one serves. Unlike in ingress-nginx the canary holds for the paths that it names alone, and not for all paths
    /// of all Ingresses that send to the same Service; and it serves its share, too, while the main Service has no endpoint.
    /// An Ingress whose value cannot be read is not served at all.
    CANARY: bool = "canary", parse: value::boolean, values: "true or false", default: "false", on_invalid: Skip,
    scope: "Ingress", twins: [], in: Annotation, support: Differs;
    /// A header decides first: `always` chooses the canary, `never` the main Ingress, else the next rule decides.
    CANARY_BY_HEADER: String = "canary-by-header", parse: value::header_name, values: "the name of a header", default: "",
    on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Same;
    /// Exactly this value of the header chooses the canary, in place of `always` and `never`.
    CANARY_BY_HEADER_VALUE: String = "canary-by-header-value", parse: header_value, values: "the value of a header",
    default: "", on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Same;
    /// A value in which this regular expression finds something chooses the canary. Of no account beside
    /// `canary-by-header-value`. With an expression that cannot be used the header chooses the main Ingress. Unlike in
    /// ingress-nginx look-around and backreferences are not supported.
    CANARY_BY_HEADER_PATTERN: String = "canary-by-header-pattern", parse: pattern, values: "a regular expression",
    default: "", on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Differs;
    /// A cookie decides next: `always` chooses the canary, `never` the main Ingress, else the weight decides.
    CANARY_BY_COOKIE: String = "canary-by-cookie", parse: affinity::cookie_name, values: "the name of a cookie",
    default: "", on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Same;
    /// The canary's share of the requests that neither header nor cookie decides, drawn per request.
    CANARY_WEIGHT: u32 = "canary-weight", parse: value::integer, values: "a bare whole number", default: "0",
    on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Same;
    /// What `canary-weight` is a share of; less than 100 counts as 100.
    CANARY_WEIGHT_TOTAL: u32 = "canary-weight-total", parse: value::integer, values: "a bare whole number from 100",
    default: "100", on_invalid: Warn, scope: "Ingress", twins: [], in: Annotation, support: Same;
}

/// What makes an Ingress a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryRules {
    /// By a header.
    pub header: Option<CanaryHeader>,
    /// By a cookie of this name.
    pub cookie: Option<String>,
    /// Its share of the rest.
    pub weight: u32,
    /// What `weight` is a share of.
    pub weight_total: u32,
    /// Sessions stay on their side.
    pub is_sticky: bool,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<CanaryRules> {
    let is_legacy = affinity::is_legacy(reader);
    let rules = CanaryRules {
        header: header(reader),
        cookie: reader.get(&CANARY_BY_COOKIE).value(),
        weight: reader.value(&CANARY_WEIGHT),
        weight_total: reader.value(&CANARY_WEIGHT_TOTAL).max(100),
        is_sticky: !is_legacy,
    };
    match reader.get(&CANARY) {
        Read::Value(true) => {
            report_odd(reader, &rules);
            Some(rules)
        }
        Read::Value(false) | Read::Absent => {
            for row in GROUP.rows.iter().filter(|row| row.key != CANARY.row.key) {
                let message = "changes nothing without canary: \"true\"; the Ingress is served as any other";
                reader.note_given(row, Effect::Warn, message);
            }
            let message = "changes nothing here: it is read from the canary Ingress";
            if is_legacy {
                reader.note_given(&affinity::AFFINITY_CANARY_BEHAVIOR.row, Effect::Note, message);
            }
            None
        }
        Read::Invalid => None,
    }
}

fn header(reader: &mut Reader<'_>) -> Option<CanaryHeader> {
    let value = reader.get(&CANARY_BY_HEADER_VALUE);
    let pattern = reader.get(&CANARY_BY_HEADER_PATTERN);
    let Read::Value(name) = reader.get(&CANARY_BY_HEADER) else {
        for annotation in [&CANARY_BY_HEADER_VALUE, &CANARY_BY_HEADER_PATTERN] {
            let message = "changes nothing without canary-by-header, which names the header";
            reader.note_given(&annotation.row, Effect::Warn, message);
        }
        return None;
    };
    let rule = match (value, pattern) {
        (Read::Value(value), pattern) => {
            if pattern != Read::Absent {
                let message = "of no account beside canary-by-header-value; remove one of them";
                reader.note(CANARY_BY_HEADER_PATTERN.row.key, Effect::Warn, message);
            }
            CanaryRule::Value(value)
        }
        (_, Read::Value(pattern)) => CanaryRule::Pattern(pattern),
        (_, Read::Invalid) => CanaryRule::Main,
        (_, Read::Absent) => CanaryRule::Switch,
    };
    Some(CanaryHeader { name: name.to_ascii_lowercase(), rule })
}

fn report_odd(reader: &mut Reader<'_>, rules: &CanaryRules) {
    if rules.header.is_none() && rules.cookie.is_none() && rules.weight == 0 {
        let message = "takes no request, since there is neither a header nor a cookie nor a weight above 0";
        reader.note(CANARY.row.key, Effect::Note, message);
    }
    if rules.weight > rules.weight_total {
        let message =
            format!("is more than canary-weight-total ({}), so the canary takes all", rules.weight_total);
        reader.note(CANARY_WEIGHT.row.key, Effect::Note, message);
    }
}

fn header_value(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Err("is not the value of a header".to_owned());
    }
    Ok(text.to_owned())
}

fn pattern(text: &str) -> Result<String, String> {
    match crate::path_regex::search(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(regex::Error::CompiledTooBig(limit)) => {
            Err(format!("is larger than {limit} bytes when compiled"))
        }
        Err(error) => {
            // The last line of the text is the reason; the lines before draw the expression.
            let shown = error.to_string();
            let reason = shown.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(format!("is not a regular expression that can be used ({reason})"))
        }
    }
}
