//! What holds for the whole proxy and not for one route.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::tls::Tls;

/// Cluster-wide settings of the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// Which proxies before us are believed about the client.
    pub forwarded: Forwarded,
    /// How TLS is spoken with clients.
    pub tls: Tls,
}

/// Whether and from whom `X-Forwarded-*` is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// Host, port and scheme as well as the address.
    pub is_believed: bool,
    /// The address of the client.
    pub names_client: bool,
    /// Connections from these networks only.
    pub trusted: Vec<IpNet>,
    /// The header that names the client, lower case.
    pub for_header: String,
    /// The header that names the host, lower case.
    pub host_header: String,
    /// What goes upstream is the received list with the peer appended.
    pub is_appended: bool,
}
