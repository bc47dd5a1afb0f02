//! `.status.loadBalancer` of Services of our load balancer class: the addresses that they were given.
//!
//! Written with `ipMode: Proxy`, so that kube-proxy leaves these addresses to the nodes that serve them. An API server that
//! does not know the field would let kube-proxy take them over; it is asked by a dry run first, and nothing is written then.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{info, warn};

use super::events::Notice;
use super::{call, refusal};
use crate::problem::ObjectRef;
use crate::translate::Assignment;

/// One Service is not written more often, unless it gets others.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(10);

/// Writes the addresses of Services.
pub struct Publisher {
    client: Client,
    /// Whether the API server keeps `ipMode`; `None`: not asked yet.
    knows_mode: Option<bool>,
    written: BTreeMap<ObjectRef, (Vec<IpAddr>, Instant)>,
}

impl Publisher {
    /// Begins with nothing written.
    pub fn new(client: Client) -> Self {
        Self { client, knows_mode: None, written: BTreeMap::new() }
    }

    /// Brings the Services to what they were given; Events about it.
    pub async fn publish(&mut self, assignments: &[Assignment]) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.written.retain(|object, _| assignments.iter().any(|given| given.object == *object));
        for Assignment { object, addresses, published } in assignments {
            if !addresses.is_empty() && self.knows_mode == Some(false) {
                notices.push(Notice::too_old(object.clone()));
                continue;
            }
            if !addresses.is_empty() && addresses == published {
                notices.push(Notice::assigned(object.clone(), addresses));
            }
            let was_just_written = self
                .written
                .get(object)
                .is_some_and(|(before, at)| before == addresses && at.elapsed() < PAUSE);
            if is_same(addresses, published) || was_just_written {
                continue;
            }
            match self.write(object, addresses).await {
                Ok(true) => {
                    info!(%object, ?addresses, "addresses of a Service written");
                    self.written.insert(object.clone(), (addresses.clone(), Instant::now()));
                }
                Ok(false) => notices.push(Notice::too_old(object.clone())),
                Err(error) => warn!(%object, %error, "the addresses of a Service could not be written"),
            }
        }
        notices
    }

    /// Writes the status; whether the API server keeps what it says.
    async fn write(&mut self, object: &ObjectRef, addresses: &[IpAddr]) -> kube::Result<bool> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &object.namespace);
        let patch = Patch::Merge(status(object, addresses));
        if self.knows_mode.is_none() && !addresses.is_empty() {
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            let answer = call(api.patch_status(&object.name, &params, &patch)).await?;
            self.knows_mode = Some(has_mode(&answer));
        }
        if self.knows_mode == Some(false) && !addresses.is_empty() {
            return Ok(false);
        }
        match call(api.patch_status(&object.name, &PatchParams::default(), &patch)).await {
            // Deleted; or deleted and made again, which the next build knows.
            Err(error) if matches!(refusal(&error), Some(404 | 409)) => Ok(true),
            answer => answer.map(|_| true),
        }
    }
}

fn is_same(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.len() == other.len() && one.iter().all(|ip| other.contains(ip))
}

fn has_mode(service: &Service) -> bool {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    entries.iter().any(|entry| entry.ip_mode.as_deref() == Some("Proxy"))
}

fn status(object: &ObjectRef, addresses: &[IpAddr]) -> Value {
    let entries: Vec<Value> =
        addresses.iter().map(|ip| json!({ "ip": ip.to_string(), "ipMode": "Proxy" })).collect();
    let entries = if entries.is_empty() { Value::Null } else { Value::Array(entries) };
    // With the UID, the API server refuses the write to another object that took the name meanwhile.
    json!({ "metadata": { "uid": object.uid }, "status": { "loadBalancer": { "ingress": entries } } })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::testing;
    use super::*;

    fn given(name: &str, addresses: &[&str], published: &[&str]) -> Assignment {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let object = ObjectRef {
            api_version: "v1".into(),
            kind: "Service".into(),
            namespace: "edge".into(),
            name: name.into(),
            uid: name.into(),
        };
        Assignment { object, addresses: parse(addresses), published: parse(published) }
    }

    #[tokio::test]
    async fn differences_are_written_with_the_mode_and_taken_back() {
        let (client, log) = testing::client(|seen| (StatusCode::OK, seen.body.clone()));
        let all = [
            given("new", &["198.18.100.1", "2001:db8::1"], &[]),
            given("same", &["198.18.100.2"], &["198.18.100.2"]),
            given("gone", &[], &["198.18.100.3"]),
        ];
        let mut publisher = Publisher::new(client);
        publisher.publish(&all).await;
        publisher.publish(&all).await;
        let seen = log.lock().expect("lock").clone();
        let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
        let path = |name: &str| format!("/api/v1/namespaces/edge/services/{name}/status?");
        assert_eq!(paths, [&*format!("{}&dryRun=All", path("new")), &path("new"), &path("gone")]);
        let entries = &seen[1].body["status"]["loadBalancer"]["ingress"];
        assert_eq!(entries[1], json!({"ip": "2001:db8::1", "ipMode": "Proxy"}));
        assert_eq!(seen[2].body["status"]["loadBalancer"]["ingress"], Value::Null);
    }

    #[tokio::test]
    async fn nothing_is_written_to_an_api_server_that_drops_the_mode() {
        let (client, log) = testing::client(|seen| {
            let mut body = seen.body.clone();
            if let Some(entries) = body["status"]["loadBalancer"]["ingress"].as_array_mut() {
                entries
                    .iter_mut()
                    .filter_map(Value::as_object_mut)
                    .for_each(|entry| drop(entry.remove("ipMode")));
            }
            (StatusCode::OK, body)
        });
        let mut publisher = Publisher::new(client);
        let all = [given("a", &["198.18.100.1"], &[]), given("b", &["198.18.100.2"], &[])];
        for _ in 0..2 {
            let notices = publisher.publish(&all).await;
            assert_eq!(notices.len(), 2);
        }
        let count = log.lock().expect("lock").len();
        assert_eq!(count, 1, "only the dry run");
    }
}
