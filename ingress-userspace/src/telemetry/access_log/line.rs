//! A record → its line.

use std::io::{self, Write as _};
use std::time::Duration;

use http::Version;
use http::uri::PathAndQuery;

use super::format::{Piece, put};
use super::{Attempt, CLIENT_GONE, Record, TIME_ISO8601, TIME_LOCAL, msec, now};
use crate::model::template::Variable;

impl Record {
    pub(super) fn write(&self, line: &mut Vec<u8>, duration: Duration) {
        let escape = self.format.escape;
        for piece in self.format.pieces() {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text),
                Piece::Own(variable) => self.write_own(line, variable, duration),
                Piece::Request(index) => put(line, self.request_headers.get(*index), escape),
                Piece::Response(index) => put(line, self.response_headers.get(*index), escape),
                Piece::Asked(index) => {
                    let value = self.asked.get(*index).filter(|value| !value.is_empty());
                    put(line, value.map(|value| value.as_bytes()), escape);
                }
            }
        }
        line.push(b'\n');
    }

    /// A value that grows with the request, as far as it has come; empty while there is none.
    pub fn so_far(&self, variable: &Variable) -> String {
        let mut text = Vec::new();
        // Writing into a Vec cannot fail.
        let _ = match variable {
            Variable::RequestTime => seconds(&mut text, Some(self.started.elapsed())),
            Variable::RequestLength => write!(text, "{}", self.head_bytes + self.body_bytes),
            _ if self.attempts.is_empty() => Ok(()),
            upstream => self.write_attempts(&mut text, upstream),
        };
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Numbers, addresses and times need no escaping; writing into a Vec cannot fail.
    fn write_own(&self, line: &mut Vec<u8>, variable: &Variable, duration: Duration) {
        let escape = self.format.escape;
        let text = |line: &mut Vec<u8>, value: &str| put(line, Some(value.as_bytes()), escape);
        // Set by ingress-nginx itself, so that there is always a value, if an empty one.
        let labels = &self.labels;
        let _ = match variable {
            Variable::RemoteAddr | Variable::BinaryRemoteAddr => write!(line, "{}", self.client),
            Variable::RemoteUser => return put(line, self.user.as_deref().map(str::as_bytes), escape),
            Variable::TimeLocal => write!(line, "{}", now(TIME_LOCAL)),
            Variable::TimeIso8601 => write!(line, "{}", now(TIME_ISO8601)),
            Variable::Msec => write!(line, "{}", msec()),
            Variable::Request => return self.write_request(line),
            Variable::RequestMethod => return text(line, self.method.as_str()),
            Variable::RequestUri => return put(line, self.target().map(str::as_bytes), escape),
            Variable::Args => {
                let query =
                    self.target.as_ref().and_then(PathAndQuery::query).filter(|query| !query.is_empty());
                return put(line, query.map(str::as_bytes), escape);
            }
            Variable::IsArgs => {
                let has_query =
                    self.target.as_ref().and_then(PathAndQuery::query).is_some_and(|q| !q.is_empty());
                return text(line, if has_query { "?" } else { "" });
            }
            Variable::ServerProtocol => return text(line, protocol(self.version)),
            Variable::Status => write!(line, "{:03}", self.status_code()),
            Variable::BodyBytesSent => write!(line, "{}", self.sent_bytes),
            Variable::BytesSent => write!(line, "{}", self.sent_head_bytes + self.sent_bytes),
            Variable::RequestLength => write!(line, "{}", self.head_bytes + self.body_bytes),
            Variable::RequestTime => write!(line, "{:.3}", duration.as_secs_f64()),
            Variable::RequestId => return put(line, Some(self.request_id.as_bytes()), escape),
            Variable::ProxyUpstreamName if labels.upstream.is_empty() => return text(line, "-"),
            Variable::ProxyUpstreamName => return text(line, &labels.upstream),
            Variable::ProxyAlternativeUpstreamName => return text(line, &labels.canary),
            Variable::Namespace => return text(line, &labels.namespace),
            Variable::IngressName => return text(line, &labels.ingress),
            Variable::ServiceName => return text(line, &labels.service),
            Variable::ServicePort => return text(line, labels.service_port()),
            Variable::LocationPath => return text(line, &labels.path),
            Variable::ServerName => {
                return text(line, if labels.host.is_empty() { "_" } else { &labels.host });
            }
            Variable::Hostname => return text(line, &rustix::system::uname().nodename().to_string_lossy()),
            Variable::Pid => write!(line, "{}", std::process::id()),
            Variable::Pipe => return text(line, "."),
            Variable::UpstreamAddr
            | Variable::UpstreamResponseLength
            | Variable::UpstreamResponseTime
            | Variable::UpstreamConnectTime
            | Variable::UpstreamHeaderTime
            | Variable::UpstreamStatus => self.write_attempts(line, variable),
            _ => return put(line, None, escape),
        };
    }

    fn target(&self) -> Option<&str> {
        self.target.as_ref().map(PathAndQuery::as_str)
    }

    fn status_code(&self) -> u16 {
        self.status.map_or(CLIENT_GONE, |status| status.as_u16())
    }

    fn write_request(&self, line: &mut Vec<u8>) {
        let escape = self.format.escape;
        put(line, Some(self.method.as_str().as_bytes()), escape);
        if let Some(target) = self.target() {
            line.push(b' ');
            put(line, Some(target.as_bytes()), escape);
            line.push(b' ');
            line.extend_from_slice(protocol(self.version).as_bytes());
        }
    }

    /// One value per endpoint that was tried, in order, as nginx lists them.
    fn write_attempts(&self, line: &mut Vec<u8>, variable: &Variable) -> io::Result<()> {
        if self.attempts.is_empty() {
            put(line, None, self.format.escape);
        }
        let last = self.attempts.len().saturating_sub(1);
        for (index, attempt) in self.attempts.iter().enumerate() {
            if index > 0 {
                line.extend_from_slice(b", ");
            }
            let is_last = index == last;
            match variable {
                Variable::UpstreamAddr => write!(line, "{}", attempt.endpoint)?,
                Variable::UpstreamResponseLength => {
                    write!(line, "{}", if is_last && attempt.is_answered { self.sent_bytes } else { 0 })?
                }
                Variable::UpstreamResponseTime => {
                    let time = if is_last { attempt.started.elapsed() } else { attempt.header_time };
                    seconds(line, Some(time))?;
                }
                Variable::UpstreamConnectTime => seconds(line, connected(attempt))?,
                Variable::UpstreamHeaderTime => {
                    seconds(line, attempt.is_answered.then_some(attempt.header_time))?
                }
                _ => match attempt.status {
                    Some(status) => write!(line, "{status}")?,
                    None => line.push(b'-'),
                },
            }
        }
        Ok(())
    }
}

/// How long the connection took; nothing when there never was one.
fn connected(attempt: &Attempt) -> Option<Duration> {
    (attempt.is_answered || !attempt.connect_time.is_zero()).then_some(attempt.connect_time)
}

fn seconds(line: &mut Vec<u8>, time: Option<Duration>) -> io::Result<()> {
    match time {
        Some(time) => write!(line, "{:.3}", time.as_secs_f64()),
        None => line.write_all(b"-"),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
