//! The command line: process settings only, never routing. `docs/reference/cli.md` is generated from it.
//!
//! Flags that ingress-nginx has keep their name and meaning.

pub mod compat;
pub mod objects;
pub mod publish;
pub mod tools;
pub mod webhook;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use compat::{CompatArgs, duration, switch};
use objects::{BackendsArgs, CertsArgs, ConfArgs, ExplainArgs, IngressesArgs, LintArgs};
use publish::PublishArgs;
use tools::{
    BansArgs, CleanupArgs, DropsArgs, MapsArgs, PreflightArgs, ProbeArgs, ReferenceArgs, StatusArgs, TopArgs,
};
use webhook::{WebhookArgs, WebhookCertificateArgs};

/// eBPF-accelerated ingress for Kubernetes on bare metal.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Roles and tools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Agent, proxy and controller in one process: a folder of manifests, or a cluster.
    Run(RunArgs),
    /// The privileged half of a node: watches the cluster, loads the kernel programs, feeds the proxy.
    Agent(AgentArgs),
    /// The unprivileged half of a node: TLS and HTTP.
    Proxy(ProxyArgs),
    /// What one replica does for the cluster: status and Events.
    Controller(ControllerArgs),
    /// Answers the API server about Ingresses before it stores them: warnings, and denials as ingress-nginx has them.
    Webhook(WebhookArgs),
    /// Reports per Ingress, annotation and ConfigMap key whether it is supported, and every mistake with its fix.
    Lint(LintArgs),
    /// Says step by step what becomes of a request: certificate, host, path, candidates, filters, endpoints.
    Explain(ExplainArgs),
    /// Lists the rules of our Ingresses with their addresses and endpoints.
    Ingresses(IngressesArgs),
    /// Prints the backends and their endpoints as JSON.
    Backends(BackendsArgs),
    /// Lists the certificates and what they serve.
    Certs(CertsArgs),
    /// Prints the whole configuration as it would be served, secrets redacted.
    Conf(ConfArgs),
    /// Prints the kernel maps and what they hold.
    Maps(MapsArgs),
    /// Says which mode each interface runs in and what the kernel counted.
    Status(StatusArgs),
    /// Shows packets that are dropped: from whom, for what address and why, as they come.
    Drops(DropsArgs),
    /// Lists the sources that this node bans, and ends bans before their time.
    Bans(BansArgs),
    /// Says who is sent most, whose limits are nearly used up and whose packets are dropped; or what deny lists caught.
    Top(TopArgs),
    /// Looks for what on this node stands in the way; exit code 1: warnings, 2: something does not work.
    Preflight(PreflightArgs),
    /// Asks the admin endpoint of a running process; exit code 0 when it says yes. For exec probes.
    Probe(ProbeArgs),
    /// Removes every trace from the kernel: links, programs, maps, routes.
    Cleanup(CleanupArgs),
    /// Prints a generated reference page or manifest (used by `cargo xtask gen`).
    #[command(hide = true)]
    Reference(ReferenceArgs),
}

/// How the kernel half is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// The best that works, stepping down with one message each.
    Auto,
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network stack: works everywhere, slower.
    XdpGeneric,
    /// TC, where XDP is taken by another program or refused: slower still.
    Tc,
    /// No kernel programs; the proxy listens on the served ports itself.
    Userspace,
}

/// `text` or `json` log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable.
    Text,
    /// One JSON object per line.
    Json,
}

/// Logging, the same for every role.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// error, warn, info, debug or trace; or directives as `info,portcullis::bpf=debug`.
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// Format of log lines.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Verbosity as ingress-nginx counts it: from 5 on `--log-level` is `debug`, unless it is given.
    #[arg(long = "v", value_name = "LEVEL")]
    pub v: Option<u8>,
    /// Taken for the sake of charts.
    #[command(flatten)]
    pub compat: CompatArgs,
}

