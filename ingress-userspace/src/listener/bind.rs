//! Binding. Every worker has a socket of its own per listener and address; all that belong to one listener and address
//! form one SO_REUSEPORT group, also with those of another process of the same user (an upgrade).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use crate::link::messages::{DATAGRAMS_V4, DATAGRAMS_V6, ListenPlan};
use crate::model::listener::Listener;

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 4096;
/// Free ports tried until one is free for both families.
const TRIES: usize = 16;

/// A socket for datagrams of one worker.
#[derive(Debug)]
pub struct BoundDatagrams {
    /// Name of the listener.
    pub listener: String,
    /// The worker that reads it.
    pub worker: u32,
    /// Where it is bound.
    pub address: SocketAddr,
    /// The socket, not blocking.
    pub socket: UdpSocket,
}

/// A listening socket of one worker.
#[derive(Debug)]
pub struct BoundSocket {
    /// Name of the listener.
    pub listener: String,
    /// The worker that accepts from it.
    pub worker: u32,
    /// Where it is bound.
    pub address: SocketAddr,
    /// The socket, not blocking.
    pub socket: TcpListener,
}

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// None of its addresses could be bound.
    #[error("cannot listen on {address} for listener {listener}{}", hint(.source))]
    Address {
        /// The listener.
        listener: String,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No port was free on both loopback addresses.
    #[error("no loopback port is free on both 127.0.0.1 and [::1] for listener {listener}")]
    NoPort {
        /// The listener.
        listener: String,
    },
    /// The plan names no address.
    #[error("there is no address to listen on for listener {listener}; give --bind-address")]
    NoAddress {
        /// The listener.
        listener: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program has the port: stop it or choose another port",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE (or net.ipv4.ip_unprivileged_port_start): choose a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "; the address is not one of this host: check --bind-address",
        _ => "",
    }
}

