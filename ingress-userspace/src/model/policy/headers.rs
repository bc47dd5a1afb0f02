//! Changes of header fields.

use serde::{Deserialize, Serialize};

use super::answer::Condition;
use crate::model::template::{Template, Variable};

/// Changes of the fields that a backend and a client see, each in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    /// What goes upstream, after everything that the proxy itself sets.
    pub request: Vec<HeaderChange>,
    /// What goes to the client.
    pub response: Vec<HeaderChange>,
}

impl Headers {
    /// Nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }

    /// Whether a value names groups of the path's regular expression.
    pub fn quotes_groups(&self) -> bool {
        let is_group = |variable: &Variable| matches!(variable, Variable::Group(_));
        self.request.iter().chain(&self.response).any(|change| match &change.action {
            HeaderAction::Set(value) | HeaderAction::Replace(value) | HeaderAction::Add(value) => {
                value.variables().any(is_group)
            }
            HeaderAction::Date(_) | HeaderAction::Remove | HeaderAction::RemovePrefix => false,
        })
    }
}

/// A change of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChange {
    /// Its name, lower case.
    pub name: String,
    /// What is done.
    pub action: HeaderAction,
    /// In which responses; all of them for requests.
    pub when: When,
}

/// What is done to a field. An empty value means that there is no such field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderAction {
    /// Replaces every line of it.
    Set(Template),
    /// Replaces every line of it, where there is one.
    Replace(Template),
    /// Adds a line.
    Add(Template),
    /// Replaces every line of it by the date that many seconds from now.
    Date(i64),
    /// Removes every line of it.
    Remove,
    /// Removes every field whose name begins so.
    RemovePrefix,
}

/// Which responses are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    /// Only with these statuses; empty: with all.
    pub statuses: Vec<u16>,
    /// Only with these media types; empty: with all.
    pub types: Vec<String>,
    /// Only those of a backend, not our own.
    pub is_from_backend: bool,
    /// Only to requests for which all of these hold.
    pub conditions: Vec<Condition>,
}