/// Where the world comes from.
#[derive(Clone, Debug, Args)]
pub struct SourceArgs {
    /// Serve the objects in this folder (YAML and JSON, recursive) and follow changes, instead of a cluster.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Kubeconfig of the cluster; default: KUBECONFIG, then the service account of the pod.
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// Only Secrets of these namespaces are read, for clusters where the rest may not be; default all.
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "manifests")]
    pub secret_namespace: Vec<String>,
    /// Everything is listed again about this often, and soon after a watch broke; 0: only then.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub sync_period: Duration,
    /// Which part of it is ours.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// Which objects are ours, and what holds for all of them.
#[derive(Clone, Debug, Args)]
pub struct RuleArgs {
    /// IngressClasses with this `spec.controller` are ours.
    #[arg(long, value_name = "NAME", default_value = "portcullis.dev/ingress-controller")]
    pub controller_class: Vec<String>,
    /// Name of our class in the legacy annotation `kubernetes.io/ingress.class`.
    #[arg(long, value_name = "NAME", default_value = "portcullis")]
    pub ingress_class: String,
    /// Also serve Ingresses that name no class.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub watch_ingress_without_class: bool,
    /// An IngressClass with the name of `--ingress-class` is ours, whatever controller it names.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub ingress_class_by_name: bool,
    /// Ingresses with a `defaultBackend` and without rules are not served.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub disable_catch_all: bool,
    /// Only namespaces with these labels.
    #[arg(long, value_name = "SELECTOR")]
    pub watch_namespace_selector: Option<String>,
    /// Only this namespace; default all.
    #[arg(long, value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// ConfigMap with cluster-wide settings, `namespace/name`.
    #[arg(long, value_name = "NS/NAME")]
    pub configmap: Option<String>,
    /// ConfigMap with services of TCP ports, `namespace/name`: `port: namespace/service:port[:PROXY[:PROXY]]`.
    #[arg(long, value_name = "NS/NAME")]
    pub tcp_services_configmap: Option<String>,
    /// ConfigMap with services of UDP ports, `namespace/name`: `port: namespace/service:port`.
    #[arg(long, value_name = "NS/NAME")]
    pub udp_services_configmap: Option<String>,
    /// Serve no Services of type ExternalName.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub disable_svc_external_name: bool,
    /// Honour the annotation `ssl-passthrough`.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub enable_ssl_passthrough: bool,
    /// Send only to endpoints of the zone of `--node-zone`, where every endpoint of a Service has hints about zones and one of
    /// them is for this zone.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub enable_topology_aware_routing: bool,
    /// Zone of this node, as the hints of EndpointSlices name it.
    #[arg(long, value_name = "ZONE", env = "NODE_ZONE")]
    pub node_zone: Option<String>,
    /// Service for requests that no rule matches, `namespace/name`; default: answer 404.
    #[arg(long, value_name = "NS/NAME")]
    pub default_backend_service: Option<String>,
    /// Certificate for names that no other covers, `namespace/name`; default: self-signed.
    #[arg(long, value_name = "NS/NAME")]
    pub default_ssl_certificate: Option<String>,
    /// Labels of our proxies' pods, `name=value,…`: a Service of the load balancer class `portcullis.dev/l4` that selects them
    /// is served by us, and gets an address of an AddressPool.
    #[arg(long, value_name = "LABELS", default_value = "app.kubernetes.io/name=portcullis")]
    pub proxy_pods: String,
    /// Namespace of these pods, and of such Services; default: any.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub proxy_pods_namespace: Option<String>,
    /// Secret with the key that the nodes of AddressPools share, `namespace/name`, under `key` (16 hexadecimal digits, or 8
    /// bytes in base64), `previous` (accepted as well) and `seed`; default: the controller makes one, and a folder has
    /// `default/portcullis-cluster-key`.
    #[arg(long, value_name = "NS/NAME")]
    pub cluster_key_secret: Option<String>,
    /// Prefix of the annotations.
    #[arg(long, value_name = "PREFIX", default_value = "nginx.ingress.kubernetes.io")]
    pub annotations_prefix: String,
}

