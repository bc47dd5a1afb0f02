//! The thread that writes log lines out, and the workers' way to it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tracing::{info, warn};

use crate::model::log::LogDestination;

/// Buffers that may wait for the writer.
const WAITING: usize = 256;
/// Facility `local7`, severity `info`, as nginx's default.
const SYSLOG_PRIORITY: u8 = 190;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
    /// A syslog server: `host:port`.
    Syslog(String),
}

impl Destination {
    /// Reads the value of `--access-log`.
    pub fn from_flag(value: &str) -> Self {
        match value {
            "off" => Self::Off,
            "-" => Self::Stdout,
            path => Self::File(path.into()),
        }
    }

    /// What the configuration asks for, where the process began with `self`.
    fn configured(&self, destination: &LogDestination) -> Self {
        match destination {
            LogDestination::AsStarted => self.clone(),
            LogDestination::Stdout => Self::Stdout,
            LogDestination::Stderr => Self::Stderr,
            LogDestination::File(path) => Self::File(path.into()),
            LogDestination::Syslog(server) => Self::Syslog(server.clone()),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Self::Off => Box::new(io::sink()),
            Self::Stdout => Box::new(io::stdout()),
            Self::Stderr => Box::new(io::stderr()),
            Self::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            Self::Syslog(server) => Box::new(Syslog::connect(server)?),
        })
    }
}

/// Whose lines they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Of requests.
    Requests,
    /// Of sessions that are not HTTP.
    Streams,
}

enum Message {
    Lines(Log, Vec<u8>),
    To(Log, Destination),
}

/// The workers' side of the log.
#[derive(Clone, Debug)]
pub struct Writer {
    messages: Option<SyncSender<Message>>,
    started: Destination,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// Opens the destination and starts the thread that writes to it.
    pub fn start(destination: Destination) -> io::Result<Self> {
        let dropped = Arc::default();
        if destination == Destination::Off {
            return Ok(Self { messages: None, started: destination, dropped });
        }
        let (requests, streams) = (Out::new(destination.open()?), Out::new(destination.open()?));
        let (messages, inbox) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(requests, streams, &inbox))?;
        Ok(Self { messages: Some(messages), started: destination, dropped })
    }

    /// Whether lines go nowhere.
    pub fn is_off(&self) -> bool {
        self.messages.is_none()
    }

    /// Goes on where the configuration says; `--access-log off` stays off.
    pub fn redirect(&self, log: Log, destination: &LogDestination) {
        let Some(messages) = &self.messages else { return };
        // A full queue is waited for: lines before the change belong to the old place. Without a thread nobody writes.
        let _ = messages.send(Message::To(log, self.started.configured(destination)));
    }

    /// Hands over whole lines; never waits.
    pub fn submit(&self, log: Log, buffer: Vec<u8>) {
        let Some(messages) = &self.messages else { return };
        let lost = match messages.try_send(Message::Lines(log, buffer)) {
            Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) => lost,
            Ok(()) => return,
        };
        if let Message::Lines(_, buffer) = lost {
            let count = buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Where one log goes.
struct Out {
    to: Box<dyn Write + Send>,
    is_failing: bool,
}

impl Out {
    fn new(to: Box<dyn Write + Send>) -> Self {
        Self { to, is_failing: false }
    }

    fn redirect(&mut self, log: Log, destination: &Destination) {
        match destination.open() {
            Ok(opened) => {
                info!(?log, ?destination, "access log goes on elsewhere");
                self.to = opened;
            }
            Err(error) => {
                warn!(?log, ?destination, %error, "access log cannot be opened, it stays where it was");
            }
        }
    }

    fn write(&mut self, log: Log, buffer: &[u8]) {
        match self.to.write_all(buffer).and_then(|()| self.to.flush()) {
            Ok(()) => self.is_failing = false,
            // Once per outage, not per line.
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                warn!(?log, %error, "access log cannot be written, lines are lost");
            }
            Err(_) => {}
        }
    }
}

fn write_all(mut requests: Out, mut streams: Out, inbox: &Receiver<Message>) {
    for message in inbox {
        let (Message::Lines(log, _) | Message::To(log, _)) = message;
        let out = match log {
            Log::Requests => &mut requests,
            Log::Streams => &mut streams,
        };
        match message {
            Message::Lines(_, buffer) => out.write(log, &buffer),
            Message::To(_, destination) => out.redirect(log, &destination),
        }
    }
}

/// A syslog server (RFC 3164 over UDP): one datagram per line.
struct Syslog {
    socket: UdpSocket,
    host: String,
}

impl Syslog {
    fn connect(server: &str) -> io::Result<Self> {
        let address = server.to_socket_addrs()?.next();
        let address = address
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the syslog server has no address"))?;
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local)?;
        socket.connect(address)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self { socket, host })
    }
}

impl Write for Syslog {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        for line in buffer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let time = jiff::Timestamp::now().strftime("%b %e %H:%M:%S");
            let mut datagram = format!("<{SYSLOG_PRIORITY}>{time} {} nginx: ", self.host).into_bytes();
            datagram.extend_from_slice(line);
            self.socket.send(&datagram)?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
