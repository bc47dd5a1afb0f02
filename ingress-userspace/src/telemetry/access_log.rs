//! The access log: one line per request in ingress-nginx's `upstreaminfo` format, written when the response has ended.
//!
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
//! $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr
//! $upstream_response_length $upstream_response_time $upstream_status $req_id`; `-` stands for what there is none of.
//!
//! Workers append to a buffer of their own; a thread writes it out. When that thread cannot keep up, lines are dropped and
//! counted: a full disk must not stop traffic.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version, header, request};
use tokio::time::Instant;
use tracing::warn;

use super::labels::RouteLabels;
use super::shard::{Observation, Reporter};

/// Buffers that may wait for the writer.
const WAITING: usize = 256;
/// What nginx logs when the client went away before there was an answer.
const CLIENT_GONE: u16 = 499;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
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
}

/// The workers' side of the log.
#[derive(Clone, Debug)]
pub struct Writer {
    lines: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// Opens the destination and starts the thread that writes to it.
    pub fn start(destination: Destination) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match destination {
            Destination::Off => return Ok(Self { lines: None, dropped: Arc::default() }),
            Destination::Stdout => Box::new(io::stdout()),
            Destination::File(path) => Box::new(open(&path)?),
        };
        let (lines, buffers) = sync_channel(WAITING);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(out, &buffers))?;
        Ok(Self { lines: Some(lines), dropped: Arc::default() })
    }

    /// Whether lines go nowhere.
    pub fn is_off(&self) -> bool {
        self.lines.is_none()
    }

    /// Hands over whole lines; never waits.
    pub fn submit(&self, buffer: Vec<u8>) {
        let Some(lines) = &self.lines else { return };
        if let Err(TrySendError::Full(buffer) | TrySendError::Disconnected(buffer)) = lines.try_send(buffer) {
            let count = buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(mut out: Box<dyn Write + Send>, buffers: &Receiver<Vec<u8>>) {
    let mut is_failing = false;
    for buffer in buffers {
        let written = out.write_all(&buffer).and_then(|()| out.flush());
        match written {
            Ok(()) => is_failing = false,
            // Once per outage, not per line.
            Err(error) if !is_failing => {
                is_failing = true;
                warn!(%error, "access log cannot be written, lines are lost");
            }
            Err(_) => {}
        }
    }
}

/// One try at an endpoint.
#[derive(Debug)]
pub struct Attempt {
    /// Where.
    pub endpoint: SocketAddr,
    /// Until the connection stood; zero for one that was open.
    pub connect_time: Duration,
    /// Until the head of the response.
    pub header_time: Duration,
    /// What it answered, or what we made of its silence.
    pub status: Option<u16>,
    started: Instant,
}

impl Attempt {
    /// Begins now.
    pub fn begin(endpoint: SocketAddr) -> Self {
        Self {
            endpoint,
            connect_time: Duration::ZERO,
            header_time: Duration::ZERO,
            status: None,
            started: Instant::now(),
        }
    }
}

/// What the log will say of a request. Written when it is dropped, which is when the response has ended.
#[derive(Debug)]
pub struct Record {
    /// Names the request on both sides.
    pub request_id: HeaderValue,
    /// The route's, once there is one.
    pub labels: Arc<RouteLabels>,
    /// The user of basic or digest authentication, as the client says.
    pub user: Option<Box<str>>,
    reporter: Rc<Reporter>,
    /// Who asked; a trusted proxy may name another than the connection shows.
    pub client: IpAddr,
    method: Method,
    target: Option<PathAndQuery>,
    version: Version,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    started: Instant,
    head_bytes: u64,
    body_bytes: u64,
    sent_bytes: u64,
    status: Option<StatusCode>,
    attempts: Vec<Attempt>,
    is_silent: bool,
}

impl Record {
    /// Begins with the request head as the engine read it.
    pub fn open(
        reporter: &Rc<Reporter>,
        client: IpAddr,
        parts: &request::Parts,
        request_id: HeaderValue,
    ) -> Box<Self> {
        let fields: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let target = parts.uri.path_and_query();
        let line = parts.method.as_str().len() + target.map_or(0, |target| target.as_str().len()) + 14;
        Box::new(Self {
            request_id,
            labels: reporter.no_labels(),
            user: None,
            reporter: Rc::clone(reporter),
            client,
            method: parts.method.clone(),
            target: target.cloned(),
            version: parts.version,
            referer: parts.headers.get(header::REFERER).cloned(),
            agent: parts.headers.get(header::USER_AGENT).cloned(),
            started: Instant::now(),
            head_bytes: (fields + line) as u64,
            body_bytes: 0,
            sent_bytes: 0,
            status: None,
            attempts: Vec::new(),
            is_silent: false,
        })
    }

    /// An endpoint was tried.
    pub fn attempted(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// The status that the client gets.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Bytes of the request's body.
    pub fn received(&mut self, bytes: u64) {
        self.body_bytes = bytes;
    }

    /// Bytes of the response's body that went to the client.
    pub fn sent(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
    }

    /// The record of a tunnel, which outlives its response; the response itself is then not logged.
    pub fn split_for_tunnel(&mut self) -> Box<Self> {
        let tunnel = Self {
            request_id: self.request_id.clone(),
            labels: Arc::clone(&self.labels),
            user: self.user.clone(),
            reporter: Rc::clone(&self.reporter),
            method: self.method.clone(),
            target: self.target.clone(),
            referer: self.referer.clone(),
            agent: self.agent.clone(),
            attempts: std::mem::take(&mut self.attempts),
            ..*self
        };
        self.is_silent = true;
        Box::new(tunnel)
    }

    fn write(&self, line: &mut Vec<u8>, duration: Duration) {
        let _ = write!(line, "{} - ", self.client);
        escape(line, self.user.as_deref().unwrap_or("-").as_bytes());
        let _ = write!(line, " [{}] \"", local_time());
        if let Some(target) = &self.target {
            let version = match self.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            };
            let _ = write!(line, "{} ", self.method);
            escape(line, target.as_str().as_bytes());
            let _ = write!(line, " {version}");
        } else {
            let _ = write!(line, "{}", self.method);
        }
        let status = self.status.map_or(CLIENT_GONE, |status| status.as_u16());
        let _ = write!(line, "\" {status} {} \"", self.sent_bytes);
        escape(line, self.referer.as_ref().map_or(&b"-"[..], HeaderValue::as_bytes));
        line.extend_from_slice(b"\" \"");
        escape(line, self.agent.as_ref().map_or(&b"-"[..], HeaderValue::as_bytes));
        let _ = write!(
            line,
            "\" {} {:.3} [{}] [{}] ",
            self.head_bytes + self.body_bytes,
            duration.as_secs_f64(),
            if self.labels.upstream.is_empty() { "-" } else { &self.labels.upstream },
            self.labels.canary,
        );
        self.write_attempts(line);
        line.push(b' ');
        escape(line, self.request_id.as_bytes());
        line.push(b'\n');
    }

    fn write_attempts(&self, line: &mut Vec<u8>) {
        let last = self.attempts.len().saturating_sub(1);
        list(line, &self.attempts, |line, _, attempt| write!(line, "{}", attempt.endpoint));
        line.push(b' ');
        list(line, &self.attempts, |line, index, _| {
            write!(line, "{}", if index == last { self.sent_bytes } else { 0 })
        });
        line.push(b' ');
        list(line, &self.attempts, |line, index, attempt| {
            let time = if index == last { attempt.started.elapsed() } else { attempt.header_time };
            write!(line, "{:.3}", time.as_secs_f64())
        });
        line.push(b' ');
        list(line, &self.attempts, |line, _, attempt| match attempt.status {
            Some(status) => write!(line, "{status}"),
            None => write!(line, "-"),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.is_silent {
            return;
        }
        let duration = self.started.elapsed();
        let status = self.status.map_or(CLIENT_GONE, |status| status.as_u16());
        let last = self.attempts.last();
        let seen = Observation {
            duration,
            response: last.map(|attempt| attempt.started.elapsed()),
            header: last.map(|attempt| attempt.header_time),
            connect: last.map(|attempt| attempt.connect_time),
            request_bytes: self.head_bytes + self.body_bytes,
            response_bytes: self.sent_bytes,
        };
        self.reporter.observe(&self.labels, self.method.as_str(), status, &seen);
        self.reporter.log(|line| self.write(line, duration));
    }
}

fn list(
    line: &mut Vec<u8>,
    attempts: &[Attempt],
    write: impl Fn(&mut Vec<u8>, usize, &Attempt) -> io::Result<()>,
) {
    if attempts.is_empty() {
        line.push(b'-');
    }
    for (index, attempt) in attempts.iter().enumerate() {
        if index > 0 {
            line.extend_from_slice(b", ");
        }
        // Writing into a Vec cannot fail.
        let _ = write(line, index, attempt);
    }
}

/// As nginx: quotes, backslashes and everything that is not printable ASCII as `\xHH`, so that a line stays a line.
fn escape(line: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1F | 0x7F..=0xFF => {
                let _ = write!(line, "\\x{byte:02X}");
            }
            _ => line.push(*byte),
        }
    }
}

/// The time of nginx's `$time_local`, in UTC.
fn local_time() -> impl std::fmt::Display {
    jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000")
}
