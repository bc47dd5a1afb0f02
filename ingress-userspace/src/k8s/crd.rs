//! Our own kinds: `EdgePolicy` (what the kernel does with packets) and `AddressPool` (which addresses are ours).
//!
//! The shapes hold more than this version enforces; what it does not enforce becomes a Problem in `translate::edge`,
//! never silence. Values that have a closed set in the schema are strings here, so that one bad value in a manifest
//! folder (where no API server validates) degrades its own field and not the whole policy.
#![expect(unreachable_pub, reason = "the schema derive repeats each struct inside of a function")]

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lists and limits for packets towards some addresses, enforced in the kernel.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "EdgePolicy",
    plural = "edgepolicies",
    category = "portcullis",
    status = "EdgePolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Scope","type":"string","jsonPath":".spec.scope"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.nodes.ready"}"#,
    printcolumn = r#"{"name":"Failing","type":"integer","jsonPath":".status.nodes.failing"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.scope) != (has(self.targetRefs) && size(self.targetRefs) > 0)", "give either scope or targetRefs")
)]
pub struct EdgePolicySpec {
    /// The addresses it covers, by the objects that own them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub target_refs: Vec<TargetRef>,
    /// `Cluster`: every served address, instead of targetRefs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Cluster"]))]
    pub scope: Option<String>,
    /// Non-empty: only these sources may connect. CIDRs or addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "entries")]
    #[schemars(length(max = 100000))]
    pub allow: Vec<String>,
    /// Sources whose packets are dropped. CIDRs or addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "entries")]
    #[schemars(length(max = 100000))]
    pub deny: Vec<String>,
    /// Sources without limits and bans, such as load balancers and probes. CIDRs or addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "entries")]
    #[schemars(length(max = 100000))]
    pub exempt: Vec<String>,
    /// Each entry its own bucket; over it, packets are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,
    /// Bans sources that keep breaking the limits per source: a node drops all that they send to addresses whose policies ban,
    /// until their time is over. Nobody is banned without it. Senders can forge their address, so give the sources that must
    /// never be shut out in exempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<Ban>,
    /// SYN cookies for the addresses: Auto (the default) sends them while the queue of new connections is full, Always sends
    /// them for every connection, Off leaves it to the kernel's stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Auto", "Always", "Off"]))]
    pub syn_protection: Option<String>,
}

/// An object that owns addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetRef {
    /// AddressPool, Service or IngressClass.
    #[schemars(extend("enum" = ["AddressPool", "Service", "IngressClass"]))]
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Namespace of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// One limit: a rate and what may come at once.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "[has(self.connectionsPerSecond), has(self.packetsPerSecond), has(self.bytesPerSecond)].filter(x, x).size() == 1",
        "give one of connectionsPerSecond, packetsPerSecond and bytesPerSecond"
    )
)]
pub struct Limit {
    /// Source: a bucket per client (an IPv6 /64); Address: one bucket per served address.
    #[schemars(extend("enum" = ["Source", "Address"]))]
    pub per: String,
    /// New TCP connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000000))]
    pub connections_per_second: Option<i64>,
    /// Packets of any kind to the address, the replies not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000000))]
    pub packets_per_second: Option<i64>,
    /// Bytes of these packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1000000000000_i64))]
    pub bytes_per_second: Option<i64>,
    /// How much may come at once above the rate; default: one second's worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000000000_i64))]
    pub burst: Option<i64>,
}

/// When a source is banned, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ban {
    /// So many packets of a source (an IPv6 /64) that limits of this policy refused lead to a ban.
    #[schemars(range(min = 1, max = 1000000000))]
    pub after: i64,
    /// For how long they count together, from the first of them on; 1s to 1h, default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// How long a ban lasts; 1s to 168h, default 10m.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Sources that each node bans for this policy at a time; default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8192))]
    pub max: Option<i64>,
}

/// What the nodes made of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EdgePolicyStatus {
    /// `Accepted`, `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StatusCondition>,
    /// How many nodes enforce it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// The first ten nodes that do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
}

/// A condition as Kubernetes writes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// Name of the condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word for programs.
    #[serde(default)]
    pub reason: String,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// When the status last changed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// Generation of the object that it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Nodes by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCounts {
    /// Nodes that enforce the policy.
    pub ready: i64,
    /// Nodes that do not.
    pub failing: i64,
}

