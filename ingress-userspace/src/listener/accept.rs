//! The accept loop of one socket, and a connection's way to its engine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ingress_common::flow::addr_of;
use ingress_common::source::limited_source;
use rustix::net::SocketFlags;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::client_hello::{self, Hello};
use super::peek::{Look, peek};
use super::proxy_protocol;
use crate::l4::session::{Carrier, Ends, NO_HEADER, Session};
use crate::l4::tcp::{self, Introduce};
use crate::proxy::connection;
use crate::proxy::context::{ConnectionInfo, Scheme};
use crate::proxy::stream::{ClientStream, Protocol, Transport};
use crate::proxy::worker::{Phase, Worker};
use crate::snapshot::edge::Enforce;
use crate::snapshot::globals::Globals;
use crate::snapshot::in_flight::Held;
use crate::tls::client_certificate::Judge;
use crate::tls::identity::TlsInfo;
use crate::tls::server::HostTls;

/// A handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// In a PROXY header: the client speaks HTTPS, which the load balancer ends.
const HTTPS: u16 = 443;
/// The fatal alert `unrecognized_name` (RFC 6066, section 3), as nginx's `ssl_reject_handshake` sends it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// Why a connection is closed beyond the limit of open ones, in metrics.
const TOO_MANY: &str = "too_many_connections";
/// The same beyond the limit of one client.
const TOO_MANY_OF_CLIENT: &str = "too_many_connections_of_client";
/// Pause after an accept that failed for want of file descriptors or memory: trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks for connections that came without a sound: a socket inherits those that wait in one of its group that
/// closes, and older kernels do not wake it then.
const LOOK: Duration = Duration::from_secs(1);

/// How the bytes of connections are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// As HTTP.
    Http,
    /// As TLS, then HTTP.
    Tls,
    /// Not at all: they go to a backend as they are.
    Nothing,
}

/// A socket and how its connections are read.
#[derive(Debug)]
pub struct Listening {
    /// Name of the listener.
    pub listener: String,
    /// The socket.
    pub socket: std::net::TcpListener,
    /// How they are read.
    pub reads: Reads,
    /// Which part of the EdgePolicies is enforced here.
    pub enforce: Enforce,
}

/// Accepts until the worker stops; then the socket is closed.
pub async fn accept(worker: Rc<Worker>, listening: Listening) -> io::Result<()> {
    let socket = TcpListener::from_std(listening.socket)?;
    let listener: Rc<str> = listening.listener.into();
    let mut phase = worker.phase.clone();
    let mut is_failing = false;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Stopped) => return Ok(()),
            accepted = socket.accept() => accepted,
            _ = look.tick() => match inherited(&socket) {
                Some(accepted) => {
                    // There may be more.
                    look.reset_immediately();
                    accepted
                }
                None => continue,
            },
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                worker.counters.accept_errors.add(1);
                if is_of_one_connection(&error) {
                    debug!(%error, "connection was gone before it was accepted");
                } else {
                    if !is_failing {
                        // Once per outage; the counter has every failure.
                        warn!(%listener, %error, "accept failed, pausing");
                        is_failing = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        is_failing = false;
        worker.counters.accepted.add(1);
        let Ok(local) = stream.local_addr() else { continue };
        debug!(%listener, %peer, "connection accepted");
        let admitted = worker.snapshot.with(|snapshot| {
            let is_full =
                snapshot.globals.connections.most.is_some_and(|most| worker.counters.open.value() >= most);
            if is_full {
                return Err(TOO_MANY);
            }
            if let Some(refusal) = snapshot.edge.refuses(peer, local, listening.enforce) {
                worker.counters.count_denied(refusal);
                return Err(refusal.reason.name());
            }
            place_of(&worker, &snapshot.globals, peer.ip().to_canonical())
        });
        let place = match admitted {
            Ok(place) => place,
            Err(reason) => {
                worker.counters.refused(reason);
                // Reset, not closed: nothing of a refused client stays behind.
                let _ = stream.set_zero_linger();
                continue;
            }
        };
        let (worker, listener) = (Rc::clone(&worker), Rc::clone(&listener));
        tokio::task::spawn_local(async move {
            let _open = Open::count(&worker);
            let ends = Ends { client: peer, connected_to: local };
            serve(&worker, listener, listening.reads, stream, ends, place).await;
        });
    }
}

