//! A release with the values of a platform team: TCP and UDP services, headers, a Redis, a published Service, little room for
//! bodies. Everything that they name is read by agents as the controller's copy alone, with the rights of the chart.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use ingress_tests::cluster::{Answer, Load, SOON, eventually, get, run, send};

use crate::install::{published, release, tls_secret};
use crate::{Context, HOST, VIPS, http};

const REDIS: &str = "198.18.0.1:6379";

const VALUES: &str = r#"
controller:
  config:
    rate-limit-redis-address: "198.18.0.1:6379"
    rate-limit-redis-secret: portcullis/redis
    global-allowed-response-headers: X-Custom
  proxySetHeaders: {X-Edge: "edge-$host"}
  addHeaders: {X-Served-By: portcullis}
  publishService: {enabled: true, pathOverride: default/edge}
tcp: {9000: "default/shop:80"}
udp: {9053: "default/shop:80"}
dataplane:
  tempLimit: 4
"#;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: redis, namespace: portcullis}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Secret
metadata: {name: users, namespace: default}
stringData: {auth: "ada:{PLAIN}one"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: custom, namespace: default}
data: {X-Custom: "yes"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: asked, namespace: default}
data: {X-Asked: "yes"}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: default}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: platform
  namespace: default
  annotations:
    nginx.ingress.kubernetes.io/auth-type: basic
    nginx.ingress.kubernetes.io/auth-secret: users
    nginx.ingress.kubernetes.io/custom-headers: default/custom
    nginx.ingress.kubernetes.io/limit-rps: "1000"
    nginx.ingress.kubernetes.io/proxy-body-size: "0"
    external-dns.alpha.kubernetes.io/hostname: platform.example.test
    external-dns.alpha.kubernetes.io/ttl: "60"
    external-dns.kubernetes.io/target: 203.0.113.7
spec:
  ingressClassName: portcullis
  rules:
    - host: platform.example.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: platform-tls
  namespace: default
  annotations:
    nginx.ingress.kubernetes.io/auth-tls-secret: default/clients
    nginx.ingress.kubernetes.io/auth-url: http://shop.default.svc.cluster.local/verify
    nginx.ingress.kubernetes.io/auth-proxy-set-headers: default/asked
    nginx.ingress.kubernetes.io/backend-protocol: HTTPS
    nginx.ingress.kubernetes.io/proxy-ssl-secret: default/clients
    nginx.ingress.kubernetes.io/custom-http-errors: "404"
    nginx.ingress.kubernetes.io/default-backend: shop
spec:
  ingressClassName: portcullis
  rules:
    - host: platform-tls.example.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
"#;

/// What agents must find in the namespace of copies.
const COPIES: [&str; 10] = [
    "secret/portcullis.redis",
    "secret/default.users",
    "secret/default.clients",
    "configmap/default.custom",
    "configmap/default.asked",
    "configmap/portcullis.portcullis",
    "configmap/portcullis.portcullis-add-headers",
    "configmap/portcullis.portcullis-proxy-set-headers",
    "configmap/portcullis.portcullis-tcp",
    "configmap/portcullis.portcullis-udp",
];

/// A Redis beside the nodes, which ends with the scenario.
struct Redis(Child);

