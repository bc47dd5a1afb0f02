//! `denylist-source-range`.

use ipnet::IpNet;

use super::registry::annotations;
use super::value::{self, Networks};
use super::{Read, Reader, allow_list};

annotations! { "Denied sources";
    /// These sources get 403, whatever `whitelist-source-range` says. Replaces the cluster's list. If an entry cannot be read the
    /// paths answer 503: it may be the one that was meant to keep somebody out.
    DENY_LIST: Networks = "denylist-source-range", parse: value::networks,
    values: "networks or addresses, separated by commas, such as 198.18.0.0/15,2001:db8::1", default: "",
    on_invalid: Deny, scope: "path", twins: [], in: Both, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Vec<IpNet>> {
    let found = reader.find(&DENY_LIST.row)?;
    let Read::Value(list) = reader.parse(&DENY_LIST, &found) else {
        // The finding denies the paths.
        return None;
    };
    if let Some(unreadable) = list.unreadable.first() {
        let reason = format!("holds {unreadable}, which is neither a network nor an address");
        reader.invalid(&DENY_LIST.row, &found, &reason);
        return None;
    }
    Some(allow_list::entries(reader, &found, list))
}
