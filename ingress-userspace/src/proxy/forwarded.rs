//! `X-Forwarded-*` of proxies before us: who the client is when a trusted one says so, and what goes upstream.
//!
//! As nginx's `real_ip_recursive on`: the list is read from its end, trusted addresses are passed over, and the first other
//! one is the client. From a connection that is not trusted nothing is believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;

use super::context::{Peer, Scheme};
use super::forward::{X_FORWARDED_PORT, X_FORWARDED_PROTO};
use super::head::{Headers, HostName};
use crate::snapshot::globals::Forwarding;

/// Who asks, when that differs from what the connection shows.
pub fn peer(forwarding: &Forwarding, seen: &Peer, headers: &Headers) -> Option<Peer> {
    if !forwarding.names_client || !forwarding.trusted.contains(seen.connection) {
        return None;
    }
    let mut peer = seen.clone();
    if let Some(client) = client(forwarding, headers) {
        peer.client = client.to_canonical();
        peer.client_value = HeaderValue::try_from(peer.client.to_string()).ok()?;
    }
    if forwarding.is_believed {
        match headers.text(&X_FORWARDED_PROTO).map(first) {
            Some(text) if text.eq_ignore_ascii_case("https") => peer.scheme = Scheme::Https,
            Some(text) if text.eq_ignore_ascii_case("http") => peer.scheme = Scheme::Http,
            _ => {}
        }
        if let Some(port) = headers.text(&X_FORWARDED_PORT).and_then(|text| first(text).parse::<u16>().ok()) {
            peer.port_value = HeaderValue::from(port);
        }
        let host = headers.text(&forwarding.host_header).map(first).and_then(|text| text.parse().ok());
        peer.host = host.filter(|host: &HeaderValue| HostName::parse(host.clone()).is_some());
    }
    Some(peer)
}

/// What goes upstream as `X-Forwarded-For`; `received` is the list that came.
pub fn chain(forwarding: &Forwarding, peer: &Peer, received: Option<&HeaderValue>) -> HeaderValue {
    let is_trusted = forwarding.names_client && forwarding.trusted.contains(peer.connection);
    let list = received.filter(|_| is_trusted && forwarding.is_appended);
    let joined = list.and_then(|list| {
        let text = list.to_str().ok().filter(|text| !text.trim().is_empty())?;
        HeaderValue::try_from(format!("{text}, {}", peer.connection)).ok()
    });
    joined.unwrap_or_else(|| peer.client_value.clone())
}

fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

fn client(forwarding: &Forwarding, headers: &Headers) -> Option<IpAddr> {
    let mut found = None;
    let lines: Vec<&str> =
        headers.all(&forwarding.for_header).filter_map(|value| value.to_str().ok()).collect();
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = address(entry.trim()) else { break };
        found = Some(address);
        if !forwarding.trusted.contains(address) {
            break;
        }
    }
    found
}

/// An address, with or without port.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::snapshot::networks::Networks;

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let forwarding = Forwarding {
            names_client: true,
            trusted: Networks::new(&["198.18.0.0/16".parse().unwrap()]),
            ..Forwarding::default()
        };
        for (lines, expected) in [
            (&["203.0.113.7"][..], Some("203.0.113.7")),
            (&["10.9.9.9, 203.0.113.7, 198.18.0.9"], Some("203.0.113.7")),
            (&["10.9.9.9, 203.0.113.7", "198.18.0.9"], Some("203.0.113.7")),
            (&["198.18.0.3, 198.18.0.9"], Some("198.18.0.3")),
            (&["[2001:db8::1]:443"], Some("2001:db8::1")),
            (&["evil, 198.18.0.9"], Some("198.18.0.9")),
            (&["evil"], None),
            (&[], None),
        ] {
            let mut map = HeaderMap::new();
            for line in lines {
                map.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            let found = client(&forwarding, &Headers::from_engine(map)).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{lines:?}");
        }
    }
}
