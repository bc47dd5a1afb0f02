//! Every metric, declared once: name, kind, labels, help. `docs/reference/metrics.md` is rendered from this table, and
//! `/metrics` from the same declarations, so that neither can name a metric that the other does not have.
//!
//! Sources register a collector; it is called when somebody scrapes, never on the request path. The names under
//! `nginx_ingress_controller_` are those that existing dashboards and alerts query; each is filled with the same meaning.

pub mod histogram;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use histogram::Histogram;
use text::{braces, label_text, render_histogram};

/// How a metric's samples are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets, with sum and count.
    Histogram,
}

/// A metric's declaration.
#[derive(Debug)]
pub struct Metric {
    /// Its name, as scraped.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All metrics, in the order of the reference page.
        pub static METRICS: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    REQUESTS: Counter "nginx_ingress_controller_requests"
        ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"]
        "Client requests answered, by route and status.";
    REQUEST_DURATION: Histogram "nginx_ingress_controller_request_duration_seconds"
        ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"]
        "Time from the first byte of a request to the last byte of its response.";
    RESPONSE_DURATION: Histogram "nginx_ingress_controller_response_duration_seconds"
        ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"]
        "Time spent on receiving the response from the backend.";
    HEADER_DURATION: Histogram "nginx_ingress_controller_header_duration_seconds"
        ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"]
        "Time until the first header of the backend's response.";
    CONNECT_DURATION: Histogram "nginx_ingress_controller_connect_duration_seconds"
        ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"]
        "Time spent on establishing a connection to the backend; 0 when an idle one was used.";
    REQUEST_SIZE: Histogram "nginx_ingress_controller_request_size"
        ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"]
        "Bytes of a request, head and body.";
    RESPONSE_SIZE: Histogram "nginx_ingress_controller_response_size"
        ["status", "method", "path", "namespace", "ingress", "service", "canary", "host"]
        "Bytes of a response's body.";
    CONNECTIONS: Gauge "nginx_ingress_controller_nginx_process_connections"
        ["state"]
        "Client connections that are open, by state.";
    CONNECTIONS_TOTAL: Counter "nginx_ingress_controller_nginx_process_connections_total"
        ["state"]
        "Client connections accepted, and those of them that were handled.";
    REQUESTS_TOTAL: Counter "nginx_ingress_controller_nginx_process_requests_total"
        []
        "Client requests, including those that no route took.";
    RESIDENT_MEMORY: Gauge "nginx_ingress_controller_nginx_process_resident_memory_bytes"
        []
        "Resident memory of the process.";
    CPU_SECONDS: Counter "nginx_ingress_controller_nginx_process_cpu_seconds_total"
        []
        "Processor time that the process used.";
    CERTIFICATE_EXPIRY: Gauge "nginx_ingress_controller_ssl_expire_time_seconds"
        ["namespace", "secret_name", "host", "identifier"]
        "When a served certificate expires, in seconds since the epoch.";
    LAST_RELOAD_SUCCESSFUL: Gauge "nginx_ingress_controller_config_last_reload_successful"
        []
        "Whether every part of the newest configuration could be compiled: 1 or 0.";
    BUILD_INFO: Gauge "portcullis_build_info"
        ["version"]
        "The version of the binary; always 1.";
    MODEL_VERSION: Gauge "portcullis_model_version"
        []
        "Number of the configuration that workers serve; 0 before the first.";
    HEALTH_CHECKS: Counter "portcullis_health_checks_total"
        ["result"]
        "Active checks of endpoints, by result: ok or failed.";
    CHECKED_ENDPOINTS: Gauge "portcullis_checked_endpoints"
        ["upstream", "state"]
        "Endpoints that are actively checked, by backend and state: healthy or unhealthy.";
    REFUSED_PARTS: Gauge "portcullis_config_refused_parts"
        []
        "Parts of the newest configuration that could not be compiled and answer 503.";
    GATE_REFUSED: Counter "portcullis_gate_refused_total"
        ["reason"]
        "Requests refused before routing, by reason.";
    PROXY_ERRORS: Counter "portcullis_proxy_errors_total"
        ["source", "reason"]
        "Requests that ended in an error of the proxy, by whose fault it was and reason.";
    ACCEPT_REFUSED: Counter "portcullis_accept_refused_total"
        ["reason"]
        "Connections closed at accept by an EdgePolicy, by a limit of open ones or for want of a PROXY header, by reason.";
    ACCEPT_ERRORS: Counter "portcullis_accept_errors_total"
        []
        "Failed accepts; the loop pauses when file descriptors run out.";
    TLS_HANDSHAKES: Counter "portcullis_tls_handshakes_total"
        ["result"]
        "TLS handshakes with clients, by result.";
    UPSTREAM_CONNECTIONS: Counter "portcullis_upstream_connections_total"
        ["result"]
        "Attempts to use a connection to an endpoint: new, reused or failed.";
    UPSTREAM_RETRIES: Counter "portcullis_upstream_retries_total"
        []
        "Second and later attempts to send a request.";
    RATE_LIMITED: Counter "portcullis_rate_limited_total"
        []
        "Requests refused by a request rate limit.";
    SHARED_LIMITS_UP: Gauge "portcullis_shared_limits_up"
        []
        "Whether limits are shared with other nodes now: 1 while the Redis answers.";
    SHARED_LIMITS_DROPPED: Counter "portcullis_shared_limits_dropped_total"
        []
        "Requests under a limit that other nodes were not told of.";
    TEMPORARY_BYTES: Gauge "portcullis_temporary_bytes"
        []
        "Bytes of bodies in temporary files.";
    MIRRORED: Counter "portcullis_mirrored_requests_total"
        ["result"]
        "Copies of requests for a mirror: sent, failed, or dropped because the mirror is slow or the body too long.";
    ACCESS_LOG_DROPPED: Counter "portcullis_access_log_dropped_total"
        []
        "Access log lines dropped because the writer could not keep up.";
    PANICS: Counter "portcullis_request_panics_total"
        []
        "Requests that ended in a defect of the proxy and were answered with 500.";
    PACKETS: Counter "portcullis_packets_total"
        ["address", "reason"]
        "Packets by served address and by the reason for which the kernel program let them go or dropped them.";
    PACKET_BYTES: Counter "portcullis_packet_bytes_total"
        ["address", "reason"]
        "Bytes of these packets, Ethernet headers included.";
    DENIED_PACKETS: Counter "portcullis_denied_packets_total"
        ["policy"]
        "Packets that the kernel program dropped because a deny list of this EdgePolicy has their source; empty: not any more.";
    DENIED_CONNECTIONS: Counter "portcullis_denied_connections_total"
        ["policy"]
        "Connections and UDP sessions refused at accept because a deny list of this EdgePolicy has their source.";
    STEERED_PACKETS: Counter "portcullis_steered_packets_total"
        ["node"]
        "Packets that were sent on to another node, by its address.";
    STEERED_BYTES: Counter "portcullis_steered_bytes_total"
        ["node"]
        "Bytes of these packets.";
    TUNNEL_PACKETS: Counter "portcullis_tunnel_packets_total"
        []
        "Packets that other nodes sent on to this one.";
    DROPS_TOLD: Counter "portcullis_drops_told_total"
        ["result"]
        "Dropped packets by whether a record tells of them: told, or untold because there were too many at once.";
    BANS: Gauge "portcullis_bans"
        ["policy"]
        "Sources that are banned now, by the EdgePolicy whose limits they broke.";
    BANS_TOTAL: Counter "portcullis_bans_total"
        ["policy"]
        "Sources that were banned since the agent started.";
    BANS_REFUSED: Counter "portcullis_bans_refused_total"
        ["policy"]
        "Times that a source was not banned because its EdgePolicy bans as many as it may.";
    SOCKET_LOOKUPS: Counter "portcullis_socket_lookups_total"
        ["result"]
        "Connections and datagrams for served ports by what the kernel did with them: assigned to a socket of the proxy, missed for want of one, refused by a socket, or moved from a socket that closed.";
    SYN_COOKIES: Counter "portcullis_syn_cookies_total" ["what"]
        "SYN cookies of the node as its kernel counts them: sent by the stack itself, received (connections opened by one, those of the kernel program included), failed. Those that the kernel program sent are packets of reason cookie-sent.";
    DATAPLANE_MODE: Gauge "portcullis_dataplane_mode"
        ["interface", "mode"]
        "How the kernel half is attached to an interface; 1 for the mode in use.";
    DATAPLANE_DEGRADED: Gauge "portcullis_dataplane_degraded"
        []
        "Whether the node serves by a slower mode than --mode asks for, or may not send SYN cookies as it should: 1 or 0.";
    DEGRADED_NODES: Gauge "portcullis_degraded_nodes"
        []
        "Nodes whose data plane does not serve, serves by a slower mode than was asked for, or is silent; told by the controller that holds the Lease.";
    STALE_SECONDS: Gauge "portcullis_stale_seconds" []
        "For how long the served configuration has not been known to be current; 0 while the API server is followed.";
    LAST_MODEL_SERVED: Gauge "portcullis_last_model_served"
        []
        "Whether the configuration is what an earlier process kept, for the API server was not reached yet: 1 or 0.";
    NODE_STATE: Gauge "portcullis_node_state"
        ["node", "state"]
        "What this node knows of a node of the pools: active, draining or down; 1 for the state it is in.";
    POOL_TABLE: Gauge "portcullis_pool_table"
        ["pool"]
        "Fingerprint of the table that places the flows of a pool; nodes with different ones do not agree.";
    MAP_ENTRIES: Gauge "portcullis_map_entries" ["map"]
        "Entries of a kernel map.";
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Histogram(Box<Histogram>),
}

