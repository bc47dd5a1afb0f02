//! Who names the client: the connection, or a trusted proxy before us by its headers.

use ipnet::IpNet;

use super::registry::config_keys;
use super::value::{self, Networks};
use super::{Effect, Reader, allow_list};
use crate::model::global::Forwarded;

config_keys! { "Proxies before this one";
    /// Believe the `X-Forwarded-*` headers of a connection from `proxy-real-ip-cidr`: client address, host, port, scheme.
    /// Otherwise they are replaced by what we see ourselves, and survive as `X-Original-Forwarded-*`.
    USE_FORWARDED_HEADERS: bool = "use-forwarded-headers", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// Read the client address from the forwarded header of a trusted proxy, without believing its other headers.
    ENABLE_REAL_IP: bool = "enable-real-ip", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// The header that names the client.
    FORWARDED_FOR_HEADER: String = "forwarded-for-header", parse: value::header_name, values: "the name of a header",
    default: "X-Forwarded-For", on_invalid: Warn, support: Same;
    /// The header that names the host which the client asked for.
    FORWARDED_HOST_HEADER: String = "forwarded-host-header", parse: value::header_name, values: "the name of a header",
    default: "X-Forwarded-Host", on_invalid: Warn, support: Same;
    /// Append the address of the connection to the `X-Forwarded-For` that a trusted proxy sent, instead of sending the
    /// client's alone.
    COMPUTE_FULL_FORWARDED_FOR: bool = "compute-full-forwarded-for", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// Whose headers are believed. As in ingress-nginx everybody's, once `use-forwarded-headers` is on: name your proxies.
    /// With a list of which nothing can be read nobody is believed.
    PROXY_REAL_IP_CIDR: Networks = "proxy-real-ip-cidr", parse: value::networks,
    values: "networks or addresses, separated by commas", default: "0.0.0.0/0,::/0", on_invalid: Warn, support: Same;
}

/// Whose word counts about the client. Of a list of which nothing can be read that is nobody's.
pub(super) fn trusted(reader: &mut Reader<'_>) -> Vec<IpNet> {
    let Some(found) = reader.find(&PROXY_REAL_IP_CIDR.row) else {
        return reader.configured(&PROXY_REAL_IP_CIDR).networks;
    };
    match value::networks(found.text.trim()) {
        Ok(list) => allow_list::entries_with(reader, &found, list, "nobody is believed because of it"),
        Err(reason) => {
            let row = &PROXY_REAL_IP_CIDR.row;
            let message = format!("{reason}; nobody is believed about the client; write {}", row.values);
            reader.report(&found, Effect::Warn, message);
            Vec::new()
        }
    }
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Forwarded {
    let is_believed = reader.value(&USE_FORWARDED_HEADERS);
    let names_client = reader.value(&ENABLE_REAL_IP) || is_believed;
    if names_client
        && reader.find(&PROXY_REAL_IP_CIDR.row).is_none()
        && let Some(found) = reader.find(&USE_FORWARDED_HEADERS.row)
    {
        let message = "every client is believed about its own address, since proxy-real-ip-cidr is not set; name \
                       the networks of your proxies there";
        reader.report(&found, Effect::Warn, message);
    }
    let trusted = trusted(reader);
    Forwarded {
        is_believed,
        names_client,
        trusted,
        for_header: reader.value(&FORWARDED_FOR_HEADER).to_ascii_lowercase(),
        host_header: reader.value(&FORWARDED_HOST_HEADER).to_ascii_lowercase(),
        is_appended: reader.value(&COMPUTE_FULL_FORWARDED_FOR),
    }
}
