//! The PROXY header, version 1, that an endpoint gets.

use std::net::{IpAddr, SocketAddr};

/// The header for a client and the address that it connected to.
pub fn version_1(client: SocketAddr, connected_to: SocketAddr) -> String {
    let pair = (client.ip().to_canonical(), connected_to.ip().to_canonical());
    let family = match pair {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        // One line cannot hold addresses of both families.
        _ => return "PROXY UNKNOWN\r\n".to_owned(),
    };
    format!("PROXY {family} {} {} {} {}\r\n", pair.0, pair.1, client.port(), connected_to.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_line() {
        let rows = [
            ("198.18.0.1:1234", "198.18.0.2:443", "PROXY TCP4 198.18.0.1 198.18.0.2 1234 443\r\n"),
            ("[::ffff:198.18.0.1]:1", "198.18.0.2:2", "PROXY TCP4 198.18.0.1 198.18.0.2 1 2\r\n"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2", "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
            ("[2001:db8::1]:1", "198.18.0.2:2", "PROXY UNKNOWN\r\n"),
        ];
        for (client, connected_to, expected) in rows {
            assert_eq!(version_1(client.parse().unwrap(), connected_to.parse().unwrap()), expected);
        }
    }
}