/// A connection that waits although nobody said so.
fn inherited(socket: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match rustix::net::accept_with(socket, flags) {
        Ok(accepted) => {
            let stream = TcpStream::from_std(accepted.into());
            Some(
                stream
                    .and_then(|stream| Ok((stream.peer_addr()?, stream)))
                    .map(|(peer, stream)| (stream, peer)),
            )
        }
        Err(rustix::io::Errno::WOULDBLOCK) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// The place of a connection among those of its client, where they are counted; the error says why it has none.
fn place_of(worker: &Worker, globals: &Globals, client: IpAddr) -> Result<Option<Held>, &'static str> {
    let Some(most) = globals.most_connections_of(client) else { return Ok(None) };
    let place = worker.per_client.enter("", limited_source(&addr_of(client)), most);
    place.map(Some).ok_or(TOO_MANY_OF_CLIENT)
}

/// Counts an open connection for as long as it lives.
struct Open(Rc<Worker>);

impl Open {
    fn count(worker: &Rc<Worker>) -> Self {
        worker.counters.open.add(1);
        worker.loads.opened(worker.index);
        Self(Rc::clone(worker))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.open.sub(1);
        self.0.loads.closed(self.0.index);
    }
}

async fn serve(
    worker: &Rc<Worker>,
    listener: Rc<str>,
    reads: Reads,
    stream: TcpStream,
    direct: Ends,
    place: Option<Held>,
) {
    // Only latency would suffer.
    let _ = stream.set_nodelay(true);
    let peer = direct.client;
    let told = match introduction(worker, &listener, &stream, peer).await {
        Ok(told) => told,
        Err(error) => {
            worker.counters.refused("proxy_header");
            if reads == Reads::Nothing {
                Session::begin(worker, Carrier::Tcp, direct, None).failed(NO_HEADER);
            }
            debug!(%peer, %error, "connection closed for want of a PROXY header");
            return;
        }
    };
    let snapshot = worker.snapshot.pin();
    if reads == Reads::Nothing {
        let target = snapshot.listener(&listener).and_then(|table| table.stream.clone());
        drop(snapshot);
        if let Some(target) = target {
            let introduce = if target.sends_proxy_protocol { Introduce::ByHeader } else { Introduce::No };
            let session = Session::begin(worker, Carrier::Tcp, direct, told).to(&target.backend.name);
            tcp::carry(&session, &target.backend, stream, introduce).await;
        }
        return;
    }
    let names = snapshot.listener(&listener).map(|table| Arc::clone(&table.passthrough));
    drop(snapshot);
    if let Some(names) = names.filter(|names| !names.is_empty()) {
        match timeout(HANDSHAKE, server_name(&stream)).await {
            Ok(Ok(Some(name))) => {
                if let Some(backend) = names.backend(&name) {
                    let session = Session::begin(worker, Carrier::Tls, direct, told);
                    let session = session.to(&backend.name).for_name(name);
                    tcp::carry(&session, backend, stream, Introduce::No).await;
                    return;
                }
            }
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => {
                worker.counters.handshakes_failed.add(1);
                debug!(%peer, "no ClientHello");
                return;
            }
        }
    }
    let is_tls = reads == Reads::Tls;
    let scheme = if is_tls { Scheme::Https } else { Scheme::Http };
    let mut connection = ConnectionInfo::new(peer, direct.connected_to, Rc::clone(&listener), scheme);
    connection.place = place;
    if let Some(Ends { client, connected_to }) = told {
        // A load balancer that ends TLS itself.
        let scheme = if connected_to.port() == HTTPS { Scheme::Https } else { scheme };
        connection.speaks_for(client, connected_to, scheme);
    }
    let reading = Arc::clone(&connection.reading);
    let (stream, protocol) = match is_tls {
        true => {
            let handshake = timeout(HANDSHAKE, handshake(worker, &listener, stream)).await;
            let Ok(Ok((stream, judge))) = handshake else {
                worker.counters.handshakes_failed.add(1);
                debug!(%peer, "TLS handshake failed");
                return;
            };
            worker.counters.handshakes.add(1);
            connection.tls = Some(TlsInfo::new(stream.get_ref().1, judge.as_ref()));
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
            (ClientStream::new(Transport::Tls(Box::new(stream)), reading), protocol)
        }
        false => {
            let mut stream = ClientStream::new(Transport::Plain(stream), reading);
            let mut phase = worker.phase.clone();
            let head_time = worker.snapshot.with(|snapshot| snapshot.globals.connections.head_time);
            let detected = tokio::select! {
                detected = timeout(head_time, stream.detect()) => detected,
                _ = phase.wait_for(|phase| *phase >= Phase::Stopped) => return,
            };
            match detected {
                Ok(Ok(Some(protocol))) => (stream, protocol),
                _ => return,
            }
        }
    };
    connection::serve(worker, Rc::new(connection), stream, protocol).await;
}

/// What a PROXY header says, where one must be; `None`: nothing, or it is not believed.
async fn introduction(
    worker: &Worker,
    listener: &str,
    stream: &TcpStream,
    peer: SocketAddr,
) -> io::Result<Option<Ends>> {
    let (is_required, is_trusted, within) = worker.snapshot.with(|snapshot| {
        let headers = &snapshot.globals.proxy_protocol;
        let target = snapshot.listener(listener).and_then(|table| table.stream.as_ref());
        let is_required = target.map_or(headers.is_required, |target| target.accepts_proxy_protocol);
        (is_required, is_required && headers.trusted.contains(peer.ip().to_canonical()), headers.within)
    });
    if !is_required {
        return Ok(None);
    }
    let header = proxy_protocol::read(stream, within).await?;
    let ends = header.addresses.map(|(client, connected_to)| Ends { client, connected_to });
    Ok(ends.filter(|_| is_trusted))
}

/// The server name of a connection's ClientHello, which stays in the socket.
async fn server_name(stream: &TcpStream) -> io::Result<Option<String>> {
    let look = |bytes: &[u8]| match client_hello::server_name(bytes) {
        Hello::Incomplete => Look::More,
        Hello::Named(name) => Look::Seen(Some(name)),
        Hello::Nameless => Look::Seen(None),
    };
    peek(stream, client_hello::LONGEST, look).await
}

/// Reads the ClientHello, chooses the configuration by the server name in it, and finishes the handshake.
async fn handshake(
    worker: &Worker,
    listener: &str,
    stream: TcpStream,
) -> io::Result<(TlsStream<TcpStream>, Option<Arc<Judge>>)> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let host = worker.snapshot.with(|snapshot| {
        let tls = snapshot.listener(listener).and_then(|table| table.tls.as_ref());
        tls.and_then(|tls| tls.host(start.client_hello().server_name()).cloned())
    });
    match host {
        Some(HostTls { config, judge }) => Ok((start.into_stream(config).await?, judge)),
        None => {
            start.io.write_all(&UNRECOGNIZED_NAME).await?;
            start.io.shutdown().await?;
            Err(io::Error::new(io::ErrorKind::NotFound, "no host has this name"))
        }
    }
}

/// Errors that say something about a connection, not about us (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_of_which_nobody_was_told_is_found() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(inherited(&socket).is_none());
        let client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let (_, peer) = inherited(&socket).expect("it waits").unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(inherited(&socket).is_none());
    }
}
