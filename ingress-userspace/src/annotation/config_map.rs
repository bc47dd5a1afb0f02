//! Keys of the ConfigMap (`--configmap`): cluster-wide defaults under the annotations, and settings of their own.
//!
//! Each is declared with its feature, as annotations are; here stand the few that belong to none. A key that cannot be read
//! or served is a finding, never an outage, with one exception: a broken cluster-wide setting that protects
//! denies, as a broken annotation does.

use std::collections::BTreeMap;

use super::headers::{self, ClusterHeaders};
use super::registry::{self, config_keys};
use super::shared_limits::RedisText;
use super::{Effect, Finding, FindingKind, Reader, read_features, value};
use super::{access_log, connections, inert, preset, process, tls};
use super::{
    block, compression, forwarded, proxy_protocol, request_buffer, shared_limits, snippet, stream, subrequest,
};
use crate::model::bodies::Bodies;
use crate::model::global::Global;

config_keys! { "Cluster-wide behaviour";
    /// Paths of type Prefix that end in `/` answer the request without it by 301, as ingress-nginx does; paths of type
    /// ImplementationSpecific always do.
    TRAILING_SLASH_REDIRECT: bool = "trailing-slash-redirect", parse: value::boolean, values: "true or false",
    default: "false", on_invalid: Warn, support: Own;
    /// What an annotation means that protects something and is not supported: 503 on the paths, or nothing.
    REFUSED_ANNOTATIONS: bool = "refused-annotations", parse: refused, values: "Deny or Ignore",
    default: "Deny", on_invalid: Warn, support: Own;
    /// Annotations may name Secrets and ConfigMaps of other namespaces than the Ingress's. Without it such an annotation
    /// denies the paths.
    ALLOW_CROSS_NAMESPACE_RESOURCES: bool = "allow-cross-namespace-resources", parse: value::boolean,
    values: "true or false", default: "false", on_invalid: Warn, support: Same;
    /// The webhook denies paths of type Exact or Prefix with other signs than letters, digits and `._-/`, as in
    /// ingress-nginx. One that is stored all the same is compared as text and never becomes configuration, so that no sign
    /// in it can do harm.
    STRICT_VALIDATE_PATH_TYPE: bool = "strict-validate-path-type", parse: value::boolean, values: "true or false",
    default: "true", on_invalid: Warn, support: Same;
}

/// Cluster-wide settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The ConfigMap as it is: the source of every default under an annotation.
    pub data: BTreeMap<String, String>,
    /// `trailing-slash-redirect`: every path that ends in `/` redirects the request without it, as nginx does.
    pub is_slash_redirected: bool,
    /// `server-snippet`: for every host.
    pub server: snippet::Server,
    /// `enable-ocsp`: what a Secret carries as `tls.ocsp-staple` is sent with its certificate.
    pub is_stapled: bool,
    /// `refused-annotations: Ignore`.
    pub is_refused_ignored: bool,
    /// `allow-local-urls`.
    pub allows_local_urls: bool,
    /// `disable-ipv6-dns`.
    pub looks_up_ipv4_only: bool,
    /// `allow-cross-namespace-resources`.
    pub is_cross_namespace_allowed: bool,
    /// ConfigMaps with headers, and which headers annotations may set.
    pub headers: ClusterHeaders,
    /// `rate-limit-redis-address` and what goes with it.
    pub redis: Option<RedisText>,
    /// What holds for the whole proxy.
    pub global: Global,
}

/// Every key that we or ingress-nginx know, for suggestions.
pub fn all() -> impl Iterator<Item = &'static str> {
    registry::configured()
}

/// Reads the ConfigMap. Total.
pub fn read(data: &BTreeMap<String, String>) -> (Defaults, Vec<Finding>) {
    let data = &preset::filled_in(data);
    let mut reader = Reader::of_config(data);
    reader.value(&preset::PRESET);
    // What the features find wrong in their keys is reported here, once.
    read_features(&mut reader);
    let (fields, headers) = headers::parse_cluster(&mut reader);
    let defaults = Defaults {
        data: data.clone(),
        is_slash_redirected: reader.value(&TRAILING_SLASH_REDIRECT),
        server: snippet::parse_servers(&mut reader),
        is_stapled: reader.value(&tls::ENABLE_OCSP),
        is_refused_ignored: reader.value(&REFUSED_ANNOTATIONS),
        allows_local_urls: subrequest::parse(&mut reader),
        looks_up_ipv4_only: reader.value(&process::DISABLE_IPV6_DNS),
        is_cross_namespace_allowed: reader.value(&ALLOW_CROSS_NAMESPACE_RESOURCES),
        headers,
        global: Global { fields, ..global(&mut reader) },
        redis: shared_limits::parse(&mut reader),
    };
    snippet::check_cluster(&mut reader);
    reader.value(&STRICT_VALIDATE_PATH_TYPE);
    let told = reader.findings;
    let mut findings = told.clone();
    for (key, text) in data {
        match registry::config_row(key) {
            Some(row) => findings.extend(inert::check(row, key, text, &told)),
            None => findings.push(unknown(key, text.trim())),
        }
    }
    // Two features may read one key.
    findings.sort_by(|a, b| (&a.key, &a.value, &a.message).cmp(&(&b.key, &b.value, &b.message)));
    findings.dedup();
    (defaults, findings)
}

fn bodies(reader: &mut Reader<'_>) -> Bodies {
    let (codings, gzip_except) = compression::parse(reader);
    Bodies { client_gap: request_buffer::parse_timeout(reader), codings, gzip_except }
}

/// What holds for the whole proxy.
fn global(reader: &mut Reader<'_>) -> Global {
    let forwarded = forwarded::parse(reader);
    let proxy_protocol = proxy_protocol::parse(reader);
    let mut blocked = block::parse(reader);
    blocked.is_client_hidden = forwarded.names_client || proxy_protocol.is_required;
    let process::Process { drain, bind_addresses, is_ipv4_only } = process::parse(reader);
    Global {
        forwarded,
        blocked,
        bodies: bodies(reader),
        proxy_protocol,
        streams: stream::parse(reader),
        tls: tls::parse_global(reader),
        connections: connections::parse(reader),
        access_log: access_log::parse_global(reader),
        drain,
        bind_addresses,
        is_ipv4_only,
        ..Global::default()
    }
}

fn finding(key: &str, value: &str, kind: FindingKind, effect: Effect, message: String) -> Finding {
    Finding { key: key.to_owned(), value: value.to_owned(), kind, effect, message }
}

fn refused(text: &str) -> Result<bool, String> {
    match text {
        "Deny" => Ok(false),
        "Ignore" => Ok(true),
        _ => Err("is neither Deny nor Ignore".to_owned()),
    }
}

fn unknown(key: &str, text: &str) -> Finding {
    finding(key, text, FindingKind::Unknown, Effect::Warn, "unknown key; it is ignored".to_owned())
}
