//! What is logged of requests and of other sessions, and where lines go.

use super::registry::{Row, annotations, config_keys};
use super::value::plain;
use super::{Effect, Reader, value};
use crate::model::log::stream::{StreamLog, StreamTemplate};
use crate::model::log::{AccessLog, Escape, LogDestination};
use crate::model::template::Template;

annotations! { "Access log";
    /// `false`: requests of this Ingress are not logged. They are counted by the metrics nevertheless.
    ENABLE_ACCESS_LOG: bool = "enable-access-log", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// Accepted, and nothing is done: there is no rewrite log. `portcullis explain` shows what became of a path.
    ENABLE_REWRITE_LOG: bool = "enable-rewrite-log", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Note, scope: "path", twins: [], in: Annotation, support: Ignored;
}

config_keys! { "Access log, cluster-wide";
    /// The format of a line, with nginx's variables. One that nobody knows is reported and prints `-` (nginx would not
    /// start with it). `$uri` and `$host` are those of the request before filters change it; they, cookies, arguments and
    /// `$ssl_*` are `-` in lines of requests that were refused as malformed. `$upstream_http_*` is what the client got.
    LOG_FORMAT_UPSTREAM: Format = "log-format-upstream", parse: format, values: "text with variables",
    default: "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\" $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id",
    on_invalid: Warn, support: Differs;
    /// Values are escaped to stand in JSON strings, and what has no value is empty instead of `-`.
    LOG_FORMAT_ESCAPE_JSON: bool = "log-format-escape-json", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// Values are not escaped at all, and what has no value is empty. A client can then write line breaks into the log.
    LOG_FORMAT_ESCAPE_NONE: bool = "log-format-escape-none", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// Neither requests nor other sessions are logged.
    DISABLE_ACCESS_LOG: bool = "disable-access-log", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Same;
    /// No HTTP request is logged.
    DISABLE_HTTP_ACCESS_LOG: bool = "disable-http-access-log", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// The format of the line that each TCP connection and UDP session leaves when it has ended, with the variables of
    /// nginx's stream modules: `$remote_addr`, `$remote_port`, `$protocol`, `$status`, `$bytes_sent`, `$bytes_received`,
    /// `$session_time`, `$time_local`, `$time_iso8601`, `$msec`, `$server_addr`, `$server_port`, `$upstream_addr`,
    /// `$upstream_bytes_sent`, `$upstream_bytes_received`, `$upstream_connect_time`, `$upstream_first_byte_time`,
    /// `$upstream_session_time`, `$proxy_upstream_name`, `$proxy_protocol_*`, `$realip_remote_*`, `$hostname`, `$pid`. Any
    /// other is reported and prints `-`. Unlike in ingress-nginx, TLS that is passed through is logged as well, with
    /// `$ssl_preread_server_name`, and connections that a list or a limit refused are not: metrics count them.
    LOG_FORMAT_STREAM: StreamFormat = "log-format-stream", parse: stream_format, values: "text with variables",
    default: "[$remote_addr] [$time_local] $protocol $status $bytes_sent $bytes_received $session_time",
    on_invalid: Warn, support: Differs;
    /// Neither TCP connections nor UDP sessions nor TLS that is passed through are logged.
    DISABLE_STREAM_ACCESS_LOG: bool = "disable-stream-access-log", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Same;
    /// `access-log-path` for TCP connections and UDP sessions alone; it wins over that key.
    STREAM_ACCESS_LOG_PATH: String = "stream-access-log-path", parse: log_path, values: "the absolute path of a file",
    default: "", on_invalid: Warn, support: Same;
    /// Where lines go. ingress-nginx's default, which is a link to standard output there, means what the flag
    /// `--access-log` says, which is standard output, too, unless it was changed; `--access-log off` wins. A file that
    /// cannot be opened leaves the log where it was.
    ACCESS_LOG_PATH: String = "access-log-path", parse: log_path, values: "the absolute path of a file",
    default: "/var/log/nginx/access.log", on_invalid: Warn, support: Same;
    /// The same for HTTP requests alone; it wins over `access-log-path`.
    HTTP_ACCESS_LOG_PATH: String = "http-access-log-path", parse: log_path, values: "the absolute path of a file",
    default: "", on_invalid: Warn, support: Same;
    /// Accepted, and nothing is done: lines are always buffered for at most 100 ms, and rotation is left to whoever reads
    /// standard output.
    ACCESS_LOG_PARAMS: String = "access-log-params", parse: plain::text, values: "text",
    default: "", on_invalid: Note, support: Ignored;
    /// Requests that no host of an Ingress takes are logged, too.
    ENABLE_ACCESS_LOG_FOR_DEFAULT_BACKEND: bool = "enable-access-log-for-default-backend", parse: value::boolean,
    values: "true or false", default: "false", on_invalid: Warn, support: Same;
    /// Accepted, and nothing is done: requests to authentication services are not logged. What came of one shows in the
    /// line of the request that it was about, and verdicts that could not be had are counted by
    /// `portcullis_proxy_errors_total`.
    ENABLE_AUTH_ACCESS_LOG: bool = "enable-auth-access-log", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Note, support: Ignored;
    /// Requests that are not logged: path and query as sent, compared without regard to case; `~` begins a regular
    /// expression, `~*` one without regard to case.
    SKIP_ACCESS_LOG_URLS: Vec<String> = "skip-access-log-urls", parse: skipped, values: "targets, separated by commas",
    default: "", on_invalid: Warn, support: Same;
    /// Lines go to a syslog server by UDP instead of a file. The process log does not.
    ENABLE_SYSLOG: bool = "enable-syslog", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Differs;
    /// The syslog server.
    SYSLOG_HOST: String = "syslog-host", parse: host, values: "a host name or an address", default: "",
    on_invalid: Warn, support: Same;
    /// Its port.
    SYSLOG_PORT: u16 = "syslog-port", parse: plain::port, values: "a port", default: "514",
    on_invalid: Warn, support: Same;
    /// Accepted, and nothing is done: the process log goes to standard error.
    ERROR_LOG_PATH: String = "error-log-path", parse: plain::text, values: "text",
    default: "/var/log/nginx/error.log", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: the level of the process log is the flag `--log-level`.
    ERROR_LOG_LEVEL: String = "error-log-level", parse: plain::text, values: "text",
    default: "notice", on_invalid: Note, support: Ignored;
}

