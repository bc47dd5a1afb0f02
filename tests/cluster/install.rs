//! From `helm install` to the first answer.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{SOON, chart as chart_folder, eventually, get, helm, run};

use crate::{Context, HOST, NODES, OTHER_CLIENT, VIPS, VIPS_V6, http};

/// Two VIPs per family, a Deployment of two echo pods, and an Ingress with TLS.
pub(crate) fn objects(path: &str) -> String {
    format!(
        r#"
apiVersion: portcullis.dev/v1alpha1
kind: AddressPool
metadata: {{name: edge}}
spec:
  blocks: [{{start: {}, stop: {}}}, {{start: "{}", stop: "{}"}}]
  announce: None
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop, namespace: default}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: echo
          image: test/echo:1
          env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
          ports: [{{name: http, containerPort: 3000}}]
          readinessProbe: {{httpGet: {{path: /, port: http}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: default}}
spec:
  selector: {{app: shop}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  namespace: default
  annotations: {{nginx.ingress.kubernetes.io/ssl-redirect: "false"}}
spec:
  ingressClassName: portcullis
  tls: [{{hosts: [{HOST}], secretName: shop-tls}}]
  rules:
    - host: {HOST}
      http:
        paths:
          - {{path: {path}, pathType: Prefix, backend: {{service: {{name: shop, port: {{name: http}}}}}}}}
"#,
        VIPS[0], VIPS[1], VIPS_V6[0], VIPS_V6[1]
    )
}

pub(crate) fn chart(context: &Context) -> anyhow::Result<()> {
    for ((v4, v6), node) in VIPS.iter().zip(VIPS_V6).zip(0..) {
        run(Command::new("ip").args(["route", "add", v4, "via", NODES[node]]))?;
        run(Command::new("ip").args(["-6", "route", "add", v6, "via", &format!("2001:db8::1{node}")]))?;
    }
    run(Command::new("ip").args(["address", "add", &format!("{OTHER_CLIENT}/32"), "dev", "br0"]))?;
    release(context, "install", "dataplane: {mode: auto}")?;
    for (component, container) in
        [("data-plane", "agent"), ("data-plane", "proxy"), ("controller", "controller")]
    {
        let processes = context.rig.processes(component, container)?;
        ensure!(processes.len() == 2, "{container}: {processes:?}");
        ensure!(
            processes.iter().all(|process| process.restarts == 0),
            "{container} was restarted: {processes:?}"
        );
    }
    Ok(())
}

/// `helm install` or `helm upgrade` with these values, and waits until everything is ready.
pub(crate) fn release(context: &Context, action: &str, values: &str) -> anyhow::Result<()> {
    let file = context.rig.file("values.yaml");
    std::fs::write(&file, values)?;
    let mut helm = helm()?;
    helm.args([action, "portcullis"]).arg(chart_folder());
    helm.args(["--namespace", "portcullis", "--create-namespace", "--wait", "--timeout", "90s"]);
    if action == "upgrade" {
        helm.arg("--install");
    }
    // What a test cannot wait for: minutes of draining.
    let quick = "dataplane.drainTimeout=5,controller.terminationGracePeriodSeconds=30,dataplane.workers=2";
    helm.args(["--set", quick]);
    // After a broken watch everything is listed again within a tenth of it.
    helm.args(["--set", "controller.extraArgs.sync-period=50s"]);
    run(helm.args(["--values", &file]))?;
    Ok(())
}

/// Of what a node sees only with the programs.
const PACKETS: &str = r"
apiVersion: portcullis.dev/v1alpha1
kind: EdgePolicy
metadata: {name: packets}
spec: {scope: Cluster, limits: [{per: Source, packetsPerSecond: 100000, burst: 100000}]}
";

pub(crate) fn userspace(context: &Context) -> anyhow::Result<()> {
    // The proxy's user changes, and two users cannot share its metrics port: no surge this once (see the chart's README).
    let update = "{rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}";
    let values = format!("dataplane: {{mode: userspace}}\ncontroller: {{updateStrategy: {update}}}\n");
    release(context, "upgrade", &values)?;
    for node in NODES {
        eventually(&format!("200 from {node}"), SOON, || {
            let answer = get(http(node), HOST, "/")?;
            ensure!(answer.status == 200, "{}", answer.head);
            Ok(())
        })?;
    }
    for process in context.rig.processes("data-plane", "proxy")? {
        // NET_BIND_SERVICE (10) alone, for ports below 1024.
        ensure!(process.status("CapEff")? == "0000000000000400", "{}", process.status("CapEff")?);
        has_mode(context, &process.node, "userspace")?;
    }
    context.rig.apply(PACKETS)?;
    eventually("the policy says what does not hold", SOON, || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Programmed")]}"#;
        let condition = context.rig.kubectl(&["get", "edgepolicy", "packets", "-o", path])?;
        ensure!(condition.contains("\"NotEnforced\"") && condition.contains("node-0, node-1"), "{condition}");
        let selector = "--field-selector=involvedObject.name=packets";
        let events = context.rig.kubectl(&["get", "events", "-n", "default", selector])?;
        ensure!(events.contains("parts of it do not hold on 2 nodes"), "{events}");
        Ok(())
    })?;
    context.rig.delete(PACKETS)
}

