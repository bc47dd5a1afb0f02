//! What is logged of requests, as they look it up.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::model::log::AccessLog;
use crate::model::log::stream::StreamTemplate;
use crate::telemetry::access_log::format::Format;

/// What is logged of requests.
#[derive(Debug)]
pub struct AccessLogging {
    /// Requests are logged at all.
    pub is_on: bool,
    /// A line.
    pub format: Arc<Format>,
    /// Requests that no host takes are logged, too.
    pub has_unmatched: bool,
    /// A line of a session that is not HTTP; `None`: they are not logged.
    pub streams: Option<StreamTemplate>,
    skipped: Vec<String>,
    skipped_patterns: Vec<Regex>,
}

impl Default for AccessLogging {
    fn default() -> Self {
        Self::new(&AccessLog::default())
    }
}

impl AccessLogging {
    /// From the model.
    pub fn new(model: &AccessLog) -> Self {
        let (patterns, texts): (Vec<&String>, Vec<&String>) =
            model.skipped.iter().partition(|text| text.starts_with('~'));
        // Expressions were tried when the ConfigMap was read.
        let patterns = patterns.into_iter().filter_map(|text| {
            let (text, is_caseless) = match text.strip_prefix("~*") {
                Some(text) => (text, true),
                None => (text.strip_prefix('~').unwrap_or(text), false),
            };
            RegexBuilder::new(text).case_insensitive(is_caseless).build().ok()
        });
        Self {
            is_on: model.is_on,
            format: Arc::new(Format::new(model)),
            has_unmatched: model.has_unmatched,
            streams: model.streams.is_on.then(|| model.streams.format.clone()),
            skipped_patterns: patterns.collect(),
            skipped: texts.into_iter().cloned().collect(),
        }
    }

    /// Whether requests for this target are left out.
    pub fn skips(&self, target: &str) -> bool {
        self.skipped.iter().any(|text| text.eq_ignore_ascii_case(target))
            || self.skipped_patterns.iter().any(|pattern| pattern.is_match(target))
    }
}
