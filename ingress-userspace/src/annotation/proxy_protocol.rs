//! The PROXY protocol on the ports of HTTP and HTTPS.

use std::time::Duration;

use super::forwarded::{PROXY_REAL_IP_CIDR, trusted};
use super::registry::config_keys;
use super::value::{self, time};
use super::{Effect, Reader};
use crate::model::global::ProxyProtocol;

config_keys! { "PROXY protocol";
    /// Every connection to the ports of HTTP and HTTPS begins with a PROXY header, version 1 or 2, which names the client; one
    /// without is closed. It is believed from `proxy-real-ip-cidr`, and a header that names port 443 means that the client
    /// speaks HTTPS. Unlike in ingress-nginx a header from elsewhere changes the scheme no more than the address.
    USE_PROXY_PROTOCOL: bool = "use-proxy-protocol", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Differs;
    /// How long the header may take. Also of `tcp-services` that read one.
    PROXY_PROTOCOL_HEADER_TIMEOUT: Duration = "proxy-protocol-header-timeout", parse: time::span,
    values: "a time such as 5s", default: "5s", on_invalid: Warn, support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> ProxyProtocol {
    let is_required = reader.value(&USE_PROXY_PROTOCOL);
    let trusted = trusted(reader);
    if is_required
        && reader.find(&PROXY_REAL_IP_CIDR.row).is_none()
        && let Some(found) = reader.find(&USE_PROXY_PROTOCOL.row)
    {
        let message = "every connection is believed about its client, since proxy-real-ip-cidr is not set; name the networks of \
                       your load balancers there";
        reader.report(&found, Effect::Warn, message);
    }
    ProxyProtocol { is_required, trusted, within: reader.value(&PROXY_PROTOCOL_HEADER_TIMEOUT) }
}
