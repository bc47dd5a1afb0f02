//! Objects change, and what is served follows.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use ingress_tests::cluster::{SOON, eventually, get, get_from};

use crate::install::{objects, published};
use crate::{Context, HOST, NODES, OTHER_CLIENT, VIPS, http};

fn answers(address: &str, host: &str, path: &str, status: u16) -> anyhow::Result<()> {
    let answer = get(http(address), host, path)?;
    ensure!(answer.status == status, "{address}{path}: {}", answer.head);
    Ok(())
}

fn both_nodes(what: &str, host: &str, path: &str, status: u16) -> anyhow::Result<()> {
    VIPS.iter().try_for_each(|vip| eventually(what, SOON, || answers(vip, host, path, status)))
}

pub(crate) fn path(context: &Context) -> anyhow::Result<()> {
    context.rig.apply(&objects("/store"))?;
    both_nodes("the old path answers 404", HOST, "/cart", 404)?;
    both_nodes("the new path answers 200", HOST, "/store/cart", 200)?;
    context.rig.apply(&objects("/"))?;
    both_nodes("the first path answers again", HOST, "/cart", 200)
}

pub(crate) fn scale(context: &Context) -> anyhow::Result<()> {
    context.rig.kubectl(&["scale", "deployment/shop", "--replicas=4"])?;
    context.rig.kubectl(&["rollout", "status", "deployment/shop", "--timeout=20s"])?;
    for vip in VIPS {
        let mut pods = BTreeSet::new();
        eventually("four pods answer", SOON, || {
            pods.insert(get(http(vip), HOST, "/")?.body["pod"].to_string());
            ensure!(pods.len() == 4, "{pods:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn ingress(name: &str, class: &str, host: &str) -> String {
    format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default}}
spec:
  ingressClassName: {class}
  rules:
    - host: {host}
      http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: shop, port: {{name: http}}}}}}}}]}}
"#
    )
}

const OTHER_CLASS: &str = r"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: other}
spec: {controller: example.test/other}
";

pub(crate) fn wrong_class(context: &Context) -> anyhow::Result<()> {
    context.rig.apply(OTHER_CLASS)?;
    context.rig.apply(&ingress("other", "other", "other.example.test"))?;
    // What is applied after it and is ours shows that the build with it has been published and its status written.
    context.rig.apply(&ingress("after", "portcullis", "after.example.test"))?;
    both_nodes("the Ingress after it answers", "after.example.test", "/", 200)?;
    eventually("the Ingress after it has an address", SOON, || {
        ensure!(!published(context, "after")?.is_empty());
        Ok(())
    })?;
    both_nodes("another class is not served", "other.example.test", "/", 404)?;
    let status = published(context, "other")?;
    ensure!(status.is_empty(), "another class has the status {status}");
    context.rig.delete(&ingress("other", "other", "other.example.test"))
}

pub(crate) fn leaves_class(context: &Context) -> anyhow::Result<()> {
    context.rig.apply(&ingress("after", "other", "after.example.test"))?;
    both_nodes("it is not served any more", "after.example.test", "/", 404)?;
    eventually("its status is empty", Duration::from_secs(30), || {
        let status = published(context, "after")?;
        ensure!(status.is_empty(), "{status}");
        Ok(())
    })?;
    context.rig.delete(&ingress("after", "other", "after.example.test"))?;
    context.rig.delete(OTHER_CLASS)
}

const BAD: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: bad
  namespace: default
  annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: "soon", nginx.ingress.kubernetes.io/ssl-redirect: "false"}
spec:
  ingressClassName: portcullis
  tls: [{hosts: [bad.example.test], secretName: no-such-secret}]
  rules:
    - host: bad.example.test
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: no-such-service, port: {number: 80}}}}
---
apiVersion: portcullis.dev/v1alpha1
kind: EdgePolicy
metadata: {name: bad}
spec: {scope: Cluster, deny: [203.0.113.7/24]}
"#;

