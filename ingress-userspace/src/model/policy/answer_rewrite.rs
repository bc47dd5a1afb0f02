//! What backends say about themselves in their answers, as clients must read it.

use serde::{Deserialize, Serialize};

use super::answer::{LocationForm, Pattern};
use crate::model::template::Template;

/// Rewrites `Set-Cookie`, `Location` and `Refresh` of backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRewrite {
    /// The `Domain` of cookies.
    pub cookie_domain: Option<Replacement>,
    /// The `Path` of cookies.
    pub cookie_path: Option<Replacement>,
    /// The URL in `Location` and `Refresh`.
    pub location: Option<Replacement>,
    /// How a rewritten path in `Location` becomes a URL.
    pub form: LocationForm,
}

impl AnswerRewrite {
    /// Nothing is rewritten.
    pub fn is_empty(&self) -> bool {
        self.cookie_domain.is_none() && self.cookie_path.is_none() && self.location.is_none()
    }
}

/// A text that another one replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Which.
    pub from: Matcher,
    /// With what; `$1` to `$9` are groups.
    pub to: Template,
}

/// What is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Matcher {
    /// Where the value begins so (the whole domain of a cookie).
    Text(Template),
    /// What matches.
    Regex(Pattern),
}
