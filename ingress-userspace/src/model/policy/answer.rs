//! Answers that the proxy gives itself, instead of asking a backend.

use serde::{Deserialize, Serialize};

use super::headers::HeaderChange;
use crate::model::template::{Template, Variable};

/// An answer, and when it is given. Of several the first whose conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// All of them; none: always. Groups of the last expression are `$1` to `$9` of the content.
    pub conditions: Vec<Condition>,
    /// Status of the answer, 200 to 599.
    pub status: u16,
    /// What it says.
    pub content: Content,
    /// Its header fields, beside those that all answers of the route get.
    pub headers: Vec<HeaderChange>,
}

impl Answer {
    /// Always, without header fields of its own.
    pub fn always(status: u16, content: Content) -> Self {
        Self { conditions: Vec::new(), status, content, headers: Vec::new() }
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The name of its status.
    Page,
    /// This text.
    Text(Template),
    /// Another place.
    Location {
        /// A URL, or a path on the host that was asked for.
        to: Template,
        /// The query of the request follows.
        keeps_query: bool,
        /// How a path becomes a URL.
        form: LocationForm,
    },
    /// The same scheme, port, path and query on another host, without a slash at the end.
    Host(String),
    /// No answer: the request goes on, with another path for the backend, if an expression finds something in its path.
    /// Status and header fields are of no account.
    Onward {
        /// The expression; its groups are `$1` to `$9`.
        pattern: Pattern,
        /// The path, and the query behind a `?`, in front of the request's own.
        to: Template,
    },
}

impl Content {
    /// `$1`…`$9` stand in it.
    pub fn has_groups(&self) -> bool {
        let template = match self {
            Self::Text(template) | Self::Location { to: template, .. } => template,
            // Its groups are those of an expression of its own.
            Self::Page | Self::Host(_) | Self::Onward { .. } => return false,
        };
        template.variables().any(|variable| matches!(variable, Variable::Group(_)))
    }
}

/// How a path in `Location` becomes a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocationForm {
    /// With scheme and host.
    #[default]
    Host,
    /// With scheme, host and the port that the client connected to, unless it is the scheme's own.
    HostAndPort,
    /// It stays a path.
    Relative,
}

/// A comparison of something in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is compared.
    pub subject: Template,
    /// With what.
    pub test: Test,
}

/// Comparisons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// Is this text.
    Equals(String),
    /// Is another text.
    Differs(String),
    /// Matches.
    Matches(Pattern),
    /// Does not match.
    MatchesNot(Pattern),
    /// Neither empty nor `0`.
    IsSet,
    /// Empty or `0`.
    IsUnset,
}

impl Condition {
    /// Holds where this one does not.
    pub fn negated(&self) -> Self {
        let test = match self.test.clone() {
            Test::Equals(text) => Test::Differs(text),
            Test::Differs(text) => Test::Equals(text),
            Test::Matches(pattern) => Test::MatchesNot(pattern),
            Test::MatchesNot(pattern) => Test::Matches(pattern),
            Test::IsSet => Test::IsUnset,
            Test::IsUnset => Test::IsSet,
        };
        Self { subject: self.subject.clone(), test }
    }
}

/// A regular expression, not anchored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// Its text.
    pub text: String,
    /// Capital letters differ from small ones.
    pub is_case_sensitive: bool,
}
