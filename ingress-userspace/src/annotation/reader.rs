//! Looking settings up: the annotation, else the ConfigMap's key, else the declared default; and noting what is wrong.

use std::collections::BTreeMap;

use super::config_map::Defaults;
use super::registry::{Annotation, Row};
use super::{Effect, Finding, FindingKind, OWN_PREFIX, known};

/// The settings of one Ingress as they are looked up: its annotations, then the ConfigMap, then the declared default.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Only what stands under our prefixes, by its key without prefix: most settings of most Ingresses are not there.
    annotations: BTreeMap<&'a str, (&'a str, &'a str)>,
    config: &'a BTreeMap<String, String>,
    /// Whether the ConfigMap itself is read. Its mistakes are reported then, and not once more for every Ingress.
    reads_config: bool,
    /// A ConfigMap key that protects and cannot be read, and that no annotation overrides.
    pub inherited_deny: Option<&'static str>,
    /// What was found wrong so far.
    pub findings: Vec<Finding>,
}

/// A value that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// Not given.
    Absent,
    /// Given and readable.
    Value(T),
    /// Given and not readable; the finding is written.
    Invalid,
}

impl<T> Read<T> {
    /// The value, or else this one.
    pub fn or(self, default: T) -> T {
        match self {
            Self::Value(value) => value,
            Self::Absent | Self::Invalid => default,
        }
    }

    /// The value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// A text that was found for a setting.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The key as written: with prefix, or that of the ConfigMap.
    pub key: String,
    /// The value as written.
    pub text: &'a str,
    /// It stands in the ConfigMap.
    pub is_config: bool,
}

impl<'a> Reader<'a> {
    /// For an Ingress with these annotations, under `prefix` and under our own.
    pub fn new(prefix: &'a str, annotations: &'a BTreeMap<String, String>, defaults: &'a Defaults) -> Self {
        let config = &defaults.data;
        let annotations = index(prefix, annotations);
        Self { annotations, config, reads_config: false, inherited_deny: None, findings: Vec::new() }
    }

    /// For the ConfigMap itself.
    pub fn of_config(config: &'a BTreeMap<String, String>) -> Self {
        Self {
            annotations: BTreeMap::new(),
            config,
            reads_config: true,
            inherited_deny: None,
            findings: Vec::new(),
        }
    }

    /// The annotation of this key as written; our own prefix wins.
    pub fn text(&self, key: &str) -> Option<(String, &'a str)> {
        self.annotations.get(key).map(|(key, text)| ((*key).to_owned(), *text))
    }

