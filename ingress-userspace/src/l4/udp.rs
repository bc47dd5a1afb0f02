//! Datagrams that go to a backend as they are, and the answers.
//!
//! A session is a client's address and port: its datagrams go to one endpoint, from a socket of their own, by which the answers
//! are told apart. It ends with the expected number of answers, or after silence. Their number is bounded; when there is no
//! room, the most idle of a few makes it, so that a flood of invented sources cannot lock everybody out. At the end of the
//! process sessions end at once: clients of datagrams ask again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::rc::Rc;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::session::{Carrier, Ends, Session as LogSession, UNREACHABLE};
use crate::proxy::worker::{Phase, Worker};
use crate::snapshot::edge::Enforce;

/// Sessions of one socket.
const MOST_SESSIONS: usize = 4096;
/// Of so many the most idle makes room.
const SAMPLE: usize = 16;
/// The longest datagram.
const LONGEST: usize = 65_535;

/// A socket for datagrams.
#[derive(Debug)]
pub struct Datagrams {
    /// Name of the listener.
    pub listener: String,
    /// The socket, bound and not blocking.
    pub socket: std::net::UdpSocket,
}

/// A client, and the address of ours that it sent to: the answer must come from there.
type Key = (SocketAddr, IpAddr);

/// One socket and its sessions.
struct Server {
    worker: Rc<Worker>,
    listener: String,
    socket: UdpSocket,
    bound: SocketAddr,
    sessions: RefCell<HashMap<Key, Session>>,
    /// For whatever is received next: nothing holds it while it waits.
    buffer: RefCell<Vec<u8>>,
}

struct Session {
    socket: Rc<UdpSocket>,
    state: Rc<State>,
    task: AbortHandle,
}

/// What a session's two sides share.
struct State {
    last: Cell<Instant>,
    /// Answers that are still expected.
    expected: Cell<u64>,
    /// What the log will say.
    log: LogSession,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends all sessions, and with them what holds the socket open.
struct Ending(Rc<Server>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.sessions.borrow_mut().clear();
    }
}

/// Serves a socket until the worker stops.
pub async fn serve(worker: Rc<Worker>, datagrams: Datagrams) -> io::Result<()> {
    let Datagrams { listener, socket } = datagrams;
    let bound = socket.local_addr()?;
    match bound {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    let server = Rc::new(Server {
        worker: Rc::clone(&worker),
        listener,
        socket: UdpSocket::from_std(socket)?,
        bound,
        sessions: RefCell::default(),
        buffer: RefCell::new(vec![0; LONGEST]),
    });
    let _ending = Ending(Rc::clone(&server));
    let mut phase = worker.phase.clone();
    loop {
        let received = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Stopped) => return Ok(()),
            received = receive(&server) => received,
        };
        let result = match received {
            Ok((datagram, client, ours)) => forward(&server, (client, ours), &datagram).await,
            // A datagram that was cut, or an ICMP error about an earlier answer.
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            debug!(listener = server.listener, %error, "datagram was not forwarded");
        }
        // A flood must not keep the thread from everybody else.
        tokio::task::consume_budget().await;
    }
}

async fn forward(server: &Rc<Server>, key: Key, datagram: &[u8]) -> io::Result<()> {
    let known = {
        let sessions = server.sessions.borrow();
        sessions.get(&key).map(|session| (Rc::clone(&session.socket), Rc::clone(&session.state)))
    };
    let (upstream, state) = match known {
        Some(known) => known,
        None => match admit(server, key)? {
            Some((endpoint, log)) => open(server, key, endpoint, log).await?,
            None => return Ok(()),
        },
    };
    let responses = server.worker.snapshot.with(|snapshot| snapshot.globals.streams.responses);
    state.last.set(Instant::now());
    state.expected.set(state.expected.get() + u64::from(responses));
    let sent = upstream.send(datagram).await;
    if let Ok(bytes) = &sent {
        state.log.moved.add_up(*bytes);
    }
    if responses == 0 {
        server.sessions.borrow_mut().remove(&key);
    }
    sent.map(|_| ())
}

/// The endpoint for a new session; `None`: its client is refused.
fn admit(server: &Server, (client, ours): Key) -> io::Result<Option<(SocketAddr, LogSession)>> {
    let worker = &server.worker;
    let snapshot = worker.snapshot.pin();
    let local = SocketAddr::new(ours, server.bound.port());
    // Lists only: what limits count at accept are TCP connections.
    if let Some(refusal) = snapshot.edge.refuses(client, local, Enforce::Lists) {
        worker.counters.refused(refusal.reason.name());
        worker.counters.count_denied(refusal);
        return Ok(None);
    }
    let log = LogSession::begin(worker, Carrier::Udp, Ends { client, connected_to: local }, None);
    let target = snapshot.listener(&server.listener).and_then(|table| table.stream.as_ref());
    let Some(target) = target else { return Err(missing(&log)) };
    let log = log.to(&target.backend.name);
    match target.backend.endpoints_in_turn().first() {
        Some(endpoint) => Ok(Some((*endpoint, log))),
        None => Err(missing(&log)),
    }
}

fn missing(log: &LogSession) -> io::Error {
    log.failed(UNREACHABLE);
    io::Error::new(io::ErrorKind::NotFound, "no endpoint")
}

