//! The 25 scenarios of `ingress-controller-conformance` v1.19, re-expressed: which test stands for which scenario is the
//! table in `docs/contributing/conformance.md`. Every backend is a Service with a pod of its own that says its name.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{Answer, SOON, eventually, get, run, send};

use crate::install::{get_tls, published, tls_secret};
use crate::{Context, VIPS, http};

const SPACE: &str = "conformance";
const BACKENDS: [&str; 9] = [
    "aaa-prefix",
    "aaa-slash-bbb-prefix",
    "aaa-slash-bbb-slash-prefix",
    "echo-service",
    "foo-bar-com",
    "foo-exact",
    "foo-prefix",
    "foo-slash-exact",
    "wildcard-foo-com",
];

const INGRESSES: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: path-rules, namespace: conformance}
spec:
  ingressClassName: portcullis
  rules:
    - host: exact-path-rules
      http:
        paths:
          - {path: /foo, pathType: Exact, backend: {service: {name: foo-exact, port: {number: 8080}}}}
    - host: prefix-path-rules
      http:
        paths:
          - {path: /foo, pathType: Prefix, backend: {service: {name: foo-prefix, port: {number: 8080}}}}
          - {path: /aaa/bbb, pathType: Prefix, backend: {service: {name: aaa-slash-bbb-prefix, port: {number: 8080}}}}
          - {path: /aaa, pathType: Prefix, backend: {service: {name: aaa-prefix, port: {number: 8080}}}}
    - host: mixed-path-rules
      http:
        paths:
          - {path: /foo, pathType: Prefix, backend: {service: {name: foo-prefix, port: {number: 8080}}}}
          - {path: /foo, pathType: Exact, backend: {service: {name: foo-exact, port: {number: 8080}}}}
    - host: trailing-slash-path-rules
      http:
        paths:
          - {path: /aaa/bbb/, pathType: Prefix, backend: {service: {name: aaa-slash-bbb-slash-prefix, port: {number: 8080}}}}
          - {path: /foo/, pathType: Exact, backend: {service: {name: foo-slash-exact, port: {number: 8080}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: host-rules, namespace: conformance}
spec:
  ingressClassName: portcullis
  tls: [{hosts: [foo.bar.com], secretName: conformance-tls}]
  rules:
    - host: "*.foo.com"
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: wildcard-foo-com, port: {number: 8080}}}}
    - host: foo.bar.com
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: foo-bar-com, port: {name: http}}}}
"#;

