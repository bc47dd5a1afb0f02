//! Settings that are declared and do nothing: accepted where nothing is needed, refused where something would be missing.
//! Either way whoever wrote them is told why, once, where the rest of the mistakes stand.

use super::registry::{Row, Support};
use super::{Effect, Finding, FindingKind, value};

/// What is to be said of a value of such a setting; nothing when it asks for nothing, or when its feature has told already.
pub(super) fn check(row: &'static Row, key: &str, text: &str, told: &[Finding]) -> Option<Finding> {
    if told.iter().any(|finding| finding.key == key) {
        return None;
    }
    if asks_for_nothing(row, text) {
        return None;
    }
    let trimmed = text.trim();
    let (kind, effect) = match row.support {
        Support::Ignored => (FindingKind::Unsupported, Effect::Note),
        Support::Refused => (FindingKind::Unsupported, row.on_invalid),
        Support::Same | Support::Differs | Support::Own => return None,
    };
    if let (Support::Ignored, Err(reason)) = (row.support, (row.check)(trimmed)) {
        return Some(row.invalid(key.to_owned(), text, &reason));
    }
    Some(Finding { key: key.to_owned(), value: text.to_owned(), kind, effect, message: row.sentence() })
}

/// Whether such a setting is there and switched off, as charts leave it.
pub fn asks_for_nothing(row: &Row, text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text == "off" || value::boolean(text) == Ok(false) || text == row.default
}