/// A format, and the variables in it that nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// With `-` where an unknown variable stood.
    pub template: Template,
    /// Their names.
    pub unknown: Vec<String>,
}

/// A format of sessions, and the variables in it that nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFormat {
    /// With `-` where an unknown variable stood.
    pub template: StreamTemplate,
    /// Their names.
    pub unknown: Vec<String>,
}

/// Whether the requests of an Ingress are logged.
pub(super) fn parse(reader: &mut Reader<'_>) -> bool {
    reader.get(&ENABLE_REWRITE_LOG);
    reader.value(&ENABLE_ACCESS_LOG)
}

/// The access log of the whole proxy.
pub(super) fn parse_global(reader: &mut Reader<'_>) -> AccessLog {
    let format = reader.value(&LOG_FORMAT_UPSTREAM);
    report_unknown(reader, &LOG_FORMAT_UPSTREAM.row, &format.unknown);
    let is_off = reader.value(&DISABLE_ACCESS_LOG) | reader.value(&DISABLE_HTTP_ACCESS_LOG);
    let is_json = reader.value(&LOG_FORMAT_ESCAPE_JSON);
    let escape = match reader.value(&LOG_FORMAT_ESCAPE_NONE) {
        true => Escape::None,
        false if is_json => Escape::Json,
        false => Escape::Hex,
    };
    AccessLog {
        is_on: !is_off,
        format: format.template,
        escape,
        skipped: reader.value(&SKIP_ACCESS_LOG_URLS),
        has_unmatched: reader.value(&ENABLE_ACCESS_LOG_FOR_DEFAULT_BACKEND),
        destination: destination(reader),
        streams: streams(reader),
    }
}