/// A Secret with a certificate of this name, signed by itself; the file of the certificate.
pub(crate) fn tls_secret(
    context: &Context,
    namespace: &str,
    name: &str,
    host: &str,
) -> anyhow::Result<String> {
    let (key, certificate) =
        (context.rig.file(&format!("{name}.key")), context.rig.file(&format!("{name}.crt")));
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30".split(' '));
    openssl.args(["-subj", &format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}")]);
    run(openssl.args(["-keyout", &key, "-out", &certificate]))?;
    let pair = ["--cert", &certificate, "--key", &key];
    context.rig.kubectl(&[&["-n", namespace, "create", "secret", "tls", name][..], &pair].concat())?;
    Ok(certificate)
}

/// The body and the version of the answer over TLS from this address, which must prove that it is the host.
pub(crate) fn get_tls(
    address: &str,
    certificate: &str,
    host: &str,
    path: &str,
) -> anyhow::Result<(serde_json::Value, String)> {
    let mut curl = Command::new("curl");
    curl.args("--silent --show-error --fail --max-time 5 --http2 --write-out \n%{http_version}".split(' '));
    curl.args(["--cacert", certificate, "--resolve", &format!("{host}:443:{address}")]);
    let output = run(curl.arg(format!("https://{host}{path}")))?;
    let (body, version) = output.rsplit_once('\n').context("two lines")?;
    Ok((serde_json::from_str(body)?, version.to_owned()))
}

pub(crate) fn first_ingress(context: &Context) -> anyhow::Result<()> {
    tls_secret(context, "default", "shop-tls", HOST)?;
    context.rig.apply(&objects("/"))?;
    context.rig.kubectl(&["rollout", "status", "deployment/shop", "--timeout=20s"])?;
    for address in VIPS.iter().chain(&VIPS_V6).chain(&NODES) {
        eventually(&format!("200 from {address}"), SOON, || {
            let answer = get(http(address), HOST, "/cart")?;
            ensure!(answer.status == 200, "{}", answer.head);
            ensure!(answer.body["path"] == "/cart", "{}", answer.body);
            ensure!(answer.body["host"] == HOST, "{}", answer.body);
            Ok(())
        })?;
        let other = get(http(address), "unknown.example.test", "/")?;
        ensure!(other.status == 404, "an unknown host on {address}: {}", other.head);
    }
    Ok(())
}

pub(crate) fn tls(context: &Context) -> anyhow::Result<()> {
    let certificate = context.rig.file("shop-tls.crt");
    for address in VIPS {
        let (body, version) = get_tls(address, &certificate, HOST, "/cart")?;
        ensure!(version == "2", "HTTP/{version}");
        ensure!(body["headers"]["X-Forwarded-Proto"][0] == "https", "{body}");
    }
    Ok(())
}

/// What the status of an Ingress holds.
pub(crate) fn published(context: &Context, ingress: &str) -> anyhow::Result<String> {
    let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
    context.rig.kubectl(&["get", "ingress", ingress, "-o", path])
}

pub(crate) fn address(context: &Context) -> anyhow::Result<()> {
    let expected = format!("{} {}", VIPS[0], VIPS_V6[0]);
    eventually("the first address of each block in the status", SOON, || {
        let found = published(context, "shop")?;
        ensure!(found == expected, "{found:?}");
        Ok(())
    })?;
    let table = context.rig.kubectl(&["get", "ingress", "shop"])?;
    ensure!(table.contains(VIPS[0]), "{table}");
    Ok(())
}

pub(crate) fn kernel_half(context: &Context) -> anyhow::Result<()> {
    for node in 0..NODES.len() {
        let link = context.rig.on_node(node, "ip -details link show dev eth0")?;
        ensure!(
            link.contains("prog/xdp") && !link.contains("xdpgeneric"),
            "no native XDP on node-{node}: {link}"
        );
        let pins = context.rig.on_node(node, "find /sys/fs/bpf/portcullis -type f")?;
        ensure!(pins.contains("/links/"), "no pinned links on node-{node}: {pins}");
    }
    // The kernel's log of this machine is not the rig's, but a mode below the best is always said.
    for agent in context.rig.processes("data-plane", "agent")? {
        let log = eventually("the log", Duration::from_secs(1), || {
            context.rig.kubectl(&["-n", "portcullis", "logs", &agent.pod, "-c", "agent"])
        })?;
        ensure!(!log.contains("xdp-generic") && !log.contains("mode=userspace"), "{}: {log}", agent.node);
        has_mode(context, &agent.node, "xdp-native")?;
        let path = "jsonpath={.metadata.annotations}";
        let told =
            context.rig.kubectl(&["get", "lease", &agent.node, "-n", "portcullis-synced", "-o", path])?;
        for words in ["\"portcullis.dev/kernel\":", "\"portcullis.dev/interfaces\":\"eth0=xdp-native\""] {
            ensure!(told.contains(words), "{}: {told}", agent.node);
        }
    }
    Ok(())
}

/// How a node serves, as its Node says.
pub(crate) fn has_mode(context: &Context, node: &str, mode: &str) -> anyhow::Result<()> {
    eventually(&format!("{node} is annotated as {mode}"), SOON, || {
        let path = r"jsonpath={.metadata.annotations.portcullis\.dev/mode}";
        let is = context.rig.kubectl(&["get", "node", node, "-o", path])?;
        ensure!(is == mode, "{is:?}");
        Ok(())
    })
}
