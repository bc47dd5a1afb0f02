//! `allowlist-source-range` and its twin `whitelist-source-range`.

use ipnet::IpNet;

use super::registry::annotations;
use super::value::{self, Networks};
use super::{Effect, Found, Read, Reader};
use crate::model::policy::AllowList;

annotations! { "Allowed sources";
    /// Only these sources are let in, others get 403. Replaces the cluster's list. Checked in the proxy, by the address that
    /// the connection comes from. If no entry can be read the paths answer 503; an entry that cannot be read
    /// beside others lets nobody in (ingress-nginx answers 503 then, too), and one with bits after the prefix means its
    /// network. `whitelist-source-range` is the same setting; if both are given, `allowlist-source-range` counts.
    ALLOW_LIST: Networks = "allowlist-source-range", parse: value::networks,
    values: "networks or addresses, separated by commas, such as 198.18.0.0/15,2001:db8::1", default: "",
    on_invalid: Deny, scope: "path", twins: ["whitelist-source-range"], in: Both, support: Differs;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<AllowList> {
    let found = reader.find(&ALLOW_LIST.row)?;
    match reader.parse(&ALLOW_LIST, &found) {
        Read::Value(list) => Some(AllowList { sources: entries(reader, &found, list) }),
        // The finding denies the paths.
        Read::Absent | Read::Invalid => None,
    }
}

/// The networks of a list; writes down what is wrong with single entries.
pub(super) fn entries(reader: &mut Reader<'_>, found: &Found<'_>, list: Networks) -> Vec<IpNet> {
    entries_with(reader, found, list, "it lets nobody in")
}

/// The same, where an entry that cannot be read has another consequence.
pub(super) fn entries_with(
    reader: &mut Reader<'_>,
    found: &Found<'_>,
    list: Networks,
    consequence: &str,
) -> Vec<IpNet> {
    for unreadable in &list.unreadable {
        let message =
            format!("this entry is neither a network nor an address; {consequence}; correct or remove it");
        reader.report(&Found { text: unreadable, ..found.clone() }, Effect::Warn, message);
    }
    for (written, network) in &list.masked {
        let message = format!("this entry has bits after the prefix; read as {network}; write that");
        reader.report(&Found { text: written, ..found.clone() }, Effect::Warn, message);
    }
    list.networks
}
