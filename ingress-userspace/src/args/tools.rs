//! Flags of the short commands.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::compat::duration;

/// How a tool prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Columns.
    Table,
    /// JSON.
    Json,
}

/// `portcullis maps`.
#[derive(Debug, Args)]
pub struct MapsArgs {
    /// What this map holds; default: a line about each.
    pub name: Option<String>,
    /// The layout instead: every field with offset, type and unit, and the memory that it takes. Of all maps, or of NAME.
    #[arg(long)]
    pub schema: bool,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: OutputFormat,
    /// Mount point of the BPF file system.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
}

/// `portcullis status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: OutputFormat,
    /// Mount point of the BPF file system.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// Admin socket of the agent, which knows whether the configuration is current.
    #[arg(long, value_name = "PATH", default_value = "/run/portcullis/agent-admin.sock")]
    pub admin_socket: PathBuf,
}

/// `portcullis drops`.
#[derive(Debug, Args)]
pub struct DropsArgs {
    /// Also show what was dropped within this time before, as far as the agent remembers it; default: only what comes, and with
    /// `--once` all that is remembered.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
    /// End with what is known now instead of waiting for more.
    #[arg(long)]
    pub once: bool,
    /// Only packets for this served address.
    #[arg(long, value_name = "ADDR")]
    pub vip: Option<IpAddr>,
    /// Only packets from this address or prefix.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub source: Option<IpNet>,
    /// How to print; `json`: an object per line.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: OutputFormat,
    /// Mount point of the BPF file system, for a node without an agent.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// Admin socket of the agent, which reads and remembers the drops.
    #[arg(long, value_name = "PATH", default_value = "/run/portcullis/agent-admin.sock")]
    pub admin_socket: PathBuf,
}

/// An address or a prefix.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_not_a_prefix| "write an address or a prefix such as 198.51.100.0/24".to_owned())
}

/// `portcullis bans`.
#[derive(Debug, Args)]
pub struct BansArgs {
    /// End the bans of this address, or of every source in this prefix, instead of listing them. Several may be given;
    /// `0.0.0.0/0` and `::/0` end all. A source that goes on breaking limits is banned again.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub lift: Vec<IpNet>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: OutputFormat,
    /// Mount point of the BPF file system.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
}

/// `portcullis top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Of what.
    #[arg(value_enum, default_value = "sources")]
    pub what: TopOf,
    /// How many of each.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub number: usize,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: OutputFormat,
    /// Mount point of the BPF file system.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// Admin socket of the agent, which remembers the drops.
    #[arg(long, value_name = "PATH", default_value = "/run/portcullis/agent-admin.sock")]
    pub admin_socket: PathBuf,
}

/// What `portcullis top` ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TopOf {
    /// Clients.
    Sources,
    /// Entries of deny lists, by the packets that they caught.
    Lists,
}

/// `portcullis preflight`.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// Interfaces that clients come in by; default: those that carry the node's addresses.
    #[arg(long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Addresses of AddressPools, to be looked for in the rules of other programs.
    #[arg(long, value_name = "ADDR")]
    pub vip: Vec<IpAddr>,
    /// Port for HTTP.
    #[arg(long, default_value_t = 80)]
    pub http_port: u16,
    /// Port for HTTPS.
    #[arg(long, default_value_t = 443)]
    pub https_port: u16,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: OutputFormat,
    /// Mount point of the BPF file system.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
}

/// `portcullis probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// `/healthz` or `/readyz`.
    #[arg(default_value = "/readyz")]
    pub path: String,
    /// Unix socket to ask.
    #[arg(long, value_name = "PATH", conflicts_with = "address")]
    pub socket: Option<PathBuf>,
    /// TCP address to ask.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10254")]
    pub address: SocketAddr,
}

/// `portcullis cleanup`.
#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// Mount point of the BPF file system.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
}

/// `portcullis reference`.
#[derive(Debug, Args)]
pub struct ReferenceArgs {
    /// Which page.
    #[arg(value_enum)]
    pub page: ReferencePage,
}

/// The generated pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReferencePage {
    /// docs/reference/annotations.md
    Annotations,
    /// docs/reference/configmap.md
    #[value(name = "configmap")]
    ConfigMap,
    /// docs/reference/metrics.md
    Metrics,
    /// docs/reference/bpf-maps.md
    BpfMaps,
    /// docs/reference/cli.md
    Cli,
    /// docs/reference/problems.md
    Problems,
    /// docs/reference/objects.md
    Objects,
    /// charts/portcullis/crds/*.yaml
    Crds,
}
