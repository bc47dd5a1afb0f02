//! Addresses for Services, the nodes of pools, and who announces them.

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{SOON, eventually, get};
use serde_json::Value;

use crate::{Context, HOST, VIPS};

/// A Service that selects the proxies; `extra` goes into its metadata.
fn service(name: &str, extra: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: portcullis{extra}}}
spec:
  type: LoadBalancer
  loadBalancerClass: portcullis.dev/l4
  allocateLoadBalancerNodePorts: false
  selector:
    app.kubernetes.io/name: portcullis
    app.kubernetes.io/instance: portcullis
    app.kubernetes.io/component: data-plane
  ports: [{{name: http, port: 80}}, {{name: other, port: 8080, targetPort: 80}}]
"#
    )
}

const FOREIGN: &str = "
apiVersion: v1
kind: Service
metadata: {name: foreign, namespace: portcullis}
spec:
  type: LoadBalancer
  loadBalancerClass: portcullis.dev/l4
  selector: {app: shop}
  ports: [{port: 80}]
";

/// A pool that is announced; no client ever asks for it.
const ANNOUNCED: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: AddressPool
metadata: {name: announced}
spec: {blocks: [{cidr: 198.18.101.0/31}], announce: L2, autoAssign: false}
";

fn object(context: &Context, arguments: &[&str]) -> anyhow::Result<Value> {
    let all = [&["get"], arguments, &["-o", "json"]].concat();
    Ok(serde_json::from_str(&context.rig.kubectl(&all)?)?)
}

/// The entries in the status of a Service.
fn entries(context: &Context, name: &str) -> anyhow::Result<Vec<(String, String)>> {
    let service = object(context, &["service", name, "-n", "portcullis"])?;
    let entries = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(entries.iter().map(|entry| (text(&entry["ip"]), text(&entry["ipMode"]))).collect())
}

fn has(context: &Context, name: &str, address: Option<&str>) -> anyhow::Result<()> {
    eventually(&format!("Service {name} has {address:?}"), SOON, || {
        let found = entries(context, name)?;
        let wanted: Vec<_> = address.iter().map(|ip| ((*ip).to_owned(), "Proxy".to_owned())).collect();
        ensure!(found == wanted, "{found:?}");
        Ok(())
    })
}

fn told(context: &Context, name: &str, words: &str) -> anyhow::Result<()> {
    eventually(&format!("an Event on {name} says {words:?}"), SOON, || {
        let selector = format!("--field-selector=involvedObject.name={name}");
        let path = "jsonpath={range .items[*]}{.reason}{\": \"}{.message}{\"\\n\"}{end}";
        let events = context.rig.kubectl(&["get", "events", "-n", "portcullis", &selector, "-o", path])?;
        ensure!(events.contains(words), "{events:?}");
        Ok(())
    })
}

fn pool_uses(context: &Context, count: i64) -> anyhow::Result<()> {
    eventually(&format!("the pool tells {count} used addresses"), SOON, || {
        let status = object(context, &["addresspool", "edge"])?["status"].clone();
        ensure!(status["addresses"]["used"] == count && status["addresses"]["total"] == 4, "{status}");
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        ensure!(conditions.len() == 2 && conditions.iter().all(|one| one["status"] == "True"), "{status}");
        ensure!(status["nodes"]["ready"] == 2, "{status}");
        Ok(())
    })
}

