//! A release that watches a part of the cluster: what it serves, and that its rights end where its view ends.

use std::process::Command;

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{SOON, eventually, get, run};

use crate::install::release;
use crate::{Context, HOST, VIPS, http};

/// One namespace, with every flag about classes.
const ONE: &str = r"
controller:
  scope: {enabled: true, namespace: inside}
  watchIngressWithoutClass: true
  ingressClassByName: true
  ingressClass: by-name
  extraArgs: {disable-catch-all: true}
";

/// Namespaces by label.
const LABELLED: &str = r#"
controller:
  scope: {namespaceSelector: "edge=yes"}
"#;

const SPACES: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: inside, labels: {edge: 'yes'}}
---
apiVersion: v1
kind: Namespace
metadata: {name: outside, labels: {edge: 'no'}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: by-name}
spec: {controller: example.test/someone}
";

/// An Ingress whose missing Service answers 503, so that 404 says: not served.
fn ingress(namespace: &str, name: &str, class: Option<&str>) -> String {
    let class = class.map(|class| format!("ingressClassName: {class}, ")).unwrap_or_default();
    let path = "{path: /, pathType: Prefix, backend: {service: {name: none, port: {number: 80}}}}";
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
         {{{class}rules: [{{host: {name}.{namespace}.test, http: {{paths: [{path}]}}}}]}}\n---\n"
    )
}

fn answers(host: &str, status: u16) -> anyhow::Result<()> {
    VIPS.iter().try_for_each(|vip| {
        eventually(&format!("{status} for {host}"), SOON, || {
            let answer = get(http(vip), host, "/")?;
            ensure!(answer.status == status, "{vip}: {}", answer.head);
            Ok(())
        })
    })
}

/// Whether an account of the release may do this.
fn may(account: &str, action: &str) -> anyhow::Result<bool> {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["auth", "can-i", &format!("--as=system:serviceaccount:portcullis:{account}")]);
    match run(kubectl.args(action.split(' '))) {
        Ok(answer) => Ok(answer.trim() == "yes"),
        // It exits with 1 to say no.
        Err(error) if error.to_string().contains("exit status: 1") => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn one_namespace(context: &Context) -> anyhow::Result<()> {
    context.rig.apply(SPACES)?;
    let objects = [
        ingress("inside", "classless", None),
        ingress("inside", "named", Some("by-name")),
        ingress("inside", "ours", Some("portcullis")),
        ingress("outside", "ours", Some("portcullis")),
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: catch-all, namespace: inside}\nspec: \
         {ingressClassName: portcullis, defaultBackend: {service: {name: none, port: {number: 80}}}}\n"
            .to_owned(),
    ];
    context.rig.apply(&objects.concat())?;
    answers("ours.outside.test", 503)?;
    release(context, "upgrade", ONE)?;
    for (host, status) in [
        ("ours.inside.test", 503),
        ("classless.inside.test", 503),
        ("named.inside.test", 503),
        ("ours.outside.test", 404),
        (HOST, 404),
        ("no-rule.test", 404),
    ] {
        answers(host, status)?;
    }
    for (account, action, expected) in [
        ("portcullis", "list ingresses.networking.k8s.io -n inside", true),
        ("portcullis", "list ingresses.networking.k8s.io -n outside", false),
        ("portcullis", "list services -A", false),
        ("portcullis", "list secrets -n inside", false),
        ("portcullis", "list secrets -n portcullis-synced", true),
        ("portcullis-controller", "list secrets -n inside", true),
        ("portcullis-controller", "list secrets -n outside", false),
        ("portcullis-controller", "list secrets -n portcullis", false),
        ("portcullis-controller", "list configmaps -n outside", false),
        ("portcullis-controller", "list configmaps -n portcullis", true),
        ("portcullis-controller", "patch ingresses.networking.k8s.io -n inside --subresource=status", true),
        ("portcullis-controller", "patch ingresses.networking.k8s.io -n outside --subresource=status", false),
        ("portcullis-controller", "create events.events.k8s.io -n inside", true),
        ("portcullis-controller", "create events.events.k8s.io -n outside", false),
        ("portcullis-webhook", "list ingresses.networking.k8s.io -n outside", false),
    ] {
        ensure!(may(account, action)? == expected, "{account}: {action} is not {expected}");
    }
    eventually("Events are written inside", SOON, || {
        let events = context.rig.kubectl(&["-n", "inside", "describe", "ingress", "ours"])?;
        ensure!(events.contains("BackendMissing"), "{events}");
        Ok(())
    })?;
    // Without the flag it would take what the next scenario expects nobody to take.
    context.rig.kubectl(&["-n", "inside", "delete", "ingress", "catch-all"])?;
    Ok(())
}

pub(crate) fn labelled_namespaces(context: &Context) -> anyhow::Result<()> {
    release(context, "upgrade", LABELLED)?;
    answers("ours.inside.test", 503)?;
    answers("ours.outside.test", 404)?;
    answers("named.inside.test", 404)?;
    context.rig.kubectl(&["label", "namespace", "outside", "edge=yes", "--overwrite"])?;
    context.rig.kubectl(&["label", "namespace", "inside", "edge=no", "--overwrite"])?;
    answers("ours.outside.test", 503)?;
    answers("ours.inside.test", 404)?;
    release(context, "upgrade", "{}").context("back to all namespaces")?;
    context.rig.kubectl(&["delete", "namespace", "inside", "outside", "--wait"])?;
    context.rig.kubectl(&["delete", "ingressclass", "by-name"])?;
    answers(HOST, 200)?;
    answers("ours.outside.test", 404)
}
