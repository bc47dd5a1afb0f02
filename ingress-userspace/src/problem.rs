//! A user's mistake, as data: which object, which field, which value, and how to fix it.
//!
//! Problems are collected, never thrown: they become log lines, Events and the rows of `lint`.

use serde::Serialize;

/// Names an object of the cluster or of the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// `networking.k8s.io/v1`, `v1`, …
    pub api_version: String,
    /// `Ingress`, `Secret`, …; `File` for a file that could not be read as objects.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name; the path for a file.
    pub name: String,
    /// Its UID in the cluster, empty for a folder. Events need it.
    pub uid: String,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// What came of the mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// Nothing changes for traffic.
    Note,
    /// The object is served, but not as written.
    Warning,
    /// A part of the object is not served, or answers an error.
    Error,
}

/// The kinds of mistakes; the closed set behind Events' reasons and documentation anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Code {
    /// A file is not YAML or JSON, or an object in it does not have the shape of its kind.
    ObjectInvalid,
    /// The kind is not one that we read.
    KindUnknown,
    /// An annotation's value could not be read.
    AnnotationInvalid,
    /// An annotation under our prefix is unknown or not supported.
    AnnotationUnknown,
    /// A field of the object has a value that cannot be served.
    FieldInvalid,
    /// A field is valid but not supported by this version.
    FieldUnsupported,
    /// A Service, its port, or its endpoints are missing.
    BackendMissing,
    /// A Secret is missing or holds no usable certificate.
    SecretInvalid,
    /// Two objects ask for the same thing; the older one has it.
    Conflict,
    /// A class, ConfigMap or other referenced object is missing.
    ReferenceMissing,
    /// The custom resource definitions are not installed.
    KindNotInstalled,
}

impl Code {
    /// The `reason` of the Event, as users of ingress-nginx know it where it has one.
    pub fn event_reason(self) -> &'static str {
        match self {
            Self::AnnotationInvalid | Self::AnnotationUnknown => "AnnotationParsingFailed",
            Self::BackendMissing => "BackendMissing",
            Self::SecretInvalid => "SecretInvalid",
            Self::Conflict => "Conflict",
            Self::ObjectInvalid | Self::KindUnknown | Self::FieldInvalid => "Invalid",
            Self::FieldUnsupported => "Unsupported",
            Self::ReferenceMissing | Self::KindNotInstalled => "ReferenceMissing",
        }
    }
}

/// One mistake in one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// Where.
    pub object: ObjectRef,
    /// What kind of mistake.
    pub code: Code,
    /// What came of it.
    pub severity: Severity,
    /// The field as a path: `metadata.annotations[…]`, `spec.rules[0].http.paths[1].backend`.
    pub field: String,
    /// The value as written, shortened to 100 characters; never a Secret's.
    pub value: String,
    /// What is wrong, what is done instead, and how to fix it.
    pub message: String,
}

/// Shortens a value for a Problem.
pub fn shorten(value: &str) -> String {
    const LONGEST: usize = 100;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

/// The candidate that a misspelt word most likely means: at most a third of its letters differ.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let near = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace) between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut previous = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            left = (previous + usize::from(from != *to)).min(above + 1).min(left + 1);
            previous = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_not() {
        let known = ["rewrite-target", "use-regex", "ssl-redirect", "limit-rps", "limit-rpm"];
        for (word, expected) in [
            ("rewrit-target", Some("rewrite-target")),
            ("use-regexp", Some("use-regex")),
            ("ssl-redirct", Some("ssl-redirect")),
            ("completely-other", None),
            ("", None),
        ] {
            assert_eq!(suggest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn long_values_are_shortened_at_a_character() {
        assert_eq!(shorten("abc"), "abc");
        assert_eq!(shorten(&"ä".repeat(200)).chars().count(), 101);
    }
}
