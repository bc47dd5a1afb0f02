//! What holds for the whole proxy, as requests look it up.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use tracing::error;

use super::access_log::AccessLogging;
use super::block::Blocked;
use super::networks::Networks;
use crate::filter::compression::Compression;
use crate::filter::headers::HeaderChanges;
use crate::model::connections::Connections;
use crate::model::global::{self, FieldNames, ServerField};
use crate::model::stream::Streams;

/// Cluster-wide settings.
#[derive(Debug)]
pub struct Globals {
    /// Which proxies before us are believed.
    pub forwarded: Forwarding,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyHeaders,
    /// How what is not HTTP is carried.
    pub streams: Streams,
    /// Who is refused on every host.
    pub blocked: Blocked,
    /// Where requests of our own may go.
    pub subrequests: global::Subrequests,
    /// The longest gap between two reads of a client's body.
    pub client_body_gap: Duration,
    /// Rate limits are shared with other nodes.
    pub shares_limits: bool,
    /// Responses are compressed.
    pub compression: Option<Compression>,
    /// Header fields of every request and response.
    pub fields: Fields,
    /// Limits of the connections of clients.
    pub connections: Connections,
    /// What is logged of requests.
    pub access_log: AccessLogging,
}

impl Default for Globals {
    fn default() -> Self {
        Self::new(&global::Global::default())
    }
}

/// Header fields of every request and response.
#[derive(Debug)]
pub struct Fields {
    /// `Strict-Transport-Security` of hosts with TLS.
    pub hsts: Option<HeaderValue>,
    /// Changes before those of routes.
    pub changes: Option<HeaderChanges>,
    /// Which `Server` clients see.
    pub server: ServerField,
    /// Which names of a request's fields are taken.
    pub names: FieldNames,
    /// A request without an id goes upstream without one.
    pub omits_request_id: bool,
    /// `X-Original-URI` goes upstream.
    pub adds_original_uri: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self::new(&global::Fields::default())
    }
}

impl Fields {
    /// Whether a response quotes its request.
    pub fn quotes_request(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.quotes_request)
    }

    fn new(model: &global::Fields) -> Self {
        let global::Fields { hsts, changes, server, names, omits_request_id, adds_original_uri } = model;
        Self {
            hsts: hsts.as_ref().and_then(|text| HeaderValue::from_str(text).ok()),
            // Translation takes no name and no value that cannot be sent.
            changes: HeaderChanges::from_policy(changes).unwrap_or_else(|reason| {
                error!(%reason, "the cluster's header changes are left out");
                None
            }),
            server: *server,
            names: *names,
            omits_request_id: *omits_request_id,
            adds_original_uri: *adds_original_uri,
        }
    }
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

/// Whether and from whom PROXY headers are read.
#[derive(Debug)]
pub struct ProxyHeaders {
    /// On the listeners for HTTP.
    pub is_required: bool,
    /// Connections whose header is believed.
    pub trusted: Networks,
    /// How long a header may take.
    pub within: Duration,
}

impl Default for ProxyHeaders {
    fn default() -> Self {
        Self::new(&global::ProxyProtocol::default())
    }
}

impl ProxyHeaders {
    fn new(model: &global::ProxyProtocol) -> Self {
        let global::ProxyProtocol { is_required, trusted, within } = model;
        Self { is_required: *is_required, trusted: Networks::new(trusted), within: *within }
    }
}

impl Globals {
    /// From the model.
    pub fn new(model: &global::Global) -> Self {
        // Taken apart without `..`: a new setting does not compile until it stands here.
        let global::Global {
            forwarded,
            blocked,
            proxy_protocol,
            streams,
            // Part of the listeners' tables.
            tls: _,
            subrequests,
            fields,
            bodies,
            shared_limits,
            connections,
            access_log,
            // These three are the process's own.
            drain: _,
            bind_addresses: _,
            is_ipv4_only: _,
        } = model;
        Self {
            forwarded: Forwarding::new(forwarded),
            proxy_protocol: ProxyHeaders::new(proxy_protocol),
            streams: *streams,
            blocked: Blocked::new(blocked),
            subrequests: subrequests.clone(),
            client_body_gap: bodies.client_gap,
            shares_limits: shared_limits.is_some(),
            compression: Compression::new(bodies),
            fields: Fields::new(fields),
            connections: connections.clone(),
            access_log: AccessLogging::new(access_log),
        }
    }
}

impl Globals {
    /// How many connections an address may have open; `None`: any number, as a proxy before us must.
    pub fn most_connections_of(&self, address: IpAddr) -> Option<u32> {
        let most = self.connections.most_per_client?;
        let is_proxy = (self.forwarded.names_client && self.forwarded.trusted.contains(address))
            || (self.proxy_protocol.is_required && self.proxy_protocol.trusted.contains(address));
        (!is_proxy).then_some(most)
    }
}

/// The name of a configured header.
fn header(name: &str, default: &'static str) -> HeaderName {
    name.parse().unwrap_or(HeaderName::from_static(default))
}
