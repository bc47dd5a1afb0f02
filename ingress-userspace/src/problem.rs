//! A user's mistake, as data: which object, which field, which value, and how to fix it.
//!
//! Problems are collected, never thrown: they become log lines, Events and the rows of `lint`.

use serde::Serialize;

/// Names an object of the cluster or of the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// `networking.k8s.io/v1`, `v1`, …
    pub api_version: String,
    /// `Ingress`, `Secret`, …; `File` for a file that could not be read as objects, `Flag` for a flag.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name; the path for a file.
    pub name: String,
    /// Its UID in the cluster, empty for a folder. Events need it.
    pub uid: String,
}

impl ObjectRef {
    /// Names a file.
    pub fn file(path: &str) -> Self {
        Self::outside("File", path)
    }

    /// Names a command-line flag, as it is written.
    pub fn flag(name: &str) -> Self {
        Self::outside("Flag", name)
    }

    fn outside(kind: &str, name: &str) -> Self {
        Self {
            api_version: String::new(),
            kind: kind.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
            uid: String::new(),
        }
    }
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
    /// A command may not read what it was asked to judge.
    NotPermitted,
}

impl Code {
    /// All of them, in order. Codes are never renamed and never given another meaning.
    pub const ALL: [Self; 12] = [
        Self::ObjectInvalid,
        Self::KindUnknown,
        Self::AnnotationInvalid,
        Self::AnnotationUnknown,
        Self::FieldInvalid,
        Self::FieldUnsupported,
        Self::BackendMissing,
        Self::SecretInvalid,
        Self::Conflict,
        Self::ReferenceMissing,
        Self::KindNotInstalled,
        Self::NotPermitted,
    ];

    /// The code as it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::ObjectInvalid => "ObjectInvalid",
            Self::KindUnknown => "KindUnknown",
            Self::AnnotationInvalid => "AnnotationInvalid",
            Self::AnnotationUnknown => "AnnotationUnknown",
            Self::FieldInvalid => "FieldInvalid",
            Self::FieldUnsupported => "FieldUnsupported",
            Self::BackendMissing => "BackendMissing",
            Self::SecretInvalid => "SecretInvalid",
            Self::Conflict => "Conflict",
            Self::ReferenceMissing => "ReferenceMissing",
            Self::KindNotInstalled => "KindNotInstalled",
            Self::NotPermitted => "NotPermitted",
        }
    }

    /// What it says of the object, what comes of it, and what to do: for the reference.
    pub fn explanation(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ObjectInvalid => (
                "A file is not YAML or JSON, or an object in it does not have the shape of its kind.",
                "The object is ignored; what the file held before stays.",
                "Correct the line that the message names; `kubectl apply --dry-run=server` says the same.",
            ),
            Self::KindUnknown => (
                "A kind that is not read here.",
                "The object is ignored.",
                "Nothing, if it is meant for somebody else.",
            ),
            Self::AnnotationInvalid => (
                "The value of an annotation or of a ConfigMap key cannot be read.",
                "The default holds; where serving without the setting would let in what it should keep out, the paths of the \
                 Ingress answer 503.",
                "Write what the message says; the reference of annotations has every value.",
            ),
            Self::AnnotationUnknown => (
                "An annotation or ConfigMap key is unknown, or belongs to something that is not offered.",
                "It has no effect. One that protects denies: its paths answer 503, unless the ConfigMap key \
                 refused-annotations is Ignore.",
                "Correct the name (the nearest one is suggested), or write the replacement that the message names.",
            ),
            Self::FieldInvalid => (
                "A field of an object has a value that cannot be served.",
                "The rule or entry is not served, or is read as the message says.",
                "Correct the field.",
            ),
            Self::FieldUnsupported => (
                "A field is valid and not offered.",
                "It is ignored, or its requests go to the default backend.",
                "Use what the message names.",
            ),
            Self::BackendMissing => (
                "A Service, its port or its endpoints are missing.",
                "Requests get 503 until they exist.",
                "Create them or correct the name; `kubectl get endpointslices` shows what is ready.",
            ),
            Self::SecretInvalid => (
                "A Secret is missing or does not hold what it should.",
                "For TLS the default certificate is served, or the last good one while it is held; paths that it protects \
                 answer 503.",
                "Correct the Secret; the message names the key and never shows its value.",
            ),
            Self::Conflict => (
                "Two objects ask for the same thing.",
                "The older one has it; of equal age the one that the message names.",
                "Remove one of them, or make them agree.",
            ),
            Self::ReferenceMissing => (
                "A class, ConfigMap or other object that is referred to does not exist.",
                "What refers to it is not served, or answers 503 where it protects.",
                "Create it or correct the name.",
            ),
            Self::KindNotInstalled => (
                "The definition of a custom resource is not installed.",
                "None of that kind is assumed.",
                "Install the definitions of the chart.",
            ),
            Self::NotPermitted => (
                "The user of a command such as `lint` may not list a kind of objects.",
                "What can be said without them is said; the message names what is not checked.",
                "Let an administrator run the command in the message, or look at one namespace with `-n`.",
            ),
        }
    }

    /// The `reason` of the Event, as users of ingress-nginx know it where it has one.
    pub fn event_reason(self) -> &'static str {
        match self {
            Self::AnnotationInvalid | Self::AnnotationUnknown => "AnnotationParsingFailed",
            Self::BackendMissing => "BackendMissing",
            Self::SecretInvalid => "SecretInvalid",
            Self::Conflict => "Conflict",
            Self::ObjectInvalid | Self::KindUnknown | Self::FieldInvalid => "Invalid",
            Self::FieldUnsupported => "Unsupported",
            Self::ReferenceMissing | Self::KindNotInstalled | Self::NotPermitted => "ReferenceMissing",
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
