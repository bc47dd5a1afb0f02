//! Flags of the commands that read objects: from a folder, or from a cluster with kubectl's flags.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::RuleArgs;

/// Where the objects come from.
#[derive(Clone, Debug, Args)]
pub struct ObjectArgs {
    /// Folder or file to read; without it the cluster is asked.
    #[arg(short = 'f', long = "filename", value_name = "DIR")]
    pub filename: Option<PathBuf>,
    /// Kubeconfig of the cluster; default: KUBECONFIG, then the service account of the pod.
    #[arg(long, value_name = "FILE", conflicts_with = "filename")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME", conflicts_with = "filename")]
    pub context: Option<String>,
    /// Only this namespace; default: that of the context, and all of a folder.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// As for the roles.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// How a command that reads objects prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// How `lint` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LintFormat {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// `portcullis lint`.
#[derive(Debug, Args)]
pub struct LintArgs {
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: LintFormat,
}

/// `portcullis explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The URL that a client would ask for.
    pub url: String,
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Method of the request.
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub request: String,
    /// A header of the request, `Name: value`.
    #[arg(short = 'H', long, value_name = "HEADER")]
    pub header: Vec<String>,
    /// The address that the client comes from.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub from: IpAddr,
    /// Server name of the TLS handshake; default: the host of the URL.
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// Ask the process with this --admin-socket about what it serves now, instead of reading objects.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["filename", "kubeconfig", "context"])]
    pub socket: Option<PathBuf>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: ObjectFormat,
}

/// `portcullis ingresses`.
#[derive(Debug, Args)]
pub struct IngressesArgs {
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Only rules of this host.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: ObjectFormat,
}

/// `portcullis backends`.
#[derive(Debug, Args)]
pub struct BackendsArgs {
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Only this backend, by `.name`.
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Names only.
    #[arg(long)]
    pub list: bool,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "json")]
    pub output: ObjectFormat,
}

/// `portcullis certs`.
#[derive(Debug, Args)]
pub struct CertsArgs {
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Only what a handshake for this name gets; prints the chain as PEM.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub output: ObjectFormat,
}

/// `portcullis conf`.
#[derive(Debug, Args)]
pub struct ConfArgs {
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Only this host.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}