pub(crate) fn events(context: &Context) -> anyhow::Result<()> {
    context.rig.apply(BAD)?;
    for (object, reason, named) in [
        ("bad", "AnnotationParsingFailed", "proxy-read-timeout"),
        ("bad", "AnnotationParsingFailed", "\"soon\""),
        ("bad", "BackendMissing", "no-such-service"),
        ("bad", "SecretInvalid", "no-such-secret"),
        ("bad", "Invalid", "203.0.113.7/24"),
        ("shop", "Sync", "sync"),
    ] {
        eventually(&format!("an Event {reason} that names {named}"), SOON, || {
            let selector = format!("--field-selector=involvedObject.name={object},reason={reason}");
            let path = "jsonpath={range .items[*]}{.involvedObject.kind}{\" \"}{.message}{\"\\n\"}{end}";
            let events = context.rig.kubectl(&["get", "events", "-n", "default", &selector, "-o", path])?;
            ensure!(events.contains(named), "{events:?}");
            Ok(())
        })?;
    }
    let described = context.rig.kubectl(&["describe", "ingress", "bad"])?;
    ensure!(described.contains("BackendMissing"), "{described}");
    both_nodes("a missing Service answers 503", "bad.example.test", "/", 503)?;
    both_nodes("other Ingresses are not touched", HOST, "/", 200)?;
    context.rig.delete(BAD)
}

const POLICY: &str = r"
apiVersion: portcullis.dev/v1alpha1
kind: EdgePolicy
metadata: {name: deny-one}
spec:
  targetRefs: [{kind: AddressPool, name: edge}]
  deny: [198.18.0.200]
";

pub(crate) fn edge_policy(context: &Context) -> anyhow::Result<()> {
    let client = OTHER_CLIENT.parse().ok();
    let status = |vip: &str| get_from(client, http(vip), HOST, "/").map(|answer| answer.status);
    for vip in VIPS {
        ensure!(status(vip)? == 200, "before the policy");
    }
    context.rig.apply(POLICY)?;
    for vip in VIPS {
        eventually("the denied source gets no answer", SOON, || {
            let Err(error) = status(vip) else { anyhow::bail!("it is still answered") };
            let error = format!("{error:#}");
            ensure!(error.contains("timed out"), "dropped packets are not answered at all: {error}");
            Ok(())
        })?;
        answers(vip, HOST, "/", 200)?;
    }
    ensure!(get_from(client, http(NODES[0]), HOST, "/")?.status == 200, "the policy is for the pool only");
    context.rig.delete(POLICY)?;
    VIPS.iter().try_for_each(|vip| {
        eventually("the source is answered again", SOON, || {
            ensure!(status(vip)? == 200);
            Ok(())
        })
    })
}

/// Of all clients on the switch only the second address is limited.
const BAN: &str = r"
apiVersion: portcullis.dev/v1alpha1
kind: EdgePolicy
metadata: {name: ban-one}
spec:
  targetRefs: [{kind: AddressPool, name: edge}]
  exempt: [198.18.0.0/25, 198.18.0.128/26]
  limits: [{per: Source, connectionsPerSecond: 1, burst: 1}]
  ban: {after: 2, within: 60s, for: 1h}
";

pub(crate) fn ban(context: &Context) -> anyhow::Result<()> {
    let client = OTHER_CLIENT.parse().ok();
    context.rig.apply(BAN)?;
    eventually("an Event on the policy names the banned source", Duration::from_secs(60), || {
        let _refused_or_not = get_from(client, http(VIPS[0]), HOST, "/");
        let selector = "--field-selector=involvedObject.name=ban-one,reason=SourcesBanned";
        let events = context.rig.kubectl(&["get", "events", "-n", "default", selector])?;
        ensure!(events.contains("node-0 banned 1 source, lastly 198.18.0.200/32 for 3600 s"), "{events:?}");
        Ok(())
    })?;
    ensure!(get_from(client, http(VIPS[0]), HOST, "/").is_err(), "it is banned");
    both_nodes("others are served", HOST, "/", 200)?;
    context.rig.delete(BAN)?;
    eventually("a ban ends with its policy", SOON, || {
        ensure!(get_from(client, http(VIPS[0]), HOST, "/")?.status == 200);
        Ok(())
    })
}

pub(crate) fn delete(context: &Context) -> anyhow::Result<()> {
    context.rig.kubectl(&["delete", "ingress", "shop", "--wait"])?;
    both_nodes("a deleted Ingress answers 404", HOST, "/", 404)
}