/// Virtual addresses that this cluster owns; every address of a block is one.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "AddressPool",
    plural = "addresspools",
    category = "portcullis",
    status = "AddressPoolStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Announce","type":"string","jsonPath":".spec.announce"}"#,
    printcolumn = r#"{"name":"Used","type":"integer","jsonPath":".status.addresses.used"}"#,
    printcolumn = r#"{"name":"Free","type":"integer","jsonPath":".status.addresses.free"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.nodes.ready"}"#,
    printcolumn = r#"{"name":"Failing","type":"integer","jsonPath":".status.nodes.failing"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// The addresses; blocks of all pools must not overlap.
    #[schemars(length(min = 1, max = 256))]
    pub blocks: Vec<Block>,
    /// Who tells the network where they are: L2 (one of our nodes, by ARP and NDP; the default) or None (a router or another
    /// speaker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["L2", "None"]))]
    pub announce: Option<String>,
    /// Nodes that serve the pool; default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<Selector>,
    /// Whether Services may get addresses of this pool without asking for them; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Services that may get addresses of this pool; default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<Selector>,
    /// How packets travel between nodes: UDP (the default, with the key of the nodes) or IPIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["UDP", "IPIP"]))]
    pub encapsulation: Option<String>,
}

/// A range of addresses: a CIDR, or the first and the last.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = (
        "has(self.cidr) ? !has(self.start) && !has(self.stop) : has(self.start) && has(self.stop)",
        "give either cidr, or start and stop"
    )
)]
pub struct Block {
    /// A network without host bits; every address in it, network and broadcast address included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// First address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Last address, included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
}

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

impl Selector {
    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

/// A requirement on one label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requirement {
    /// Name of the label.
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"]))]
    pub operator: String,
    /// For In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What became of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AddressPoolStatus {
    /// `Accepted`, `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StatusCondition>,
    /// How many addresses there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<AddressCounts>,
    /// How many nodes serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
}

/// The addresses of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AddressCounts {
    /// All that are served.
    pub total: i64,
    /// Given to Services.
    pub used: i64,
    /// Not given to Services. They serve Ingresses all the same.
    pub free: i64,
}

/// Entries of a list as text. No schema guards a folder of manifests, and one entry of the wrong type must not take the
/// whole policy away: translation reports what is no network. Nothing (`deny:`) is no entry.
fn entries<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(match Option::<serde_json::Value>::deserialize(deserializer)? {
        None | Some(serde_json::Value::Null) => Vec::new(),
        Some(serde_json::Value::Array(values)) => values.into_iter().map(text).collect(),
        Some(single) => vec![text(single)],
    })
}

/// The definitions of both kinds as values, by kind: for the reference.
pub fn definitions() -> serde_json::Result<Vec<(&'static str, serde_json::Value)>> {
    let both = [("EdgePolicy", EdgePolicy::crd()), ("AddressPool", AddressPool::crd())];
    both.into_iter().map(|(kind, crd)| Ok((kind, serde_json::to_value(&crd)?))).collect()
}

/// The definitions of both kinds as YAML, each a document: for the chart and `portcullis reference crds`.
pub fn definitions_yaml() -> Result<Vec<(&'static str, String)>, serde_saphyr::ser::Error> {
    let documents = [("addresspools", AddressPool::crd()), ("edgepolicies", EdgePolicy::crd())];
    documents.into_iter().map(|(name, crd)| Ok((name, serde_saphyr::to_string(&crd)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_name_group_scope_and_columns() {
        for (name, yaml) in definitions_yaml().expect("plain data serializes") {
            assert!(yaml.contains(&format!("{name}.portcullis.dev")), "{yaml}");
            assert!(yaml.contains("scope: Cluster"), "{yaml}");
            assert!(yaml.contains("x-kubernetes-validations"), "{yaml}");
            assert!(yaml.contains("additionalPrinterColumns"), "{yaml}");
        }
    }

    #[test]
    fn the_shape_of_the_design_parses_whole() {
        let policy: EdgePolicySpec = serde_saphyr::from_str(
            "targetRefs: [{kind: AddressPool, name: edge}]\nallow: [198.18.0.0/16]\ndeny: [203.0.113.0/24]\n\
             exempt: [198.18.0.10/32]\nlimits:\n- {per: Source, connectionsPerSecond: 50, burst: 100}\n\
             - {per: Address, packetsPerSecond: 200000, burst: 400000}\n\
             - {per: Source, bytesPerSecond: 12500000, burst: 25000000}\n\
             ban: {after: 100, within: 10s, for: 10m, max: 1000}\nsynProtection: Auto\n",
        )
        .expect("parses");
        assert_eq!((policy.limits.len(), policy.ban.and_then(|ban| ban.lasts)), (3, Some("10m".to_owned())));
        let pool: AddressPoolSpec = serde_saphyr::from_str(
            "blocks: [{cidr: 198.18.100.0/28}, {start: '2001:db8::10', stop: '2001:db8::1f'}]\nannounce: L2\n\
             nodeSelector: {matchLabels: {edge: \"true\"}}\nautoAssign: true\nserviceSelector: {}\nencapsulation: UDP\n",
        )
        .expect("parses");
        assert_eq!(pool.blocks.len(), 2);
    }
}
