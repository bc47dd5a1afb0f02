//! Settings of the process, and those that make sense for nginx's processes alone.

use std::net::IpAddr;
use std::time::Duration;

use super::registry::config_keys;
use super::value::plain;
use super::{Effect, Reader, value};

config_keys! { "The process";
    /// How long open connections get to finish when the process ends. Unlike in ingress-nginx, where it also ends the
    /// connections of old workers after each change, a change of the configuration ends no connection. Without it the
    /// flag `--drain-timeout` holds, whose default is the same.
    WORKER_SHUTDOWN_TIMEOUT: Duration = "worker-shutdown-timeout", parse: plain::time, values: "a time as nginx writes it",
    default: "240s", on_invalid: Warn, support: Differs;
    /// Accepted, and nothing is done: there is a worker per CPU that the pod may use; the flag `--workers` sets another
    /// number, at start.
    WORKER_PROCESSES: String = "worker-processes", parse: workers, values: "a number, or auto", default: "auto",
    on_invalid: Note, support: Ignored;
    /// Addresses of the node that are served; without it those of the flag `--bind-address`, else all.
    BIND_ADDRESS: Vec<IpAddr> = "bind-address", parse: plain::addresses, values: "addresses, separated by commas",
    default: "", on_invalid: Warn, support: Same;
    /// IPv6 addresses of the node are not served. VIPs are: their family is what the AddressPool says.
    DISABLE_IPV6: bool = "disable-ipv6", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Same;
    /// Names of ExternalName Services, of `auth-url` and of `mirror-target` are looked up for IPv4 addresses alone.
    DISABLE_IPV6_DNS: bool = "disable-ipv6-dns", parse: value::boolean, values: "true or false", default: "false",
    on_invalid: Warn, support: Same;
    /// Accepted, and nothing is done: every worker has a listening socket of its own.
    REUSE_PORT: bool = "reuse-port", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: a worker accepts as long as there is something to accept.
    ENABLE_MULTI_ACCEPT: bool = "enable-multi-accept", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: log lines and temporary files are written by threads beside the workers.
    ENABLE_AIO_WRITE: bool = "enable-aio-write", parse: value::boolean, values: "true or false", default: "true",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: the scheduler places the workers.
    WORKER_CPU_AFFINITY: String = "worker-cpu-affinity", parse: plain::text, values: "text", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: nothing is reloaded.
    ENABLE_SERIAL_RELOADS: bool = "enable-serial-reloads", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: the limit on open files is what the container has.
    MAX_WORKER_OPEN_FILES: String = "max-worker-open-files", parse: plain::text, values: "a number", default: "0",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tables grow with what they hold.
    MAP_HASH_BUCKET_SIZE: String = "map-hash-bucket-size", parse: plain::text, values: "a number", default: "64",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tables grow with what they hold.
    SERVER_NAME_HASH_MAX_SIZE: String = "server-name-hash-max-size", parse: plain::text, values: "a number",
    default: "1024", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tables grow with what they hold.
    SERVER_NAME_HASH_BUCKET_SIZE: String = "server-name-hash-bucket-size", parse: plain::text, values: "a number",
    default: "", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tables grow with what they hold.
    PROXY_HEADERS_HASH_MAX_SIZE: String = "proxy-headers-hash-max-size", parse: plain::text, values: "a number",
    default: "512", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tables grow with what they hold.
    PROXY_HEADERS_HASH_BUCKET_SIZE: String = "proxy-headers-hash-bucket-size", parse: plain::text, values: "a number",
    default: "64", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tables grow with what they hold.
    VARIABLES_HASH_BUCKET_SIZE: String = "variables-hash-bucket-size", parse: plain::text, values: "a number",
    default: "256", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: tables grow with what they hold.
    VARIABLES_HASH_MAX_SIZE: String = "variables-hash-max-size", parse: plain::text, values: "a number",
    default: "2048", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: there is no Lua.
    LUA_SHARED_DICTS: String = "lua-shared-dicts", parse: plain::text, values: "text", default: "",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: there is no status page of nginx. Metrics are on port 10254.
    NGINX_STATUS_IPV4_WHITELIST: String = "nginx-status-ipv4-whitelist", parse: plain::text, values: "text",
    default: "127.0.0.1", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: there is no status page of nginx. Metrics are on port 10254.
    NGINX_STATUS_IPV6_WHITELIST: String = "nginx-status-ipv6-whitelist", parse: plain::text, values: "text",
    default: "::1", on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: every answer of the proxy itself says what it is.
    DEFAULT_TYPE: String = "default-type", parse: plain::text, values: "a media type", default: "text/html",
    on_invalid: Note, support: Ignored;
    /// Accepted, and nothing is done: `--log-level debug` shows every connection.
    DEBUG_CONNECTIONS: String = "debug-connections", parse: plain::text, values: "text", default: "",
    on_invalid: Note, support: Ignored;
}

/// What the process takes from the ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// `worker-shutdown-timeout`, if it is given.
    pub drain: Option<Duration>,
    /// `bind-address`.
    pub bind_addresses: Vec<IpAddr>,
    /// `disable-ipv6`.
    pub is_ipv4_only: bool,
}

/// The settings of the process.
pub(super) fn parse(reader: &mut Reader<'_>) -> Process {
    let mut bind_addresses = reader.get(&BIND_ADDRESS).value().unwrap_or_default();
    let is_ipv4_only = reader.value(&DISABLE_IPV6);
    if is_ipv4_only && !bind_addresses.is_empty() && bind_addresses.iter().all(IpAddr::is_ipv6) {
        if let Some(found) = reader.find(&BIND_ADDRESS.row) {
            let message =
                "names IPv6 addresses alone, and disable-ipv6 is set: it is not applied; remove one of them";
            reader.report(&found, Effect::Warn, message);
        }
        bind_addresses.clear();
    }
    // A default that was written out is one: it does not undo the flag.
    let default = value_of_default();
    let drain = reader.get(&WORKER_SHUTDOWN_TIMEOUT).value().filter(|drain| Some(*drain) != default);
    Process { drain, bind_addresses, is_ipv4_only }
}

fn value_of_default() -> Option<Duration> {
    plain::time(WORKER_SHUTDOWN_TIMEOUT.row.default).ok()
}

fn workers(text: &str) -> Result<String, String> {
    if text == "auto" || value::positive(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err("is neither a number nor auto".to_owned())
    }
}