pub(crate) fn services(context: &Context) -> anyhow::Result<()> {
    let rig = &context.rig;
    let asks = ", annotations: {metallb.io/loadBalancerIPs: 198.18.100.1}";
    rig.apply(&service("edge", ""))?;
    has(context, "edge", Some(VIPS[0]))?;
    told(context, "edge", "AddressAssigned: serves the addresses 198.18.100.1")?;
    let port = format!("{}:8080", VIPS[0]).parse()?;
    eventually("a port of the Service is served", SOON, || {
        ensure!(get(port, HOST, "/")?.status == 200);
        Ok(())
    })?;
    pool_uses(context, 1)?;
    rig.apply(&service("second", asks))?;
    told(context, "second", "Conflict: metadata.annotations[metallb.io/loadBalancerIPs]")?;
    has(context, "second", None)?;
    rig.apply(FOREIGN)?;
    told(context, "foreign", "does not select the proxies")?;
    // Who leads next knows nothing but what the API server holds.
    for process in rig.processes("controller", "controller")? {
        process.kill()?;
    }
    rig.apply(&service("third", ""))?;
    has(context, "third", Some(VIPS[1]))?;
    has(context, "edge", Some(VIPS[0]))?;
    rig.delete(&service("edge", ""))?;
    has(context, "second", Some(VIPS[0]))?;
    // It leaves the class with its type.
    let patch = r#"{"spec": {"type": "ClusterIP", "loadBalancerClass": null, "allocateLoadBalancerNodePorts": null}}"#;
    rig.kubectl(&["patch", "service", "third", "-n", "portcullis", "-p", patch])?;
    has(context, "third", None)?;
    rig.delete(&[service("second", ""), service("third", ""), FOREIGN.to_owned()].join("---"))?;
    pool_uses(context, 0)
}

/// The list of nodes that agents read.
fn members(context: &Context) -> anyhow::Result<Vec<(String, Value)>> {
    let name = "portcullis-synced.portcullis.nodes";
    let list = object(context, &["configmap", name, "-n", "portcullis-synced"])?;
    let lines = list["data"].as_object().cloned().unwrap_or_default();
    lines
        .into_iter()
        .map(|(name, line)| Ok((name, serde_json::from_str(line.as_str().context("a line")?)?)))
        .collect()
}

pub(crate) fn nodes(context: &Context) -> anyhow::Result<()> {
    let rig = &context.rig;
    let listed = eventually("both nodes are listed", SOON, || {
        let listed = members(context)?;
        ensure!(listed.len() == 2, "{listed:?}");
        Ok(listed)
    })?;
    for (name, line) in &listed {
        ensure!(line["state"] == "active" && line["weight"] == 100, "{name}: {line}");
        ensure!(line["pools"]["edge"].is_i64() && line["addresses"][0].is_string(), "{name}: {line}");
    }
    let key = object(context, &["secret", "portcullis-synced.portcullis.key", "-n", "portcullis-synced"])?;
    ensure!(key["data"]["key"].is_string() && key["data"]["seed"].is_string(), "no key");
    rig.apply(ANNOUNCED)?;
    let holder = || -> anyhow::Result<String> {
        let lease = object(context, &["lease", "portcullis-pool.announced", "-n", "portcullis-synced"])?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let first = eventually("one node announces the pool", SOON, || {
        let first = holder()?;
        ensure!(listed.iter().any(|(name, _)| *name == first), "{first:?}");
        Ok(first)
    })?;
    let annotate = |value: &str| rig.kubectl(&["annotate", "node", &first, value]);
    annotate("portcullis.dev/state=draining")?;
    eventually("a node that drains gives the pool away", SOON, || {
        let now = holder()?;
        ensure!(!now.is_empty() && now != first, "{now:?}");
        Ok(())
    })?;
    ensure!(
        members(context)?.iter().any(|(name, line)| *name == first && line["state"] == "draining"),
        "the list says so"
    );
    annotate("portcullis.dev/state-")?;
    eventually("it is active again", SOON, || {
        ensure!(members(context)?.iter().all(|(_, line)| line["state"] == "active"));
        Ok(())
    })?;
    // An agent that hangs cannot give anything away.
    let second = holder()?;
    let agents = rig.processes("data-plane", "agent")?;
    let hangs = agents.iter().find(|agent| agent.node == second).context("no agent of the holder")?;
    hangs.signal("STOP")?;
    let taken = eventually("the pool of an agent that hangs is taken over", SOON, || {
        let now = holder()?;
        ensure!(!now.is_empty() && now != second, "{now:?}");
        Ok(())
    });
    hangs.signal("CONT")?;
    taken?;
    rig.delete(ANNOUNCED)
}