/// The log of what is not HTTP. Its lines are escaped as by default, and never go to a syslog server: so it is in
/// ingress-nginx.
fn streams(reader: &mut Reader<'_>) -> StreamLog {
    let format = reader.value(&LOG_FORMAT_STREAM);
    report_unknown(reader, &LOG_FORMAT_STREAM.row, &format.unknown);
    let is_off = reader.value(&DISABLE_ACCESS_LOG) | reader.value(&DISABLE_STREAM_ACCESS_LOG);
    let general = reader.get(&ACCESS_LOG_PATH).value();
    let path = reader.get(&STREAM_ACCESS_LOG_PATH).value().or(general);
    StreamLog { is_on: !is_off, format: format.template, destination: at(path.as_deref()) }
}

fn report_unknown(reader: &mut Reader<'_>, row: &'static Row, unknown: &[String]) {
    if let Some(found) = reader.find(row).filter(|_| !unknown.is_empty()) {
        let names: Vec<String> = unknown.iter().map(|name| format!("${name}")).collect();
        let message = format!("nobody knows {}; - is printed there; correct or remove it", names.join(", "));
        reader.report(&found, Effect::Warn, message);
    }
}

fn destination(reader: &mut Reader<'_>) -> LogDestination {
    let general = reader.get(&ACCESS_LOG_PATH).value();
    let path = reader.get(&HTTP_ACCESS_LOG_PATH).value().or(general);
    let (host, port) = (reader.value(&SYSLOG_HOST), reader.value(&SYSLOG_PORT));
    if reader.value(&ENABLE_SYSLOG) {
        if !host.is_empty() {
            return LogDestination::Syslog(format!("{host}:{port}"));
        }
        if let Some(found) = reader.find(&ENABLE_SYSLOG.row) {
            let message = "no server is named, so that lines go where they would without it; set syslog-host";
            reader.report(&found, Effect::Warn, message);
        }
    }
    at(path.as_deref())
}

/// The files that ingress-nginx links to its standard output and error are those.
fn at(path: Option<&str>) -> LogDestination {
    match path {
        None | Some("/var/log/nginx/access.log") => LogDestination::AsStarted,
        Some("/dev/stdout") => LogDestination::Stdout,
        Some("/dev/stderr" | "/var/log/nginx/error.log") => LogDestination::Stderr,
        Some(path) => LogDestination::File(path.to_owned()),
    }
}

fn format(text: &str) -> Result<Format, String> {
    let (template, unknown) = Template::parse_leniently(text, "-");
    Ok(Format { template, unknown })
}

fn stream_format(text: &str) -> Result<StreamFormat, String> {
    let (template, unknown) = StreamTemplate::parse(text);
    Ok(StreamFormat { template, unknown })
}

fn log_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if is_path { Ok(text.to_owned()) } else { Err("is not the absolute path of a file".to_owned()) }
}

fn host(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if !text.is_empty() && text.chars().all(is_plain) {
        // An IPv6 address stands in brackets before a port.
        let is_bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
        return Ok(if is_bare_v6 { format!("[{text}]") } else { text.to_owned() });
    }
    Err("is neither a host name nor an address".to_owned())
}

fn skipped(text: &str) -> Result<Vec<String>, String> {
    let entries: Vec<String> =
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
    for entry in entries.iter().filter_map(|entry| entry.strip_prefix('~')) {
        let pattern = entry.strip_prefix('*').unwrap_or(entry);
        regex::Regex::new(pattern)
            .map_err(|_error| format!("holds {pattern}, which is no regular expression"))?;
    }
    Ok(entries)
}