/// What collectors fill during a scrape. Equal series are added up, so that workers may report apart.
#[derive(Debug, Default)]
pub struct Samples {
    series: BTreeMap<&'static str, (Option<&'static Metric>, BTreeMap<String, Value>)>,
}

impl Samples {
    /// Adds a sample; `labels` are the values in the order of the declaration.
    pub fn add(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        match self.slot(metric, labels, || Value::Number(0.0)) {
            Value::Number(number) => *number += value,
            Value::Histogram(_) => {}
        }
    }

    /// Adds a histogram.
    pub fn add_histogram(&mut self, metric: &'static Metric, labels: &[&str], histogram: &Histogram) {
        match self.slot(metric, labels, || Value::Histogram(Box::new(Histogram::new(histogram.bounds)))) {
            Value::Histogram(sum) => sum.merge(histogram),
            Value::Number(_) => {}
        }
    }

    fn slot(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        empty: impl FnOnce() -> Value,
    ) -> &mut Value {
        let family = self.series.entry(metric.name).or_default();
        family.0 = Some(metric);
        family.1.entry(label_text(metric.labels, labels)).or_insert_with(empty)
    }

    /// The Prometheus text format; `constant` labels stand on every series.
    fn render(&self, constant: &str) -> String {
        let mut text = String::with_capacity(16 * 1024);
        for (metric, series) in self.series.values() {
            let Some(metric) = metric else { continue };
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
            for (labels, value) in series {
                match value {
                    Value::Number(number) => {
                        let _ = writeln!(text, "{}{} {number}", metric.name, braces(&[constant, labels]));
                    }
                    Value::Histogram(histogram) => {
                        render_histogram(&mut text, metric, constant, labels, histogram)
                    }
                }
            }
        }
        text
    }
}

