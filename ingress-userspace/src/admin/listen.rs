//! The sockets for health and metrics.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;
use tracing::info;

use super::{AdminError, Endpoints};
use crate::listener::bind::shared_socket;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens on every address, on one port. One that the kernel chose for the first address may be taken on the next:
/// then it chooses again.
pub(super) fn listen(endpoints: &Endpoints) -> Result<Vec<TcpListener>, AdminError> {
    const TRIES: usize = 8;
    let mut outcome = listen_once(endpoints);
    for _ in 1..TRIES {
        match &outcome {
            Err(AdminError::Port { source, .. })
                if endpoints.port == 0 && source.kind() == io::ErrorKind::AddrInUse =>
            {
                outcome = listen_once(endpoints);
            }
            _ => break,
        }
    }
    outcome
}

fn listen_once(endpoints: &Endpoints) -> Result<Vec<TcpListener>, AdminError> {
    let mut tcp = Vec::new();
    let mut port = endpoints.port;
    let everywhere = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let is_everywhere = endpoints.addresses.is_empty();
    let addresses = if is_everywhere { &everywhere[..] } else { &endpoints.addresses };
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match shared_socket(address, BACKLOG).and_then(TcpListener::from_std) {
            Ok(listener) => {
                port = listener.local_addr().unwrap_or(address).port();
                tcp.push(listener);
            }
            Err(source)
                if is_everywhere
                    && address.is_ipv6()
                    && matches!(source.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {}
            Err(source) => return Err(AdminError::Port { address, source }),
        }
    }
    for listener in &tcp {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "admin endpoint listening");
        }
    }
    Ok(tcp)
}
