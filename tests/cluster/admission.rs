//! What the API server says before it stores an Ingress, and what the controller copies for the agents.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{SOON, eventually};

use crate::Context;

fn ingress(name: &str, host: &str, annotation: &str) -> String {
    format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default, annotations: {{{annotation}}}}}
spec:
  ingressClassName: portcullis
  rules:
    - host: {host}
      http:
        paths:
          - {{path: /, pathType: Prefix, backend: {{service: {{name: shop, port: {{number: 80}}}}}}}}
"#
    )
}

/// Applies and returns whether it worked, with everything that kubectl said.
fn apply(yaml: &str) -> anyhow::Result<(bool, String)> {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = kubectl.spawn()?;
    child.stdin.take().context("piped")?.write_all(yaml.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

pub(crate) fn webhook(context: &Context) -> anyhow::Result<()> {
    let typo = ingress("typo", "typo.example.test", "nginx.ingress.kubernetes.io/rewrit-target: /x");
    eventually("a misspelt annotation is a warning", SOON, || {
        let (worked, said) = apply(&typo)?;
        ensure!(worked, "{said}");
        context.rig.kubectl(&["delete", "ingress", "typo"])?;
        ensure!(said.contains("Warning:") && said.contains("did you mean rewrite-target?"), "{said}");
        Ok(())
    })?;
    let (worked, said) = apply(&ingress("twin", crate::HOST, ""))?;
    ensure!(!worked && said.contains("is already defined in ingress default/shop"), "{said}");
    let (worked, said) =
        apply(&ingress("twin", crate::HOST, "nginx.ingress.kubernetes.io/canary: \"true\""))?;
    ensure!(worked, "a canary shares its path: {said}");
    context.rig.kubectl(&["delete", "ingress", "twin"])?;
    let snippet = "nginx.ingress.kubernetes.io/server-snippet: return 200;";
    let (worked, said) = apply(&ingress("snippet", "snippet.example.test", snippet))?;
    ensure!(!worked && said.contains("snippets are switched off"), "{said}");
    Ok(())
}

pub(crate) fn copies(context: &Context) -> anyhow::Result<()> {
    let copy = |field: &str| {
        let path = format!("jsonpath={{.data.{field}}}");
        context.rig.kubectl(&["-n", "portcullis-synced", "get", "secret", "default.users", "-o", &path])
    };
    let secret = |text: &str| {
        context.rig.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: users, namespace: default}}\nstringData: {{auth: \"{text}\"}}\n"
        ))
    };
    secret("ada:{PLAIN}one")?;
    let annotations =
        "nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users";
    context.rig.apply(&ingress("users", "users.example.test", annotations))?;
    eventually("the Secret is copied", SOON, || {
        ensure!(copy("auth")? == "YWRhOntQTEFJTn1vbmU=");
        Ok(())
    })?;
    secret("ada:{PLAIN}two")?;
    eventually("the copy follows", SOON, || {
        ensure!(copy("auth")? == "YWRhOntQTEFJTn10d28=");
        Ok(())
    })?;
    context.rig.kubectl(&["delete", "ingress", "users"])?;
    eventually("nothing names it, so the copy goes", SOON, || {
        ensure!(copy("auth").is_err_and(|error| format!("{error:#}").contains("NotFound")));
        Ok(())
    })?;
    context.rig.kubectl(&["delete", "secret", "users"])?;
    Ok(())
}
