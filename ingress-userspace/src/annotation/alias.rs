//! `server-alias`.

use super::registry::annotations;
use super::{Effect, Reader};

annotations! { "Other names of a host";
    /// Other names under which the hosts of this Ingress are served, with the same certificate. A name that is the host of
    /// a rule is left out, and so is one that another Ingress has. Unlike in ingress-nginx a regular expression (`~^…`) is
    /// no name.
    SERVER_ALIAS: Aliases = "server-alias", parse: aliases, values: "host names, separated by commas; *. for one label",
    default: "", on_invalid: Warn, scope: "the whole host; the oldest Ingress with it counts", twins: [], in: Annotation, support: Differs;
}

/// What a list of names held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases {
    /// Those that can be read, lower case.
    pub names: Vec<String>,
    /// Entries that are no name.
    pub unreadable: Vec<String>,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Vec<String> {
    let Some(found) = reader.find(&SERVER_ALIAS.row) else { return Vec::new() };
    let Aliases { names, unreadable } = reader.parse(&SERVER_ALIAS, &found).or(Aliases::default());
    if !unreadable.is_empty() {
        let message = format!(
            "holds {}, which is no host name; it is left out; write each name, or *. before a domain",
            unreadable.join(", ")
        );
        reader.report(&found, Effect::Warn, message);
    }
    names
}

fn aliases(text: &str) -> Result<Aliases, String> {
    let mut found = Aliases::default();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let name = entry.to_ascii_lowercase();
        if is_name(name.strip_prefix("*.").unwrap_or(&name)) {
            found.names.push(name);
        } else {
            found.unreadable.push(entry.to_owned());
        }
    }
    Ok(found)
}

fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