/// Binds one listener for all workers.
pub fn bind(listener: &Listener, plan: &ListenPlan, workers: u32) -> Result<Vec<BoundSocket>, BindError> {
    let name = &listener.name.0;
    match plan {
        ListenPlan::Ports { addresses } => {
            let mut port = listener.port;
            let mut sockets = Vec::new();
            let mut failed = None;
            for address in addresses {
                match group(name, SocketAddr::new(*address, port), workers) {
                    Ok(bound) => {
                        // With port 0 the first address chooses for all.
                        port = bound.first().map_or(port, |socket| socket.address.port());
                        sockets.extend(bound);
                    }
                    // A host without IPv6 is served over IPv4; everything else is a mistake to be told.
                    Err(error) if is_missing_family(*address, &error) => {
                        warn!(%address, listener = name, %error, "address family not available, not listened on");
                        failed = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            match failed {
                Some(error) if sockets.is_empty() => Err(error),
                _ if sockets.is_empty() => Err(BindError::NoAddress { listener: name.clone() }),
                _ => Ok(sockets),
            }
        }
        ListenPlan::Handover { group_ports } => {
            let port = group_ports.iter().find(|group| group.listener == *name).map_or(0, |group| group.port);
            match loopback_group(name, port, workers) {
                // A process of another user holds the group, or someone else has taken the port since. A group of its
                // own serves as well; only connections that wait when the other closes are not inherited.
                Err(BindError::Address { source, .. })
                    if port != 0 && source.kind() == io::ErrorKind::AddrInUse =>
                {
                    warn!(
                        listener = name,
                        port, "cannot join the sockets of the proxy before, opening a group apart"
                    );
                    loopback_group(name, 0, workers)
                }
                bound => bound,
            }
        }
    }
}

/// Binds a listener for datagrams for all workers. As with connections, all sockets of an address form one group: the
/// datagrams of a client stay with one worker. The port is the listener's in every mode, since answers leave from it.
pub fn bind_datagrams(
    listener: &Listener,
    plan: &ListenPlan,
    workers: u32,
) -> Result<Vec<BoundDatagrams>, BindError> {
    let name = &listener.name.0;
    let hidden = [DATAGRAMS_V4.into(), DATAGRAMS_V6.into()];
    let addresses = match plan {
        ListenPlan::Ports { addresses } => addresses.as_slice(),
        ListenPlan::Handover { .. } => &hidden,
    };
    let mut port = listener.port;
    let mut sockets = Vec::new();
    let mut failed = None;
    for address in addresses {
        for worker in 0..workers {
            let at = SocketAddr::new(*address, port);
            let error = |source| BindError::Address { listener: name.clone(), address: at, source };
            let bound = datagram_socket(at).and_then(|socket| Ok((socket.local_addr()?, socket)));
            match bound.map_err(error) {
                Ok((address, socket)) => {
                    port = address.port();
                    sockets.push(BoundDatagrams { listener: name.clone(), worker, address, socket });
                }
                Err(error) if is_missing_family(*address, &error) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
    }
    match failed {
        Some(error) if sockets.is_empty() => Err(error),
        _ if sockets.is_empty() => Err(BindError::NoAddress { listener: name.clone() }),
        _ => Ok(sockets),
    }
}

fn is_missing_family(address: IpAddr, error: &BindError) -> bool {
    let BindError::Address { source, .. } = error else { return false };
    (address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || address == IpAddr::V6(DATAGRAMS_V6))
        && matches!(source.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The hidden group that kernel programs hand connections to: the same loopback port in both families.
fn loopback_group(name: &str, port: u16, workers: u32) -> Result<Vec<BoundSocket>, BindError> {
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let tries = if port == 0 { TRIES } else { 1 };
    let mut has_v6 = true;
    for _ in 0..tries {
        let mut sockets = group(name, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), workers)?;
        let chosen = sockets.first().map_or(port, |socket| socket.address.port());
        match group(name, SocketAddr::new(v6, chosen), workers) {
            Ok(more) => sockets.extend(more),
            Err(BindError::Address { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && port == 0 =>
            {
                continue;
            }
            Err(BindError::Address { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
            {
                has_v6 = false;
            }
            Err(error) => return Err(error),
        }
        if !has_v6 {
            warn!(listener = name, "IPv6 is not available, only IPv4 is served");
        }
        return Ok(sockets);
    }
    Err(BindError::NoPort { listener: name.to_owned() })
}

fn group(name: &str, address: SocketAddr, workers: u32) -> Result<Vec<BoundSocket>, BindError> {
    let error = |source| BindError::Address { listener: name.to_owned(), address, source };
    let reserved = if address.port() == 0 { Some(reserve(address).map_err(error)?) } else { None };
    let at = match &reserved {
        Some(socket) => socket.local_addr().map_err(error)?.as_socket().unwrap_or(address),
        None => address,
    };
    let mut sockets = Vec::new();
    for worker in 0..workers {
        let socket = shared_socket(at, BACKLOG).map_err(error)?;
        sockets.push(BoundSocket { listener: name.to_owned(), worker, address: at, socket });
    }
    Ok(sockets)
}

/// A socket that does nothing but hold a free port until others are bound to it. They must name the port: of one that
/// took it from the kernel (port 0), Linux forgets the port when it closes, before what waits in it is moved.
pub fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = stream_socket(address)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn datagram_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        // Unlike IPv4, IPv6 sends only from addresses that an interface has, which a VIP is not.
        socket.set_freebind_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A TCP socket that listens, does not block, and shares its port with others of the same user.
pub fn shared_socket(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = stream_socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::messages::GroupPort;
    use crate::model::listener::{ListenerName, ListenerProtocol};

    fn listener(port: u16) -> Listener {
        Listener { name: ListenerName("http".into()), port, protocol: ListenerProtocol::Http }
    }

    #[test]
    fn any_free_port_is_the_same_for_all_workers_and_addresses() {
        let plan = ListenPlan::Ports {
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()],
        };
        let sockets = bind(&listener(0), &plan, 3).unwrap();
        assert_eq!(sockets.len(), 6);
        let port = sockets[0].address.port();
        assert!(port != 0 && sockets.iter().all(|socket| socket.address.port() == port));
        assert_eq!(sockets.iter().filter(|socket| socket.worker == 2).count(), 2);
    }

    #[test]
    fn a_later_process_joins_the_loopback_group() {
        let plan =
            |port| ListenPlan::Handover { group_ports: vec![GroupPort { listener: "http".into(), port }] };
        let first = bind(&listener(80), &plan(0), 2).unwrap();
        let port = first[0].address.port();
        assert_ne!(port, 80);
        let second = bind(&listener(80), &plan(port), 2).unwrap();
        assert!(
            second.iter().all(|socket| socket.address.port() == port && socket.address.ip().is_loopback())
        );
    }

    #[test]
    fn a_group_that_cannot_be_joined_is_replaced_by_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let plan = ListenPlan::Handover { group_ports: vec![GroupPort { listener: "http".into(), port }] };
        let sockets = bind(&listener(80), &plan, 2).unwrap();
        assert!(sockets.iter().all(|socket| socket.address.port() != port));
    }

    #[test]
    fn sockets_for_datagrams_that_are_handed_over_leave_the_addresses_of_the_node_alone() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let sockets =
            bind_datagrams(&listener(port), &ListenPlan::Handover { group_ports: vec![] }, 2).unwrap();
        let bound: Vec<_> = sockets.iter().map(|socket| (socket.worker, socket.address)).collect();
        let (v4, v6) = (SocketAddr::from((DATAGRAMS_V4, port)), SocketAddr::from((DATAGRAMS_V6, port)));
        assert_eq!(bound, [(0, v4), (1, v4), (0, v6), (1, v6)]);
    }

    #[test]
    fn a_port_in_use_is_named_with_a_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = ListenPlan::Ports { addresses: vec![Ipv4Addr::LOCALHOST.into()] };
        let error = bind(&listener(taken.local_addr().unwrap().port()), &plan, 1).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1") && error.contains("another program has the port"), "{error}");
    }
}