async fn open(
    server: &Rc<Server>,
    key: Key,
    endpoint: SocketAddr,
    log: LogSession,
) -> io::Result<(Rc<UdpSocket>, Rc<State>)> {
    log.tries(endpoint);
    let upstream = match dial(endpoint).await {
        Ok(upstream) => Rc::new(upstream),
        Err(error) => {
            log.unreachable();
            log.failed(UNREACHABLE);
            return Err(error);
        }
    };
    log.connected();
    let state = Rc::new(State { last: Cell::new(Instant::now()), expected: Cell::new(0), log });
    make_room(server);
    server.worker.counters.upstream_new.add(1);
    let answers = {
        let (server, upstream, state) = (Rc::clone(server), Rc::clone(&upstream), Rc::clone(&state));
        async move {
            if let Err(error) = answer(&server, &upstream, &state, key).await {
                if state.log.moved.first.get().is_none() {
                    state.log.failed(UNREACHABLE);
                }
                debug!(client = %key.0, %endpoint, %error, "session of datagrams failed");
            }
            server.sessions.borrow_mut().remove(&key);
        }
    };
    let task = tokio::task::spawn_local(answers).abort_handle();
    let session = Session { socket: Rc::clone(&upstream), state: Rc::clone(&state), task };
    server.sessions.borrow_mut().insert(key, session);
    Ok((upstream, state))
}

/// A socket whose other end is an endpoint.
async fn dial(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if endpoint.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(endpoint).await?;
    Ok(socket)
}

/// Passes answers on, until all came or both sides are silent.
async fn answer(server: &Server, upstream: &UdpSocket, state: &State, key: Key) -> io::Result<()> {
    loop {
        let idle = server.worker.snapshot.with(|snapshot| snapshot.globals.streams.idle);
        tokio::select! {
            ready = upstream.readable() => ready?,
            () = sleep_until(state.last.get() + idle) => {
                if state.last.get().elapsed() >= idle {
                    return Ok(());
                }
                continue;
            }
        }
        let received = {
            let mut buffer = server.buffer.borrow_mut();
            let count = upstream.try_recv(&mut buffer);
            count.map(|count| buffer.get(..count).unwrap_or_default().to_vec())
        };
        let datagram = match received {
            Ok(datagram) => datagram,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        state.last.set(Instant::now());
        send(&server.socket, &datagram, key).await?;
        state.log.moved.add_down(datagram.len());
        state.expected.set(state.expected.get().saturating_sub(1));
        if state.expected.get() == 0 {
            return Ok(());
        }
    }
}

fn make_room(server: &Server) {
    let mut sessions = server.sessions.borrow_mut();
    if sessions.len() < MOST_SESSIONS {
        return;
    }
    let sample = sessions.iter().take(SAMPLE);
    let idle = sample.min_by_key(|(_, session)| session.state.last.get()).map(|(key, _)| *key);
    if let Some(key) = idle {
        sessions.remove(&key);
    }
}

/// A datagram, who sent it, and to which address of ours.
async fn receive(server: &Server) -> io::Result<(Vec<u8>, SocketAddr, IpAddr)> {
    let socket = &server.socket;
    loop {
        socket.readable().await?;
        let received = socket.try_io(Interest::READABLE, || {
            let mut space = nix::cmsg_space!(libc::in6_pktinfo);
            let mut buffer = server.buffer.borrow_mut();
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let fd = socket.as_raw_fd();
            let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), MsgFlags::empty())?;
            if message.flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "datagram was cut"));
            }
            let mut ours = server.bound.ip();
            for part in message.cmsgs()? {
                match part {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        let address = |part: libc::in_addr| Ipv4Addr::from(u32::from_be(part.s_addr));
                        // A datagram that came before the socket asked for its address has only that of its head.
                        let known = Some(address(info.ipi_spec_dst)).filter(|it| !it.is_unspecified());
                        ours = known.unwrap_or_else(|| address(info.ipi_addr)).into();
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        ours = Ipv6Addr::from(info.ipi6_addr.s6_addr).into();
                    }
                    _ => {}
                }
            }
            let client = message.address.as_ref().and_then(address_of);
            let unnamed = || io::Error::new(io::ErrorKind::InvalidData, "datagram without a source");
            let length = message.bytes;
            let client = client.ok_or_else(unnamed)?;
            Ok((buffer.get(..length).unwrap_or_default().to_vec(), client, ours))
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddr::V6((*v6).into()))
}

/// Sends an answer from the address that was asked.
async fn send(socket: &UdpSocket, datagram: &[u8], (client, ours): Key) -> io::Result<()> {
    loop {
        socket.writable().await?;
        let sent = socket.try_io(Interest::WRITABLE, || {
            let parts = [IoSlice::new(datagram)];
            let (fd, to) = (socket.as_raw_fd(), SockaddrStorage::from(client));
            let flags = MsgFlags::empty();
            let sent = match ours {
                IpAddr::V4(address) => {
                    let spec = libc::in_addr { s_addr: u32::from(address).to_be() };
                    let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec, ipi_addr: spec };
                    sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))
                }
                IpAddr::V6(address) => {
                    let spec = libc::in6_addr { s6_addr: address.octets() };
                    let info = libc::in6_pktinfo { ipi6_addr: spec, ipi6_ifindex: 0 };
                    sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))
                }
            };
            sent.map_err(io::Error::from)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other.map(|_| ()),
        }
    }
}
