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

/// What `lint` ends with, and what its words mean.
const LINT_HELP: &str = "\
Exit status: 0 when there is nothing but notes, 1 with a warning or an error, 2 when nothing could be looked at.

Verdicts of an Ingress: `supported`; `supported with a difference` (its requests are served, and a setting works otherwise or \
has no effect that anybody could see); `partly ignored` (served, but something that it asks for has no effect); `refused` (a \
path answers 503 or is not served, for a setting is not offered or cannot be read). What an Ingress names and does not exist, a \
Service or a Secret, is an error and changes no verdict.

Verdicts of an annotation or key: `supported`, `different`, `ignored`, `refused`.

What the user may not read is left out and named in a warning with the command that grants the right.";

/// What the other commands end with.
const EXIT_HELP: &str = "Exit status: 0 when the question was answered, 2 when it could not be. What was left out, because it \
cannot be read, is said on standard error.";

/// `portcullis lint`.
#[derive(Debug, Args)]
#[command(after_help = LINT_HELP)]
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
#[command(after_help = EXIT_HELP)]
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
#[command(after_help = EXIT_HELP)]
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
#[command(after_help = EXIT_HELP)]
pub struct BackendsArgs {
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Only this backend, by `.name`: one object of JSON, not a list.
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
#[command(after_help = EXIT_HELP)]
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
#[command(after_help = EXIT_HELP)]
pub struct ConfArgs {
    /// What to read.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Only this host.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}
