//! When an EdgePolicy bans. A rule that cannot be read bans nobody, and says so; lists and limits hold all the same.

use std::time::Duration;

use jiff::SignedDuration;

use crate::k8s::crd;
use crate::model::edge::{BanRule, EdgeLimit, Per};
use crate::problem::{Code, ObjectRef, Severity};
use crate::translate::Build;

const WITHIN: Span = Span {
    field: "within",
    least: Duration::from_secs(1),
    most: Duration::from_secs(3_600),
    default: Duration::from_secs(10),
    range: "between 1s and 1h; 10s is taken",
};
const LASTS: Span = Span {
    field: "for",
    least: Duration::from_secs(1),
    most: Duration::from_secs(168 * 3_600),
    default: Duration::from_secs(600),
    range: "between 1s and 168h; 10m is taken",
};
const AFTER_MOST: u32 = 1_000_000_000;
/// Half of what the kernel can hold, for all policies together.
const MAX_MOST: u32 = 8_192;
const MAX: u32 = 1_000;

/// What a length of time may be.
struct Span {
    field: &'static str,
    least: Duration,
    most: Duration,
    default: Duration,
    range: &'static str,
}

/// The rule of a policy with these limits.
pub(super) fn rule(
    build: &mut Build<'_>,
    owner: &ObjectRef,
    ban: &crd::Ban,
    limits: &[EdgeLimit],
) -> Option<BanRule> {
    let mut problem = |severity, part: &str, value: &str, message: &str| {
        build.problem(owner, (Code::FieldInvalid, severity), (format!("spec.ban.{part}"), value), message);
    };
    let Some(after) = in_range(ban.after, AFTER_MOST) else {
        let message = format!("must lie between 1 and {AFTER_MOST}; nobody is banned; correct it");
        problem(Severity::Error, "after", &ban.after.to_string(), &message);
        return None;
    };
    if limits.iter().all(|limit| limit.per != Per::Source) {
        let message = "bans nobody: the policy has no limit per Source that could be broken; add one, or remove the ban";
        problem(Severity::Warning, "after", &ban.after.to_string(), message);
        return None;
    }
    let mut time = |span: &Span, text: Option<&String>| {
        let Some(text) = text else { return span.default };
        let parsed = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
        parsed.filter(|time| (span.least..=span.most).contains(time)).unwrap_or_else(|| {
            let message = format!("must be a time such as 90s or 10m {}; correct it", span.range);
            problem(Severity::Warning, span.field, text, &message);
            span.default
        })
    };
    let within = time(&WITHIN, ban.within.as_ref());
    let lasts = time(&LASTS, ban.lasts.as_ref());
    let most = ban.max.map_or(MAX, |max| {
        in_range(max, MAX_MOST).unwrap_or_else(|| {
            let message = format!("must lie between 1 and {MAX_MOST}; {MAX} is taken; correct it");
            problem(Severity::Warning, "max", &max.to_string(), &message);
            MAX
        })
    });
    Some(BanRule { after, within, lasts, most })
}

fn in_range(value: i64, most: u32) -> Option<u32> {
    u32::try_from(value).ok().filter(|value| (1..=most).contains(value))
}
