//! Flags of the short commands.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    /// Only this map.
    pub name: Option<String>,
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
    /// charts/portcullis/crds/*.yaml
    Crds,
}
