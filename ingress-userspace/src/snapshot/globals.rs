//! What holds for the whole proxy, as requests look it up.

use http::header::HeaderName;

use super::networks::Networks;
use crate::model::global;
use crate::proxy::forwarded::header;

/// Cluster-wide settings.
#[derive(Debug, Default)]
pub struct Globals {
    /// Which proxies before us are believed.
    pub forwarded: Forwarding,
    /// Where requests of our own may go.
    pub subrequests: global::Subrequests,
}

/// Whether and from whom `X-Forwarded-*` is believed.
#[derive(Debug)]
pub struct Forwarding {
    /// Host, port and scheme as well as the address.
    pub is_believed: bool,
    /// The address of the client.
    pub names_client: bool,
    /// Connections from these networks only.
    pub trusted: Networks,
    /// The header that names the client.
    pub for_header: HeaderName,
    /// The header that names the host.
    pub host_header: HeaderName,
    /// What goes upstream is the received list with the peer appended.
    pub is_appended: bool,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self::new(&global::Forwarded::default())
    }
}

impl Forwarding {
    fn new(model: &global::Forwarded) -> Self {
        let global::Forwarded { is_believed, names_client, trusted, for_header, host_header, is_appended } =
            model;
        Self {
            is_believed: *is_believed,
            names_client: *names_client,
            trusted: Networks::new(trusted),
            for_header: header(for_header, "x-forwarded-for"),
            host_header: header(host_header, "x-forwarded-host"),
            is_appended: *is_appended,
        }
    }
}

impl Globals {
    /// From the model.
    pub fn new(model: &global::Global) -> Self {
        // Taken apart without `..`: a new setting does not compile until it stands here.
        let global::Global { forwarded, tls: _, subrequests } = model;
        Self { forwarded: Forwarding::new(forwarded), subrequests: subrequests.clone() }
    }
}
