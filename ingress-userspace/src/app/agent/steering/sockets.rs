//! The sockets that probes of other nodes leave by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ingress_common::tunnel::PORT;
use tracing::warn;

/// One per family, where there can be one.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) v4: Option<UdpSocket>,
    pub(super) v6: Option<UdpSocket>,
}

impl Sockets {
    /// Bound to the tunnel's port: answers come back to it, and are taken by the program before they reach the socket.
    pub(super) fn open() -> Self {
        let open = |address: IpAddr| {
            let open = || {
                let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
                let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
                socket.set_nonblocking(true)?;
                // Another agent may be ending beside this one.
                socket.set_reuse_port(true)?;
                if address.is_ipv6() {
                    socket.set_only_v6(true)?;
                }
                socket.bind(&SocketAddr::new(address, PORT).into())?;
                Ok::<_, std::io::Error>(UdpSocket::from(socket))
            };
            open()
                .inspect_err(|error| warn!(%address, port = PORT, %error, "nodes of this family cannot be probed; free the port"))
                .ok()
        };
        Self { v4: open(Ipv4Addr::UNSPECIFIED.into()), v6: open(Ipv6Addr::UNSPECIFIED.into()) }
    }
}
