//! What holds for the whole proxy and not for one route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::block::Blocked;
use super::bodies::Bodies;
use super::connections::Connections;
use super::log::AccessLog;
use super::policy::headers::Headers;
use super::shared_limits::SharedLimits;
use super::stream::Streams;
use super::tls::Tls;

/// What `Strict-Transport-Security` says unless configured.
pub const HSTS: &str = "max-age=31536000; includeSubDomains";

/// Cluster-wide settings of the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// Which proxies before us are believed about the client.
    pub forwarded: Forwarded,
    /// Whether connections begin with a PROXY header, and whose is believed.
    pub proxy_protocol: ProxyProtocol,
    /// How what is not HTTP is carried.
    pub streams: Streams,
    /// Who is refused on every host.
    pub blocked: Blocked,
    /// How TLS is spoken with clients.
    pub tls: Tls,
    /// Where requests of the proxy's own may go.
    pub subrequests: Subrequests,
    /// Header fields of every request and response.
    pub fields: Fields,
    /// How bodies are handled.
    pub bodies: Bodies,
    /// Limits of the connections of clients.
    pub connections: Connections,
    /// What is logged of requests.
    pub access_log: AccessLog,
    /// How long open connections get to finish when the process ends; `None`: as it was started.
    pub drain: Option<Duration>,
    /// Addresses of the node that are served; empty: as the process was started.
    pub bind_addresses: Vec<IpAddr>,
    /// IPv6 is not served.
    pub is_ipv4_only: bool,
    /// Where limits are shared with other nodes.
    pub shared_limits: Option<SharedLimits>,
}

/// Header fields of every request and response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// `Strict-Transport-Security` of answers over TLS, for hosts that have TLS.
    pub hsts: Option<String>,
    /// Changes before those of routes; the response's hold for answers without a route, too.
    pub changes: Headers,
    /// Which `Server` clients see.
    pub server: ServerField,
    /// Which names of a request's fields are taken.
    pub names: FieldNames,
    /// A request without `X-Request-ID` goes upstream without one.
    pub omits_request_id: bool,
    /// `X-Original-URI` goes upstream.
    pub adds_original_uri: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            hsts: Some(HSTS.to_owned()),
            changes: Headers::default(),
            server: ServerField::default(),
            names: FieldNames::default(),
            omits_request_id: false,
            adds_original_uri: false,
        }
    }
}

/// Which `Server` clients see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerField {
    /// None.
    #[default]
    Nothing,
    /// The backend's.
    Backend,
    /// Our name and version.
    Own,
}

/// Fields with other names are dropped, as if the client had not sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldNames {
    /// Letters, digits and `-`.
    #[default]
    Plain,
    /// `_` as well.
    Underscores,
    /// Every name that HTTP allows, but for `_`.
    AnyWithoutUnderscores,
    /// Every name that HTTP allows.
    Any,
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

/// Whether and from whom PROXY headers are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyProtocol {
    /// On the listeners for HTTP: a connection without a header is closed.
    pub is_required: bool,
    /// Connections whose header is believed.
    pub trusted: Vec<IpNet>,
    /// How long a header may take.
    pub within: Duration,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self { is_required: false, trusted: everyone(), within: Duration::from_secs(5) }
    }
}

/// Both families whole.
fn everyone() -> Vec<IpNet> {
    let whole = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    whole.into_iter().filter_map(|address| IpNet::new(address, 0).ok()).collect()
}

/// Where requests of the proxy's own (for a verdict, or with a copy) may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subrequests {
    /// Not to loopback, link-local and API server addresses, nor to those of the node, which the proxy knows.
    pub forbids_local: bool,
    /// Addresses of the API server.
    pub api_servers: Vec<IpAddr>,
    /// Names are looked up for IPv4 addresses alone.
    pub is_ipv4_only: bool,
}

impl Subrequests {
    /// Whether an address may not be asked.
    pub fn forbids(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        self.forbids_local
            && (address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || is_link_local
                || self.api_servers.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_forbidden_only_where_that_was_asked_for() {
        let api_servers = vec!["198.18.0.1".parse().unwrap()];
        let mut subrequests = Subrequests { forbids_local: true, api_servers, is_ipv4_only: false };
        for local in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "198.18.0.1",
        ] {
            assert!(subrequests.forbids(local.parse().unwrap()), "{local}");
        }
        for other in ["198.18.0.2", "203.0.113.7", "2001:db8::1"] {
            assert!(!subrequests.forbids(other.parse().unwrap()), "{other}");
        }
        subrequests.forbids_local = false;
        assert!(!subrequests.forbids("127.0.0.1".parse().unwrap()));
    }
}
