//! A session that is carried and not read (a TCP connection, a client's datagrams, TLS that is passed through) as the log
//! sees it: one line, written when it has ended. Nothing of it is done while bytes are carried but counting them.

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::tunnel::Moved;
use crate::model::log::Escape;
use crate::model::log::stream::{StreamPart, StreamTemplate, StreamVariable};
use crate::proxy::worker::Worker;
use crate::telemetry::access_log::format::put;
use crate::telemetry::access_log::writer::Log;
use crate::telemetry::access_log::{TIME_ISO8601, TIME_LOCAL, now};

/// The session was carried.
const CARRIED: u16 = 200;
/// The PROXY header that must be there is not.
pub const NO_HEADER: u16 = 400;
/// No endpoint could be reached.
pub const UNREACHABLE: u16 = 502;

/// Who connected, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub connected_to: SocketAddr,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A connection of a TCP service.
    Tcp,
    /// Datagrams of a UDP service.
    Udp,
    /// TLS that is passed through.
    Tls,
}

/// A try at an endpoint.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    endpoint: SocketAddr,
    began: Instant,
    /// Until it accepted; `None`: it did not.
    connect: Option<Duration>,
    /// Until it was given up; `None`: it is the one that is used.
    failed: Option<Duration>,
}

/// What the log will say of a session. Written when it is dropped.
#[derive(Debug)]
pub struct Session {
    worker: Rc<Worker>,
    carrier: Carrier,
    /// The two ends of the connection itself.
    direct: Ends,
    /// What a PROXY header says that is believed.
    told: Option<Ends>,
    upstream: String,
    server_name: Option<String>,
    began: Instant,
    status: Cell<u16>,
    attempts: RefCell<Vec<Attempt>>,
    /// The PROXY header that the endpoint got.
    header: Cell<u64>,
    /// What was carried so far.
    pub moved: Moved,
}

impl Session {
    /// Begins now.
    pub fn begin(worker: &Rc<Worker>, carrier: Carrier, direct: Ends, told: Option<Ends>) -> Self {
        Self {
            worker: Rc::clone(worker),
            carrier,
            direct,
            told,
            upstream: String::new(),
            server_name: None,
            began: Instant::now(),
            status: Cell::new(CARRIED),
            attempts: RefCell::default(),
            header: Cell::new(0),
            moved: Moved::default(),
        }
    }

    /// To this backend.
    pub fn to(mut self, backend: &str) -> Self {
        // Both protocols of a Service may have one number, so the backend's name ends in that of UDP.
        let name = backend.strip_suffix("/udp").unwrap_or(backend);
        self.upstream = match self.carrier {
            Carrier::Tcp => format!("tcp-{name}"),
            Carrier::Udp => format!("udp-{name}"),
            Carrier::Tls => name.to_owned(),
        };
        self
    }

    /// For this server name.
    pub fn for_name(mut self, name: String) -> Self {
        self.server_name = Some(name);
        self
    }

    /// The worker that carries it.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The ends as the endpoint should see them.
    pub fn ends(&self) -> Ends {
        self.told.unwrap_or(self.direct)
    }

    /// It ends with this status.
    pub fn failed(&self, status: u16) {
        self.status.set(status);
    }

    /// An endpoint is tried.
    pub fn tries(&self, endpoint: SocketAddr) {
        let attempt = Attempt { endpoint, began: Instant::now(), connect: None, failed: None };
        self.attempts.borrow_mut().push(attempt);
    }

    /// It accepted.
    pub fn connected(&self) {
        if let Some(attempt) = self.attempts.borrow_mut().last_mut() {
            attempt.connect = Some(attempt.began.elapsed());
        }
    }

    /// It could not be reached.
    pub fn unreachable(&self) {
        if let Some(attempt) = self.attempts.borrow_mut().last_mut() {
            attempt.failed = Some(attempt.began.elapsed());
        }
    }

    /// Bytes of a PROXY header went to the endpoint.
    pub fn introduced(&self, bytes: usize) {
        self.header.set(bytes as u64);
    }

    fn write(&self, line: &mut Vec<u8>, format: &StreamTemplate) {
        for part in &format.0 {
            match part {
                StreamPart::Text(text) => line.extend_from_slice(text.as_bytes()),
                // Writing into a Vec cannot fail.
                StreamPart::Variable(variable) => {
                    let _ = self.write_variable(line, *variable);
                }
            }
        }
        line.push(b'\n');
    }