    /// The text of a setting: the annotation, else the ConfigMap's. An empty one, as templates leave it behind, is none:
    /// so it is in ingress-nginx. Of two names the first counts, and the other is reported if it says something else.
    pub fn find(&mut self, row: &'static Row) -> Option<Found<'a>> {
        let mut found: Vec<Found<'a>> = Vec::new();
        for key in row.keys().filter(|_| row.is_annotation()) {
            if let Some((key, text)) = self.annotations.get(key) {
                found.push(Found { key: (*key).to_owned(), text, is_config: false });
            }
        }
        for key in row.keys().filter(|_| row.is_config_key()) {
            if let Some((key, text)) = self.config.get_key_value(key) {
                found.push(Found { key: key.clone(), text, is_config: true });
            }
        }
        found.retain(|found| !found.text.trim().is_empty());
        let first = found.first().cloned()?;
        let same_place = found.into_iter().skip(1).filter(|other| other.is_config == first.is_config);
        for other in same_place.filter(|other| other.text.trim() != first.text.trim()) {
            let message = format!("{} is given too and counts; remove one of them", first.key);
            self.report(&other, Effect::Warn, message);
        }
        Some(first)
    }

    /// The text of a setting in the ConfigMap, whatever annotations say.
    pub fn find_configured(&self, row: &'static Row) -> Option<Found<'a>> {
        let found = row.keys().find_map(|key| self.config.get_key_value(key));
        let (key, text) = found.filter(|(_, text)| !text.trim().is_empty())?;
        Some(Found { key: key.clone(), text, is_config: true })
    }

    /// Looks a setting up.
    pub fn get<T>(&mut self, annotation: &'static Annotation<T>) -> Read<T> {
        let Some(found) = self.find(&annotation.row) else { return Read::Absent };
        self.parse(annotation, &found)
    }

    /// Reads a text that was found; writes the finding if it cannot be read.
    pub fn parse<T>(&mut self, annotation: &'static Annotation<T>, found: &Found<'_>) -> Read<T> {
        match (annotation.parse)(found.text.trim()) {
            Ok(value) => Read::Value(value),
            Err(reason) => {
                self.invalid(&annotation.row, found, &reason);
                Read::Invalid
            }
        }
    }

    /// The value of a setting: as annotated, else as the ConfigMap has it, else as declared.
    pub fn value<T: Default>(&mut self, annotation: &'static Annotation<T>) -> T {
        if let Read::Value(value) = self.get(annotation) {
            return value;
        }
        self.configured(annotation)
    }

    /// The value of a setting without regard to annotations: as the ConfigMap has it, else as declared.
    pub fn configured<T: Default>(&self, annotation: &'static Annotation<T>) -> T {
        let configured = annotation.row.keys().filter(|_| annotation.row.is_config_key());
        let configured = configured.filter_map(|key| self.config.get(key)).map(String::as_str);
        let texts = configured.chain([annotation.row.default]).filter(|text| !text.trim().is_empty());
        texts.filter_map(|text| (annotation.parse)(text.trim()).ok()).next().unwrap_or_default()
    }

    /// A text that cannot be read.
    pub fn invalid(&mut self, row: &'static Row, found: &Found<'_>, reason: &str) {
        let mut finding = row.invalid(found.key.clone(), found.text, reason);
        if found.is_config && matches!(row.on_invalid, Effect::Deny | Effect::Refuse) {
            let written = row.keys().find(|key| *key == found.key).unwrap_or(row.key);
            self.inherited_deny.get_or_insert(written);
            finding.message =
                format!("{reason}; every path without a value of its own answers 503; write {}", row.values);
        } else if found.is_config {
            let default = if row.default.is_empty() { "nothing" } else { row.default };
            finding.message = format!("{reason}; the default ({default}) is used; write {}", row.values);
        }
        if found.is_config == self.reads_config {
            self.findings.push(finding);
        }
    }

    /// A text that is understood and not done. The ConfigMap never denies by it: nothing would be served.
    pub fn refuse(&mut self, row: &Row, found: &Found<'_>, replacement: &str) {
        if found.is_config != self.reads_config {
            return;
        }
        let (effect, consequence) = if found.is_config {
            (Effect::Warn, "requests are served without it")
        } else {
            (
                row.on_invalid,
                "the paths of this Ingress answer 503; remove it, or set the ConfigMap key refused-annotations to Ignore",
            )
        };
        self.findings.push(Finding {
            key: found.key.clone(),
            value: found.text.to_owned(),
            kind: FindingKind::Unsupported,
            effect,
            message: format!("refused, never executed; {replacement}; {consequence}"),
        });
    }

    /// Notes something about a text that was found.
    pub fn report(&mut self, found: &Found<'_>, effect: Effect, message: impl Into<String>) {
        if found.is_config == self.reads_config {
            self.findings.push(Finding {
                key: found.key.clone(),
                value: found.text.to_owned(),
                kind: FindingKind::Invalid,
                effect,
                message: message.into(),
            });
        }
    }

    /// Notes something about a setting, if it is given and is not empty.
    pub fn note_given(&mut self, row: &'static Row, effect: Effect, message: &str) {
        if let Some(found) = self.find(row) {
            self.report(&found, effect, message);
        }
    }

    /// Notes something about an annotation that was read.
    pub fn note(&mut self, key: &str, effect: Effect, message: impl Into<String>) {
        if let Some((key, text)) = self.text(key) {
            self.report(&Found { key, text, is_config: false }, effect, message);
        }
    }
}

/// The annotations under our prefixes by their key without it: that as written, and the text. Our own prefix wins.
fn index<'a>(
    prefix: &str,
    annotations: &'a BTreeMap<String, String>,
) -> BTreeMap<&'a str, (&'a str, &'a str)> {
    let mut index = BTreeMap::new();
    for only in [prefix, OWN_PREFIX] {
        for (written, text) in annotations {
            if let Some(key) = written.strip_prefix(only).and_then(|rest| rest.strip_prefix('/'))
                && known::counts(only, key)
            {
                index.insert(key, (written.as_str(), text.as_str()));
            }
        }
    }
    index
}
