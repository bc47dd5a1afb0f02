//! `block-cidrs`, `block-user-agents`, `block-referers`: who is refused on every host.

use super::registry::{Annotation, config_keys};
use super::value::{self, Networks};
use super::{Effect, Found, Read, Reader};
use crate::model::block::{Blocked, TextMatch};

config_keys! { "Refused everywhere";
    /// These sources get 403 on every host, before anything else. Where neither `use-forwarded-headers`, `enable-real-ip` nor
    /// `use-proxy-protocol` says who the client is, the kernel half drops their packets, and without it their connections
    /// are closed. Unlike in ingress-nginx `whitelist-source-range` does not lift this, and redirects are refused too.
    BLOCK_CIDRS: Networks = "block-cidrs", parse: value::networks, values: "networks or addresses, separated by commas",
    default: "", on_invalid: Warn, support: Differs;
    /// Requests with such a `User-Agent` get 403 on every host: the whole text (case does not count), or an expression after
    /// `~` (case counts) or `~*` (it does not).
    BLOCK_USER_AGENTS: Vec<Entry> = "block-user-agents", parse: entries,
    values: "texts or ~expressions, separated by commas", default: "", on_invalid: Warn, support: Same;
    /// Requests with such a `Referer` get 403 on every host, written as `block-user-agents`.
    BLOCK_REFERERS: Vec<Entry> = "block-referers", parse: entries, values: "texts or ~expressions, separated by commas",
    default: "", on_invalid: Warn, support: Same;
}

/// An entry of a list: what it matches, or the text of one that cannot be read.
type Entry = Result<TextMatch, String>;

pub(super) fn parse(reader: &mut Reader<'_>) -> Blocked {
    Blocked {
        sources: sources(reader),
        user_agents: texts(reader, &BLOCK_USER_AGENTS),
        referers: texts(reader, &BLOCK_REFERERS),
        is_client_hidden: false,
    }
}

fn texts(reader: &mut Reader<'_>, setting: &'static Annotation<Vec<Entry>>) -> Vec<TextMatch> {
    let Some(found) = reader.find(&setting.row) else { return Vec::new() };
    let entries = reader.parse(setting, &found).or(Vec::new());
    let mut matches = Vec::new();
    for entry in entries {
        match entry {
            Ok(readable) => matches.push(readable),
            Err(text) => unread(reader, &found, &text, "is not an expression that can be used"),
        }
    }
    matches
}

fn sources(reader: &mut Reader<'_>) -> Vec<ipnet::IpNet> {
    let Some(found) = reader.find(&BLOCK_CIDRS.row) else { return Vec::new() };
    let Read::Value(list) = reader.parse(&BLOCK_CIDRS, &found) else { return Vec::new() };
    for unreadable in &list.unreadable {
        unread(reader, &found, unreadable, "is neither a network nor an address");
    }
    for (written, network) in &list.masked {
        let message = format!("this entry has bits after the prefix; read as {network}; write that");
        reader.report(&Found { text: written, ..found.clone() }, Effect::Warn, message);
    }
    list.networks
}

fn unread(reader: &mut Reader<'_>, found: &Found<'_>, entry: &str, reason: &str) {
    let message = format!("this entry {reason}; it refuses nobody, and the others hold; correct it");
    reader.report(&Found { text: entry, ..found.clone() }, Effect::Warn, message);
}

/// Entries as nginx's `map` reads them; they may stand in quotes.
fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let bare = |entry: &'_ str| {
        let entry = entry.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| entry.strip_prefix(quote)?.strip_suffix(quote));
        quoted.unwrap_or(entry).to_owned()
    };
    let entries: Vec<Entry> =
        text.split(',').map(bare).filter(|entry| !entry.is_empty()).map(|entry| entry_of(&entry)).collect();
    if entries.is_empty() { Err("holds no entry".to_owned()) } else { Ok(entries) }
}

fn entry_of(text: &str) -> Entry {
    let (pattern, ignores_case) = match (text.strip_prefix("~*"), text.strip_prefix('~')) {
        (Some(pattern), _) => (pattern, true),
        (None, Some(pattern)) => (pattern, false),
        (None, None) => {
            // A backslash keeps a text from being an expression.
            let text = text.strip_prefix('\\').filter(|rest| rest.starts_with('~')).unwrap_or(text);
            return Ok(TextMatch::Exact(text.to_ascii_lowercase()));
        }
    };
    match regex::bytes::RegexBuilder::new(pattern).case_insensitive(ignores_case).build() {
        Ok(_) => Ok(TextMatch::Expression { pattern: pattern.to_owned(), ignores_case }),
        Err(_) => Err(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_those_of_a_map() {
        let expression = |pattern: &str, ignores_case| {
            Ok(TextMatch::Expression { pattern: pattern.to_owned(), ignores_case })
        };
        let exact = |text: &str| Ok(TextMatch::Exact(text.to_owned()));
        let read = entries("~*bot, ~Evil,curl/8.0 ,\"two words\",\\~x,~[,,").unwrap();
        assert_eq!(
            read,
            [
                expression("bot", true),
                expression("Evil", false),
                exact("curl/8.0"),
                exact("two words"),
                exact("~x"),
                Err("~[".to_owned())
            ]
        );
        assert!(entries(" , ").is_err());
    }
}
