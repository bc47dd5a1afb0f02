//! `whitelist-source-range` and its twin `allowlist-source-range`.

use super::config_map::Defaults;
use super::registry::annotations;
use super::value::{self, Networks};
use super::{Effect, Finding, FindingKind, Read, Reader};
use crate::model::policy::AllowList;

annotations! { "Allowed sources";
    /// Only these sources are let in, others get 403. Replaces the cluster's list. Checked in the proxy, by the address that
    /// the connection comes from. If no entry can be read the paths answer 503; an entry that cannot be read
    /// beside others lets nobody in (ingress-nginx answers 503 then, too), and one with bits after the prefix means its
    /// network. `allowlist-source-range` is the same setting; if both are given, `whitelist-source-range` counts.
    ALLOW_LIST: Networks = "whitelist-source-range", parse: value::networks,
    values: "networks or addresses, separated by commas, such as 198.18.0.0/15,2001:db8::1", default: "",
    on_invalid: Deny, scope: "path", twins: ["allowlist-source-range"];
}

pub(super) fn parse(reader: &mut Reader<'_>, defaults: &Defaults) -> Option<AllowList> {
    let twin = ALLOW_LIST.row.twins.first().copied().unwrap_or_default();
    let (main, other) = (reader.text(ALLOW_LIST.row.key), reader.text(twin));
    let (key, text) = match (main, other) {
        (Some((main, text)), Some((_, other_text))) => {
            if text.trim() != other_text.trim() {
                reader.note(
                    twin,
                    Effect::Warn,
                    format!("{main} is given too and counts; remove one of them"),
                );
            }
            (main, text)
        }
        (Some(found), None) | (None, Some(found)) => found,
        (None, None) => return defaults.allow_list.clone(),
    };
    match read(&key, text, &mut reader.findings) {
        Read::Value(list) => Some(list),
        // The finding denies the paths.
        Read::Absent | Read::Invalid => None,
    }
}

/// Reads a list and writes down what is wrong with single entries.
pub(super) fn read(key: &str, text: &str, findings: &mut Vec<Finding>) -> Read<AllowList> {
    let found = match value::networks(text) {
        Ok(found) => found,
        Err(reason) => {
            findings.push(ALLOW_LIST.row.invalid(key.to_owned(), text, &reason));
            return Read::Invalid;
        }
    };
    let entry = |entry: String, message: String| Finding {
        key: key.to_owned(),
        value: entry,
        kind: FindingKind::Invalid,
        effect: Effect::Warn,
        message,
    };
    for unreadable in found.unreadable {
        let message =
            "this entry is neither a network nor an address; it lets nobody in; correct or remove it";
        findings.push(entry(unreadable, message.to_owned()));
    }
    for (written, network) in found.masked {
        let message = format!("this entry has bits after the prefix; read as {network}; write that");
        findings.push(entry(written, message));
    }
    Read::Value(AllowList { sources: found.networks })
}
