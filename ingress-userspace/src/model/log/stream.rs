//! What is logged of connections and datagrams that are not read: TCP and UDP services, and TLS that is passed through.

use serde::{Deserialize, Serialize};

use super::LogDestination;
use crate::model::template::variable_name;

/// The format of ingress-nginx.
pub const LOG_STREAM: &str =
    "[$remote_addr] [$time_local] $protocol $status $bytes_sent $bytes_received $session_time";

/// The log of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamLog {
    /// Sessions are logged at all.
    pub is_on: bool,
    /// A line.
    pub format: StreamTemplate,
    /// Where lines go.
    pub destination: LogDestination,
}

impl Default for StreamLog {
    fn default() -> Self {
        Self {
            is_on: true,
            format: StreamTemplate::parse(LOG_STREAM).0,
            destination: LogDestination::AsStarted,
        }
    }
}

/// Text with variables of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTemplate(pub Vec<StreamPart>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamPart {
    /// As it stands.
    Text(String),
    /// Filled in per session.
    Variable(StreamVariable),
}

impl StreamTemplate {
    /// Reads `$name` and `${name}`; `-` stands where a variable was that nobody knows, and their names are told.
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let (mut parts, mut unknown) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                parts.push(StreamPart::Text(before.to_owned()));
            }
            let (name, tail) = variable_name(after);
            match StreamVariable::parse(&name) {
                Some(variable) => parts.push(StreamPart::Variable(variable)),
                None => {
                    parts.push(StreamPart::Text("-".to_owned()));
                    unknown.push(name.into_owned());
                }
            }
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(StreamPart::Text(rest.to_owned()));
        }
        (Self(parts), unknown)
    }
}

impl std::fmt::Display for StreamTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            StreamPart::Text(text) => f.write_str(text),
            StreamPart::Variable(variable) => write!(f, "${{{}}}", variable.name()),
        })
    }
}

macro_rules! variables {
    ($($(#[doc = $docs:literal])* $variant:ident = $name:literal $(| $twin:literal)*;)*) => {
        /// What a session can be asked for. Names are those of nginx's stream modules.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum StreamVariable {
            $($(#[doc = $docs])* $variant,)*
        }

        impl StreamVariable {
            /// By its name, without `$`.
            pub fn parse(name: &str) -> Option<Self> {
                Some(match name {
                    $($name $(| $twin)* => Self::$variant,)*
                    _ => return None,
                })
            }

            /// Its name, without `$`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

variables! {
    /// The client's address; a PROXY header that is believed says it.
    RemoteAddr = "remote_addr" | "binary_remote_addr";
    /// Its port.
    RemotePort = "remote_port";
    /// The address of the connection, which may be a trusted proxy's.
    RealipRemoteAddr = "realip_remote_addr";
    /// Its port.
    RealipRemotePort = "realip_remote_port";
    /// Our side of the connection.
    ServerAddr = "server_addr";
    /// Its port.
    ServerPort = "server_port";
    /// The client, as a PROXY header says.
    ProxyProtocolAddr = "proxy_protocol_addr";
    /// Its port.
    ProxyProtocolPort = "proxy_protocol_port";
    /// The address that the client connected to, as a PROXY header says.
    ProxyProtocolServerAddr = "proxy_protocol_server_addr";
    /// Its port.
    ProxyProtocolServerPort = "proxy_protocol_server_port";
    /// `TCP` or `UDP`.
    Protocol = "protocol";
    /// `200`; `400` without the PROXY header that must be there; `502` when no endpoint could be reached.
    Status = "status";
    /// Bytes to the client.
    BytesSent = "bytes_sent";
    /// Bytes from the client.
    BytesReceived = "bytes_received";
    /// Seconds, three decimals.
    SessionTime = "session_time";
    /// `28/Nov/2026:14:00:00 +0000`, at the end of the session.
    TimeLocal = "time_local";
    /// `2026-11-28T14:00:00+00:00`.
    TimeIso8601 = "time_iso8601";
    /// Seconds since the epoch, three decimals.
    Msec = "msec";
    /// Endpoints that were tried.
    UpstreamAddr = "upstream_addr";
    /// Bytes to them.
    UpstreamBytesSent = "upstream_bytes_sent";
    /// Bytes from them.
    UpstreamBytesReceived = "upstream_bytes_received";
    /// Seconds until their connections stood.
    UpstreamConnectTime = "upstream_connect_time";
    /// Seconds until their first byte.
    UpstreamFirstByteTime = "upstream_first_byte_time";
    /// Seconds with each of them.
    UpstreamSessionTime = "upstream_session_time";
    /// `tcp-<namespace>-<service>-<port>`, `udp-…`; without that beginning where TLS is passed through.
    ProxyUpstreamName = "proxy_upstream_name";
    /// The server name of TLS that is passed through.
    SslPrereadServerName = "ssl_preread_server_name";
    /// Name of the machine.
    Hostname = "hostname";
    /// Process id.
    Pid = "pid";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_variables_are_kept_and_others_are_told() {
        let (template, unknown) = StreamTemplate::parse("$protocol ${status}|$host $bytes_sent$");
        assert_eq!(template.to_string(), "${protocol} ${status}|- ${bytes_sent}-");
        assert_eq!(unknown, ["host", ""]);
        let (default, unknown) = StreamTemplate::parse(LOG_STREAM);
        assert_eq!((default.0.len(), unknown.len()), (14, 0));
    }
}