impl Redis {
    fn start() -> anyhow::Result<Self> {
        let mut server = Command::new("redis-server");
        server.args("--port 6379 --bind 198.18.0.1 --requirepass hunter2 --save".split(' ')).arg("");
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let address: SocketAddr = REDIS.parse()?;
        let redis = Self(server);
        eventually("the Redis listens", SOON, || {
            TcpStream::connect(address)?;
            Ok(())
        })?;
        Ok(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn asked(method: &str, length: usize) -> anyhow::Result<Answer> {
    let mut request = format!(
        "{method} / HTTP/1.1\r\nHost: platform.example.test\r\nAuthorization: Basic YWRhOm9uZQ==\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes();
    request.resize(request.len() + length, b'x');
    send(http(VIPS[0]), &request)
}

pub(crate) fn references(context: &Context) -> anyhow::Result<()> {
    let redis = Redis::start()?;
    tls_secret(context, "default", "clients", "clients.example.test")?;
    let authority = std::fs::read_to_string(context.rig.file("clients.crt"))?;
    let patch = serde_json::json!({ "stringData": { "ca.crt": authority } }).to_string();
    context.rig.kubectl(&["patch", "secret", "clients", "--type=merge", "--patch", &patch])?;
    // First the settings: without them the headers of the Ingress would not be allowed.
    release(context, "upgrade", VALUES)?;
    context.rig.apply(OBJECTS)?;
    for copy in COPIES {
        eventually(&format!("a copy {copy}"), SOON, || {
            context.rig.kubectl(&["-n", "portcullis-synced", "get", copy])
        })?;
    }
    for vip in VIPS {
        eventually("the password is asked for", SOON, || {
            let answer = get(http(vip), "platform.example.test", "/")?;
            ensure!(answer.status == 401, "{}", answer.head);
            Ok(())
        })?;
        eventually("a TCP service answers", SOON, || {
            let answer = get(SocketAddr::new(vip.parse()?, 9000), "anything", "/tcp")?;
            ensure!(answer.status == 200 && answer.body["path"] == "/tcp", "{}", answer.head);
            Ok(())
        })?;
    }
    eventually("headers of all three ConfigMaps", SOON, || {
        let answer = asked("GET", 0)?;
        ensure!(answer.status == 200, "{}", answer.head);
        ensure!(answer.body["headers"]["X-Edge"][0] == "edge-platform.example.test", "{}", answer.body);
        ensure!(answer.header("x-served-by") == Some("portcullis"), "{}", answer.head);
        ensure!(answer.header("x-custom") == Some("yes"), "{}", answer.head);
        Ok(())
    })?;
    let keys = "redis-cli -h 198.18.0.1 -a hunter2 --no-auth-warning keys portcullis*";
    eventually("the Redis shares the limit", SOON, || {
        asked("GET", 0)?;
        let keys = run(Command::new("sh").args(["-c", keys]))?;
        ensure!(keys.contains("portcullis"), "{keys:?}");
        Ok(())
    })?;
    for ingress in ["platform", "platform-tls"] {
        let described = context.rig.kubectl(&["describe", "ingress", ingress])?;
        ensure!(!described.contains("Warning"), "{described}");
    }
    drop(redis);
    Ok(())
}

/// Goes on with the release and objects of [`references`].
pub(crate) fn bodies(context: &Context) -> anyhow::Result<()> {
    ensure!(asked("PUT", 3 << 20)?.status == 200, "a body that memory does not hold goes through /tmp");
    let full = asked("PUT", 16 << 20);
    // The answer may come while the client still sends.
    if let Ok(answer) = full {
        ensure!(answer.status == 500, "{}", answer.head);
    }
    eventually("the log says why", SOON, || {
        let mut logs = String::new();
        for proxy in context.rig.processes("data-plane", "proxy")? {
            logs += &context.rig.kubectl(&["-n", "portcullis", "logs", &proxy.pod, "-c", "proxy"])?;
        }
        ensure!(logs.contains("the limit of temporary files is reached"), "{:?}", logs.lines().last());
        Ok(())
    })?;
    ensure!(asked("PUT", 3 << 20)?.status == 200, "the room is given back");
    Ok(())
}

/// Goes on with the release and objects of [`references`].
pub(crate) fn balancer(context: &Context) -> anyhow::Result<()> {
    let is_published = |expected: &str| {
        eventually(&format!("the status is {expected}"), SOON, || {
            let path = "jsonpath={.status.loadBalancer.ingress[*]['ip','hostname']}";
            let found = context.rig.kubectl(&["get", "ingress", "platform", "-o", path])?;
            ensure!(found == expected, "{found:?}");
            Ok(())
        })
    };
    let service =
        |patch: &str| context.rig.kubectl(&["patch", "service", "edge", "--type=merge", "--patch", patch]);
    // What MetalLB does.
    let given = |address: &str| {
        let patch = format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{address}"}}]}}}}}}"#);
        let target = ["patch", "service", "edge", "--subresource=status", "--type=merge", "--patch", &patch];
        context.rig.kubectl(&target)
    };
    given("203.0.113.11")?;
    is_published("203.0.113.11")?;
    let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
    let kept = context.rig.kubectl(&["get", "service", "edge", "-o", path])?;
    ensure!(kept == "203.0.113.11", "the status of the Service is not ours: {kept}");
    let table = context.rig.kubectl(&["get", "ingress", "platform"])?;
    ensure!(table.contains("203.0.113.11"), "{table}");
    // Somebody else's address does not stay.
    let foreign = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.99"}]}}}"#;
    context.rig.kubectl(&[
        "patch",
        "ingress",
        "platform",
        "--subresource=status",
        "--type=merge",
        "--patch",
        foreign,
    ])?;
    is_published("203.0.113.11")?;
    // More addresses, then another kind of Service. One object is written at most every ten seconds.
    service(r#"{"spec":{"externalIPs":["203.0.113.20"]}}"#)?;
    is_published("203.0.113.11 203.0.113.20")?;
    let named = r#"{"spec":{"type":"ExternalName","externalName":"edge.example.test","externalIPs":null,"clusterIP":null,"clusterIPs":null}}"#;
    service(named)?;
    is_published("edge.example.test")
}

/// Back to the release of all other scenarios, without a failed request.
pub(crate) fn restore(context: &Context) -> anyhow::Result<()> {
    let addresses: Vec<SocketAddr> = VIPS.iter().map(|vip| http(vip)).collect();
    let load = Load::start(&addresses, HOST, "/");
    context.rig.delete(OBJECTS)?;
    context.rig.kubectl(&["delete", "secret", "clients"])?;
    release(context, "upgrade", "{}")?;
    load.stop().context("during the upgrade")?;
    for copy in COPIES.iter().filter(|copy| !copy.ends_with("portcullis.portcullis")) {
        eventually(&format!("the copy {copy} is gone"), SOON, || {
            let found =
                context.rig.kubectl(&["-n", "portcullis-synced", "get", copy, "--ignore-not-found"])?;
            ensure!(found.is_empty(), "{found}");
            Ok(())
        })?;
    }
    eventually("the VIPs are published again", SOON, || {
        ensure!(published(context, "shop")?.starts_with(VIPS[0]));
        Ok(())
    })
}
