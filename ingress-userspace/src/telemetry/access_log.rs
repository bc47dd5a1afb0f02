//! The access log: one line per request, written when the response has ended. The format is ingress-nginx's
//! `upstreaminfo` unless the ConfigMap has another (`log-format-upstream`); see `format`.
//!
//! Workers append to a buffer of their own; a thread writes it out (`writer`). When that thread cannot keep up, lines are
//! dropped and counted: a full disk must not stop traffic.

pub mod format;
mod line;
pub mod writer;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request};
use tokio::time::Instant;

use super::labels::RouteLabels;
use super::shard::{LocalFormat, Observation, Reporter};
use format::{Format, Kept, basic_user};
use writer::Log;

/// What nginx logs when the client went away before there was an answer.
const CLIENT_GONE: u16 = 499;

/// `$time_local`.
pub const TIME_LOCAL: &str = "%d/%b/%Y:%H:%M:%S +0000";
/// `$time_iso8601`.
pub const TIME_ISO8601: &str = "%Y-%m-%dT%H:%M:%S+00:00";

/// The time in UTC, as nginx has it in a container.
pub fn now(format: &'static str) -> impl std::fmt::Display {
    jiff::Timestamp::now().strftime(format)
}

/// Seconds since the epoch, three decimals.
pub fn msec() -> impl std::fmt::Display {
    let millis = jiff::Timestamp::now().as_millisecond();
    format!("{}.{:03}", millis / 1000, millis.rem_euclid(1000))
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
    /// The answer is its own.
    pub is_answered: bool,
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
            is_answered: false,
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
    format: LocalFormat,
    request_headers: Kept,
    response_headers: Kept,
    /// Values of the format's `asked`, in its order; empty until the request was understood.
    asked: Vec<String>,
    started: Instant,
    head_bytes: u64,
    body_bytes: u64,
    sent_head_bytes: u64,
    sent_bytes: u64,
    status: Option<StatusCode>,
    attempts: Vec<Attempt>,
    /// Another record speaks for this request.
    is_silent: bool,
    /// Counted only.
    is_unlogged: bool,
}

impl Record {
    /// Begins with the request head as the engine read it.
    pub fn open(
        reporter: &Rc<Reporter>,
        format: &Arc<Format>,
        client: IpAddr,
        parts: &request::Parts,
        request_id: HeaderValue,
    ) -> Box<Self> {
        let format = reporter.format(format);
        let fields: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let target = parts.uri.path_and_query();
        let line = parts.method.as_str().len() + target.map_or(0, |target| target.as_str().len()) + 14;
        Box::new(Self {
            request_id,
            labels: reporter.no_labels(),
            user: if format.needs_user { basic_user(&parts.headers) } else { None },
            reporter: Rc::clone(reporter),
            client,
            method: parts.method.clone(),
            target: target.cloned(),
            version: parts.version,
            request_headers: format
                .keep_request(&parts.headers, parts.uri.authority().map(|name| name.as_str())),
            response_headers: Kept::default(),
            asked: Vec::new(),
            format,
            started: Instant::now(),
            head_bytes: (fields + line) as u64,
            body_bytes: 0,
            sent_head_bytes: 0,
            sent_bytes: 0,
            status: None,
            attempts: Vec::new(),
            is_silent: false,
            is_unlogged: false,
        })
    }

    /// An endpoint was tried.
    pub fn attempted(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// The head of the response that the client gets.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.response_headers = self.format.keep_response(headers);
        if self.format.needs_head_size {
            let fields: usize =
                headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
            let reason = status.canonical_reason().map_or(0, str::len);
            // `HTTP/1.1 200 OK` and the empty line.
            self.sent_head_bytes = (fields + reason + 17) as u64;
        }
    }

    /// The format of its line.
    pub fn format(&self) -> LocalFormat {
        Rc::clone(&self.format)
    }

    /// The values that the format asks for, in its order.
    pub fn asked(&mut self, values: Vec<String>) {
        self.asked = values;
    }

    /// Counts the request and writes no line.
    pub fn leave_out(&mut self) {
        self.is_unlogged = true;
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
            format: Rc::clone(&self.format),
            request_headers: std::mem::take(&mut self.request_headers),
            response_headers: std::mem::take(&mut self.response_headers),
            asked: std::mem::take(&mut self.asked),
            attempts: std::mem::take(&mut self.attempts),
            ..*self
        };
        self.is_silent = true;
        Box::new(tunnel)
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
        if !self.is_unlogged {
            self.reporter.log(Log::Requests, |line| self.write(line, duration));
        }
    }
}
