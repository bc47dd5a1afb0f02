//! What is logged of requests: the format, where lines go, and which requests are left out.

pub mod stream;

use serde::{Deserialize, Serialize};

use self::stream::StreamLog;
use super::template::Template;

/// The format `upstreaminfo` of ingress-nginx.
pub const UPSTREAMINFO: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                                \"$http_referer\" \"$http_user_agent\" $request_length $request_time \
                                [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr \
                                $upstream_response_length $upstream_response_time $upstream_status $req_id";

/// The access log: of HTTP requests, and of what is not HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Requests are logged at all.
    pub is_on: bool,
    /// A line.
    pub format: Template,
    /// How values are made safe.
    pub escape: Escape,
    /// Requests whose target (path and query, as sent) is one of these are not logged: a text to compare without regard to
    /// case, `~` and a regular expression, or `~*` and one without regard to case.
    pub skipped: Vec<String>,
    /// Requests that no host of the configuration takes are logged, too.
    pub has_unmatched: bool,
    /// Where lines go.
    pub destination: LogDestination,
    /// What is logged of connections and datagrams that are not read.
    pub streams: StreamLog,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            is_on: true,
            format: Template::parse(UPSTREAMINFO).unwrap_or_default(),
            escape: Escape::Hex,
            skipped: Vec::new(),
            has_unmatched: false,
            destination: LogDestination::AsStarted,
            streams: StreamLog::default(),
        }
    }
}

/// How the values of variables are made safe for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Escape {
    /// Quotes, backslashes and all that is no printable ASCII as `\xHH`; nothing is `-`.
    Hex,
    /// As the inside of a JSON string; nothing is empty.
    Json,
    /// Not at all; nothing is empty.
    None,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDestination {
    /// Where the process was told at its start.
    #[default]
    AsStarted,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(String),
    /// A syslog server, by UDP: `host:port`.
    Syslog(String),
}
