//! Flags of what the controller writes to the cluster.

use clap::{ArgAction, Args};

use super::compat::switch;

/// What the controller writes.
#[derive(Clone, Debug, Args)]
pub struct PublishArgs {
    /// Write `.status.loadBalancer` of Ingresses.
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub update_status: bool,
    /// Write how a node serves to the annotation `portcullis.dev/mode` of its Node.
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub annotate_nodes: bool,
    /// Addresses or host names to publish instead of VIPs or node addresses.
    #[arg(long, value_name = "ADDR")]
    pub publish_status_address: Vec<String>,
    /// Publish the addresses of this Service, `namespace/name`.
    #[arg(long, value_name = "NS/NAME")]
    pub publish_service: Option<String>,
    /// Publish only the addresses of these AddressPools, not those of all.
    #[arg(long, value_name = "NAME")]
    pub publish_address_pool: Vec<String>,
    /// Labels of the pods of the data plane, in the namespace of the Lease: the addresses of the nodes that run a ready one
    /// are published, and nothing once none was ready for 60 s.
    #[arg(long, value_name = "SELECTOR")]
    pub publish_pods: Option<String>,
    /// Prefer internal over external node addresses.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set, value_name = "BOOL")]
    pub report_node_internal_ip_address: bool,
    /// Name of the Lease that elects the writer.
    #[arg(long, value_name = "NAME", default_value = "portcullis-leader")]
    pub election_id: String,
    /// Namespace of the Lease.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "default")]
    pub election_namespace: String,
    /// Identity in the Lease; default: host name and process id.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
}