type Collect = Box<dyn Fn(&mut Samples) + Send + Sync>;
type Gather = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Samples>> + Send>> + Send + Sync>;

/// Where the sources of metrics are known. One per process.
#[derive(Default)]
pub struct Registry {
    constant: String,
    collectors: Mutex<Vec<Collect>>,
    gatherers: Mutex<Vec<Gather>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("constant", &self.constant).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A collector that panicked leaves the list itself intact.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// A registry whose series all carry these labels (`controller_pod` and the like); empty values are left out.
    pub fn new(constant: &[(&str, &str)]) -> Self {
        let (names, values): (Vec<&str>, Vec<&str>) =
            constant.iter().copied().filter(|(_, value)| !value.is_empty()).unzip();
        Self { constant: label_text(&names, &values), ..Self::default() }
    }

    /// Adds a source that is read at each scrape.
    pub fn register_collector(&self, collect: impl Fn(&mut Samples) + Send + Sync + 'static) {
        lock(&self.collectors).push(Box::new(collect));
    }

    /// Adds a source that must be asked, as the workers for their shards.
    pub fn register_gatherer<F>(&self, gather: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Vec<Samples>> + Send + 'static,
    {
        lock(&self.gatherers).push(Box::new(move || Box::pin(gather())));
    }

    /// The page of `/metrics`. A source that does not answer within a second is missing from it.
    pub async fn render(&self) -> String {
        let asked: Vec<_> = lock(&self.gatherers).iter().map(|gather| gather()).collect();
        let mut samples = Samples::default();
        for answer in asked {
            if let Ok(parts) = tokio::time::timeout(Duration::from_secs(1), answer).await {
                parts.into_iter().for_each(|part| samples.merge(part));
            }
        }
        for collect in lock(&self.collectors).iter() {
            collect(&mut samples);
        }
        samples.render(&self.constant)
    }
}

impl Samples {
    fn merge(&mut self, other: Self) {
        for (name, (metric, series)) in other.series {
            let family = self.series.entry(name).or_default();
            family.0 = metric;
            for (labels, value) in series {
                match (family.1.get_mut(&labels), value) {
                    (Some(Value::Number(sum)), Value::Number(number)) => *sum += number,
                    (Some(Value::Histogram(sum)), Value::Histogram(histogram)) => sum.merge(&histogram),
                    (_, value) => {
                        family.1.insert(labels, value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