    fn write_variable(&self, line: &mut Vec<u8>, variable: StreamVariable) -> io::Result<()> {
        let Ends { client, connected_to } = self.direct;
        let seen = self.ends().client;
        match variable {
            StreamVariable::RemoteAddr => write!(line, "{}", seen.ip().to_canonical()),
            StreamVariable::RemotePort => write!(line, "{}", seen.port()),
            StreamVariable::RealipRemoteAddr => write!(line, "{}", client.ip().to_canonical()),
            StreamVariable::RealipRemotePort => write!(line, "{}", client.port()),
            StreamVariable::ServerAddr => write!(line, "{}", connected_to.ip().to_canonical()),
            StreamVariable::ServerPort => write!(line, "{}", connected_to.port()),
            StreamVariable::ProxyProtocolAddr => {
                maybe(line, self.told.map(|told| told.client.ip().to_canonical()))
            }
            StreamVariable::ProxyProtocolPort => maybe(line, self.told.map(|told| told.client.port())),
            StreamVariable::ProxyProtocolServerAddr => {
                maybe(line, self.told.map(|told| told.connected_to.ip().to_canonical()))
            }
            StreamVariable::ProxyProtocolServerPort => {
                maybe(line, self.told.map(|told| told.connected_to.port()))
            }
            StreamVariable::Protocol => {
                line.write_all(if self.carrier == Carrier::Udp { b"UDP" } else { b"TCP" })
            }
            StreamVariable::Status => write!(line, "{:03}", self.status.get()),
            StreamVariable::BytesSent => write!(line, "{}", self.moved.down.get()),
            StreamVariable::BytesReceived => write!(line, "{}", self.moved.up.get()),
            StreamVariable::SessionTime => seconds(line, self.began.elapsed()),
            StreamVariable::TimeLocal => write!(line, "{}", now(TIME_LOCAL)),
            StreamVariable::TimeIso8601 => write!(line, "{}", now(TIME_ISO8601)),
            StreamVariable::Msec => {
                let millis = jiff::Timestamp::now().as_millisecond();
                write!(line, "{}.{:03}", millis / 1000, millis.rem_euclid(1000))
            }
            StreamVariable::UpstreamAddr
            | StreamVariable::UpstreamBytesSent
            | StreamVariable::UpstreamBytesReceived
            | StreamVariable::UpstreamConnectTime
            | StreamVariable::UpstreamFirstByteTime
            | StreamVariable::UpstreamSessionTime => self.write_attempts(line, variable),
            StreamVariable::ProxyUpstreamName => text(line, Some(&self.upstream)),
            StreamVariable::SslPrereadServerName => text(line, self.server_name.as_deref()),
            StreamVariable::Hostname => {
                text(line, Some(&rustix::system::uname().nodename().to_string_lossy()))
            }
            StreamVariable::Pid => write!(line, "{}", std::process::id()),
        }
    }

    /// One value per endpoint that was tried, in order, as nginx lists them.
    fn write_attempts(&self, line: &mut Vec<u8>, variable: StreamVariable) -> io::Result<()> {
        let attempts = self.attempts.borrow();
        if attempts.is_empty() {
            return line.write_all(b"-");
        }
        for (index, attempt) in attempts.iter().enumerate() {
            if index > 0 {
                line.write_all(b", ")?;
            }
            let is_used = attempt.failed.is_none();
            match variable {
                StreamVariable::UpstreamBytesSent => {
                    write!(line, "{}", if is_used { self.header.get() + self.moved.up.get() } else { 0 })?;
                }
                StreamVariable::UpstreamBytesReceived => {
                    write!(line, "{}", if is_used { self.moved.down.get() } else { 0 })?;
                }
                StreamVariable::UpstreamConnectTime => maybe_seconds(line, attempt.connect)?,
                StreamVariable::UpstreamFirstByteTime => {
                    let first = self.moved.first.get().filter(|_| is_used);
                    maybe_seconds(line, first.map(|first| first.duration_since(attempt.began)))?;
                }
                StreamVariable::UpstreamSessionTime => {
                    seconds(line, attempt.failed.unwrap_or_else(|| attempt.began.elapsed()))?;
                }
                _ => write!(line, "{}", attempt.endpoint)?,
            }
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.worker.snapshot.with(|snapshot| {
            if let Some(format) = &snapshot.globals.access_log.streams {
                self.worker.reporter.log(Log::Streams, |line| self.write(line, format));
            }
        });
    }
}

fn maybe(line: &mut Vec<u8>, value: Option<impl std::fmt::Display>) -> io::Result<()> {
    match value {
        Some(value) => write!(line, "{value}"),
        None => line.write_all(b"-"),
    }
}

fn text(line: &mut Vec<u8>, value: Option<&str>) -> io::Result<()> {
    put(line, value.map(str::as_bytes), Escape::Hex);
    Ok(())
}

fn maybe_seconds(line: &mut Vec<u8>, time: Option<Duration>) -> io::Result<()> {
    match time {
        Some(time) => seconds(line, time),
        None => line.write_all(b"-"),
    }
}

fn seconds(line: &mut Vec<u8>, time: Duration) -> io::Result<()> {
    write!(line, "{:.3}", time.as_secs_f64())
}
