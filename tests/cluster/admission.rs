//! What the API server says before it stores an Ingress, and what the controller copies for the agents.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// What ingress-nginx's webhook denies besides: an annotation, the path and its type, and what is said.
const DENIED: &[(&str, &str, &str, &str)] = &[
    ("nginx.ingress.kubernetes.io/limit-rps: \"ten\"", "/", "Prefix", "limit-rps"),
    ("nginx.ingress.kubernetes.io/permanent-redirect: \"://no\"", "/", "Prefix", "permanent-redirect"),
    ("", "/a(b|c)", "Prefix", "cannot be used with pathType Prefix"),
    ("", "/a(b|c)", "Exact", "cannot be used with pathType Exact"),
];

/// What is stored, with a warning that says what becomes of it.
const WARNED: &[(&str, &str)] = &[
    ("nginx.ingress.kubernetes.io/proxy-read-timeout: soon", "proxy-read-timeout"),
    ("nginx.ingress.kubernetes.io/whitelist-source-range: nobody", "503"),
];

pub(crate) fn verdicts(context: &Context) -> anyhow::Result<()> {
    for (annotation, path, kind, named) in DENIED {
        let yaml = ingress("judged", "judged.example.test", annotation)
            .replace("path: /,", &format!("path: \"{path}\","))
            .replace("pathType: Prefix", &format!("pathType: {kind}"));
        let (worked, said) = apply(&yaml)?;
        ensure!(!worked && said.contains(named), "{annotation} {path}: {said}");
    }
    for (annotation, named) in WARNED {
        let (worked, said) = apply(&ingress("judged", "judged.example.test", annotation))?;
        ensure!(worked && said.contains("Warning:") && said.contains(named), "{annotation}: {said}");
    }
    let fine = ingress("judged", "judged.example.test", "nginx.ingress.kubernetes.io/limit-rps: \"10\"");
    let started = Instant::now();
    let (worked, said) = apply(&fine)?;
    ensure!(worked && !said.contains("Warning:"), "{said}");
    ensure!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    // An Ingress of somebody else is none of our business.
    let foreign = ingress("foreign", "judged.example.test", DENIED[0].0)
        .replace("ingressClassName: portcullis", "ingressClassName: somebody-else");
    let (worked, said) = apply(&foreign)?;
    ensure!(worked && !said.contains("Warning:"), "{said}");
    context.rig.kubectl(&["delete", "ingress", "judged", "foreign"])?;
    Ok(())
}

/// `failurePolicy: Ignore`: without the webhook objects are stored, and Events say what it would have said. A lost
/// certificate is made again, and the API server told.
pub(crate) fn absent(context: &Context) -> anyhow::Result<()> {
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        context.rig.kubectl(&["-n", "portcullis", "scale", "deployment/portcullis-webhook", &replicas])
    };
    let bundle = || {
        let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
        let name = "portcullis-webhook";
        context.rig.kubectl(&["get", "validatingwebhookconfiguration", name, "-o", path])
    };
    let before = bundle()?;
    scale("0")?;
    eventually("no webhook is left", SOON, || {
        let found = context.rig.processes("webhook", "webhook")?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    })?;
    let (worked, said) = apply(&ingress("unjudged", "unjudged.example.test", DENIED[0].0))?;
    ensure!(worked, "{said}");
    eventually("the Event says what the webhook would have said", SOON, || {
        let described = context.rig.kubectl(&["describe", "ingress", "unjudged"])?;
        ensure!(described.contains("AnnotationParsingFailed"), "{described}");
        Ok(())
    })?;
    context.rig.kubectl(&["delete", "ingress", "unjudged"])?;
    context.rig.kubectl(&["-n", "portcullis", "delete", "secret", "portcullis-webhook-certificate"])?;
    // The keeper looks once a minute.
    eventually("a certificate is made and named to the API server", Duration::from_secs(90), || {
        ensure!(bundle()? != before, "the same caBundle");
        Ok(())
    })?;
    scale("2")?;
    context.rig.kubectl(&[
        "-n",
        "portcullis",
        "rollout",
        "status",
        "deployment/portcullis-webhook",
        "--timeout=30s",
    ])?;
    eventually("it judges again", SOON, || {
        let (worked, said) = apply(&ingress("judged", "judged.example.test", DENIED[0].0))?;
        if worked {
            context.rig.kubectl(&["delete", "ingress", "judged"])?;
        }
        ensure!(!worked && said.contains("limit-rps"), "{said}");
        Ok(())
    })
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