/// The kernel half.
#[derive(Clone, Debug, Args)]
pub struct DataplaneArgs {
    /// How the kernel half is attached.
    #[arg(long, value_enum, default_value = "auto")]
    pub mode: ModeArg,
    /// Interfaces to attach to; default: those that carry the node's addresses.
    #[arg(long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Attach at TC by filters also where the kernel has links for it (from 6.6 on), as on older kernels.
    #[arg(long, hide = true)]
    pub without_tcx: bool,
    /// Addresses of the node that are served (`node` addresses, and userspace mode); default 0.0.0.0 and [::].
    #[arg(long, value_name = "ADDR")]
    pub bind_address: Vec<IpAddr>,
    /// Mount point of the BPF file system.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// Name of this node; default: the host name.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
}

/// Ports that clients connect to.
#[derive(Clone, Debug, Args)]
pub struct PortArgs {
    /// Port for HTTP; 0: any free one, printed at start.
    #[arg(long, default_value_t = 80)]
    pub http_port: u16,
    /// Port for HTTPS; 0: any free one, printed at start.
    #[arg(long, default_value_t = 443)]
    pub https_port: u16,
}

/// The L7 proxy.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Worker threads; default: one per CPU.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Seconds between SIGTERM and the end of accepting: time for load balancers to notice.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub shutdown_grace_period: u64,
    /// Seconds that open connections get to finish after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    pub drain_timeout: u64,
    /// Access log: `-` for standard output, a file, or `off`.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub access_log: String,
    /// Metrics of requests name the host.
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub metrics_per_host: bool,
    /// Metrics of requests name the class of the status (`2xx`) instead of the status.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub report_status_classes: bool,
    /// Folder of temporary files, for bodies that do not fit into memory; default: TMPDIR, else /tmp.
    #[arg(long, value_name = "DIR")]
    pub temp_dir: Option<PathBuf>,
    /// MiB that all temporary files together may have.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub temp_limit: u64,
}

/// Health and metrics.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// Port for /healthz, /readyz and /metrics; 0: any free one, printed at start.
    #[arg(long, default_value_t = 10254)]
    pub healthz_port: u16,
    /// Address for them; default: those of `--bind-address`, else all.
    #[arg(long, value_name = "ADDR")]
    pub healthz_host: Option<IpAddr>,
    /// Serve /metrics.
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub enable_metrics: bool,
    /// Unix socket with the same endpoints and the read-only dumps.
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
}

/// `portcullis run`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each field is a group of documented flags")]
pub struct RunArgs {
    /// File on a tmpfs in which the last configuration, keys included, is kept for a start without the API server; default:
    /// none.
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub last_model: Option<PathBuf>,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub dataplane: DataplaneArgs,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub workers: WorkerArgs,
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub publish: PublishArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `portcullis agent`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each field is a group of documented flags")]
pub struct AgentArgs {
    /// Unix socket on which proxies connect.
    #[arg(long, value_name = "PATH", default_value = "/run/portcullis/agent.sock")]
    pub link_socket: PathBuf,
    /// File on a tmpfs in which the last configuration, keys included, is kept for a start without the API server.
    #[arg(long, value_name = "FILE", default_value = "/run/portcullis/state/last-model")]
    pub last_model: PathBuf,
    /// Read Secrets and ConfigMaps only as the controller copied them into this namespace.
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["manifests", "secret_namespace"])]
    pub sync_namespace: Option<String>,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub dataplane: DataplaneArgs,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `portcullis proxy`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each field is a group of documented flags")]
pub struct ProxyArgs {
    /// Unix socket of the agent.
    #[arg(long, value_name = "PATH", default_value = "/run/portcullis/agent.sock")]
    pub link_socket: PathBuf,
    #[command(flatten)]
    pub workers: WorkerArgs,
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `portcullis controller`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "each field is a group of documented flags")]
pub struct ControllerArgs {
    /// Copy every referenced Secret and ConfigMap into this namespace, for agents that read nothing else of these kinds.
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "manifests")]
    pub sync_namespace: Option<String>,
    #[command(flatten)]
    pub webhook: WebhookCertificateArgs,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub publish: PublishArgs,
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub log: LogArgs,
}