/// Number of the scenario in its feature, host, path, and which backend answers; none: 404.
type Asked = (u8, &'static str, &'static str, Option<&'static str>);

const PATH_RULES: &[Asked] = &[
    (1, "exact-path-rules", "/foo", Some("foo-exact")),
    (2, "exact-path-rules", "/foo/", None),
    (3, "exact-path-rules", "/FOO", None),
    (4, "exact-path-rules", "/bar", None),
    (5, "prefix-path-rules", "/foo", Some("foo-prefix")),
    (6, "prefix-path-rules", "/foo/", Some("foo-prefix")),
    (7, "prefix-path-rules", "/FOO", None),
    (8, "prefix-path-rules", "/aaa/bbb", Some("aaa-slash-bbb-prefix")),
    (9, "prefix-path-rules", "/aaa/bbb/ccc", Some("aaa-slash-bbb-prefix")),
    (10, "prefix-path-rules", "/aaa/ccc", Some("aaa-prefix")),
    (11, "prefix-path-rules", "/aaaccc", None),
    (12, "prefix-path-rules", "/foo/", Some("foo-prefix")),
    (13, "mixed-path-rules", "/foo", Some("foo-exact")),
    (14, "trailing-slash-path-rules", "/aaa/bbb", Some("aaa-slash-bbb-slash-prefix")),
    (15, "trailing-slash-path-rules", "/aaa/bbb/", Some("aaa-slash-bbb-slash-prefix")),
    (16, "trailing-slash-path-rules", "/foo", None),
    // Beyond the suite.
    (17, "mixed-path-rules", "/foo/bar", Some("foo-prefix")),
    (18, "prefix-path-rules", "/aaa", Some("aaa-prefix")),
    (19, "prefix-path-rules", "/aaa/bbbccc", Some("aaa-prefix")),
    (20, "trailing-slash-path-rules", "/foo/", Some("foo-slash-exact")),
];

/// The others of the feature need TLS.
const HOST_RULES: &[Asked] =
    &[(3, "subdomain.bar.com", "/", None), (5, "baz.bar.foo.com", "/", None), (6, "foo.com", "/", None)];

/// Method, host and path of the examples of the one scenario.
const DEFAULT_BACKEND: [[&str; 3]; 6] = [
    ["GET", "my-host", ""],
    ["GET", "my-host", "sub-path"],
    ["POST", "some-host", ""],
    ["PUT", "", "resource"],
    ["DELETE", "some-host", "resource"],
    ["PATCH", "my-host", "resource"],
];

pub(crate) fn deploy(context: &Context) -> anyhow::Result<()> {
    context.rig.kubectl(&["create", "namespace", SPACE])?;
    let backends: Vec<String> = BACKENDS
        .iter()
        .map(|name| {
            format!(
                r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {SPACE}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: echo
          image: test/echo:1
          env:
            - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
            - {{name: NAMESPACE, value: {name}}}
          readinessProbe: {{httpGet: {{path: /, port: 3000}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {SPACE}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 8080, targetPort: 3000}}]
"#
            )
        })
        .collect();
    context.rig.apply(&backends.join("---"))?;
    tls_secret(context, SPACE, "conformance-tls", "foo.bar.com")?;
    context.rig.apply(INGRESSES)?;
    for name in BACKENDS {
        let deployment = format!("deployment/{name}");
        context.rig.kubectl(&["-n", SPACE, "rollout", "status", &deployment, "--timeout=30s"])?;
    }
    ["path-rules", "host-rules"].iter().try_for_each(|name| has_address(context, name))
}

fn has_address(context: &Context, ingress: &str) -> anyhow::Result<()> {
    eventually(&format!("{ingress} has an address"), SOON, || {
        let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
        let found = context.rig.kubectl(&["-n", SPACE, "get", "ingress", ingress, "-o", path])?;
        ensure!(found.contains(VIPS[0]), "{found:?}");
        Ok(())
    })
}

fn rules(feature: &str, asked: &[Asked]) -> anyhow::Result<()> {
    for (number, host, path, backend) in asked {
        for vip in VIPS {
            eventually(&format!("{feature} {number}"), SOON, || {
                let answer = get(http(vip), host, path)?;
                ensure!(answer.status == if backend.is_some() { 200 } else { 404 }, "{}", answer.head);
                if let Some(backend) = backend {
                    served_by(&answer, backend)?;
                    ensure!(answer.body["host"] == *host, "{}", answer.body);
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn served_by(answer: &Answer, backend: &str) -> anyhow::Result<()> {
    ensure!(answer.body["namespace"] == backend, "not {backend}: {}", answer.body);
    Ok(())
}

pub(crate) fn path_rules(_: &Context) -> anyhow::Result<()> {
    rules("path_rules", PATH_RULES)
}

pub(crate) fn host_rules(context: &Context) -> anyhow::Result<()> {
    rules("host_rules", HOST_RULES)?;
    let (host, certificate) = ("foo.bar.com", context.rig.file("conformance-tls.crt"));
    for vip in VIPS {
        let (body, _) = eventually("host_rules 1", SOON, || get_tls(vip, &certificate, host, "/"))?;
        ensure!(body["namespace"] == host.replace('.', "-") && body["host"] == host, "host_rules 1: {body}");
        // An Ingress with TLS has it for all its hosts. The suite's client follows redirects, whatever the certificate.
        for (number, host, backend) in [(2, host, "foo-bar-com"), (4, "bar.foo.com", "wildcard-foo-com")] {
            let answer = get(http(vip), host, "/")?;
            let place = answer.header("location").unwrap_or_default().to_owned();
            ensure!(
                answer.status == 308 && place == format!("https://{host}"),
                "host_rules {number}: {}",
                answer.head
            );
            let body = follow(vip, host)?;
            ensure!(body["namespace"] == backend && body["host"] == host, "host_rules {number}: {body}");
        }
    }
    Ok(())
}

/// Where a request for a host comes to in the end.
fn follow(vip: &str, host: &str) -> anyhow::Result<serde_json::Value> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "--location", "--insecure"]);
    for port in [80, 443] {
        curl.args(["--resolve", &format!("{host}:{port}:{vip}")]);
    }
    Ok(serde_json::from_str(&run(curl.arg(format!("http://{host}/")))?)?)
}

pub(crate) fn default_backend(context: &Context) -> anyhow::Result<()> {
    context.rig.apply(&catch_all("default-backend"))?;
    has_address(context, "default-backend")?;
    for vip in VIPS {
        eventually("the default backend answers", SOON, || {
            served_by(&get(http(vip), "my-host", "/")?, "echo-service")
        })?;
        for [method, host, path] in DEFAULT_BACKEND {
            let host = if host.is_empty() { vip } else { host };
            let request = format!(
                "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n"
            );
            let answer = send(http(vip), request.as_bytes())?;
            ensure!(answer.status == 200 && answer.head.starts_with("HTTP/1.1 "), "{}", answer.head);
            served_by(&answer, "echo-service")?;
            for header in ["Content-Length", "Content-Type", "Date"] {
                ensure!(answer.header(header).is_some(), "no {header}: {}", answer.head);
            }
            let seen = (&answer.body["method"], &answer.body["path"]);
            ensure!(seen.0 == method && *seen.1 == format!("/{path}"), "{}", answer.body);
            ensure!(answer.body["headers"]["User-Agent"][0] == "Go-http-client/1.1", "{}", answer.body);
        }
    }
    Ok(())
}

fn catch_all(name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: {SPACE}}}\nspec:\n  \
         ingressClassName: portcullis\n  defaultBackend: {{service: {{name: echo-service, port: {{number: 8080}}}}}}\n"
    )
}

/// Goes on with the Ingress of the default backend.
pub(crate) fn load_balancing(context: &Context) -> anyhow::Result<()> {
    let replicas = 10;
    let scale = format!("--replicas={replicas}");
    context.rig.kubectl(&["-n", SPACE, "scale", "deployment/echo-service", &scale])?;
    context.rig.kubectl(&["-n", SPACE, "rollout", "status", "deployment/echo-service", "--timeout=60s"])?;
    for vip in VIPS {
        // The EndpointSlice follows the pods' readiness, and the proxy the EndpointSlice.
        eventually("every pod gets its share", SOON, || {
            let mut shares = BTreeMap::<String, u32>::new();
            for _ in 0..100 {
                let answer = get(http(vip), "load-balancing", "/")?;
                ensure!(answer.status == 200, "{}", answer.head);
                let pod = answer.body["pod"].as_str().context("no pod")?;
                *shares.entry(pod.to_owned()).or_default() += 1;
            }
            ensure!(shares.len() == replicas, "{shares:?}");
            // Round robin, by each worker from where it is.
            ensure!(shares.values().all(|share| (7..=13).contains(share)), "{shares:?}");
            Ok(())
        })?;
    }
    context.rig.kubectl(&["-n", SPACE, "delete", "ingress", "default-backend"])?;
    eventually("nothing is left of it", SOON, || {
        ensure!(get(http(VIPS[0]), "my-host", "/")?.status == 404);
        Ok(())
    })
}

pub(crate) fn ingress_class(context: &Context) -> anyhow::Result<()> {
    let foreign = catch_all("no-such-class")
        .replace("ingressClassName: portcullis", "ingressClassName: some-invalid-class-name");
    context.rig.apply(&foreign)?;
    // Written after it and ours: what has its address has seen the other as well.
    context.rig.apply(&catch_all("after"))?;
    has_address(context, "after")?;
    let path = "jsonpath={.status.loadBalancer.ingress}";
    let found = context.rig.kubectl(&["-n", SPACE, "get", "ingress", "no-such-class", "-o", path])?;
    ensure!(found.is_empty(), "{found}");
    context.rig.kubectl(&["delete", "namespace", SPACE, "--wait"])?;
    eventually("nothing is left of the suite", SOON, || {
        ensure!(get(http(VIPS[0]), "exact-path-rules", "/foo")?.status == 404);
        ensure!(!published(context, "shop")?.is_empty());
        Ok(())
    })
}
