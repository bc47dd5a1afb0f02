//! The real cert-manager gets certificates from pebble by HTTP-01 challenges through the ingress. (`cert-manager/` has both.)
//! What it writes into Secrets is served at once, and no handshake fails meanwhile.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_tests::client::tls_config;
use ingress_tests::cluster::{SOON, eventually, get};
use rustls::ClientConnection;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::{Context, NODES, VIPS, http};

/// Where pebble listens, and the DNS server that pebble and cert-manager ask.
const ACME: &str = "127.0.0.1:14000";
const DNS: &str = "127.0.0.1:8053";
/// How long cert-manager may take for a certificate; it waits several times for a second or more.
const ISSUED: Duration = Duration::from_secs(60);
/// How long a new certificate may stand in its Secret before it is served.
const SERVED: Duration = Duration::from_secs(1);

/// Name of Ingress, Secret and Certificate, Issuer, and further annotations.
const SITES: [(&str, &str, &str); 3] = [
    ("by-name", "by-name", ""),
    ("by-annotation", "by-annotation", ""),
    // The challenge becomes a path of this very Ingress; until then there is a temporary certificate. Neither its password
    // nor its redirect to HTTPS must stand in the way.
    (
        "in-place",
        "by-name",
        "acme.cert-manager.io/http01-edit-in-place: \"true\", nginx.ingress.kubernetes.io/auth-type: basic, \
         nginx.ingress.kubernetes.io/auth-secret: in-place-users, ",
    ),
];

fn host(name: &str) -> String {
    format!("{name}.acme.example.test")
}

pub(crate) fn issued_and_renewed(context: &Context) -> anyhow::Result<()> {
    let authority = start(context)?;
    for (name, class) in [("by-name", "ingressClassName"), ("by-annotation", "class")] {
        context.rig.apply(&issuer(name, class, &authority))?;
    }
    let users = "--from-literal=auth=user:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
    context.rig.kubectl(&["create", "secret", "generic", "in-place-users", users])?;
    changes(context, "issued", || SITES.iter().try_for_each(|site| context.rig.apply(&ingress(*site))))?;
    for (name, status) in [("by-name", 308), ("by-annotation", 308), ("in-place", 308)] {
        for node in NODES {
            let answer = get(http(node), &host(name), "/")?;
            ensure!(answer.status == status, "{name} on {node}: {}", answer.head);
        }
    }
    // As `cmctl renew` does it.
    let issuing = r#"[{"op": "add", "path": "/status/conditions/-", "value":
        {"type": "Issuing", "status": "True", "reason": "Asked", "message": "renew", "lastTransitionTime": "2026-01-01T00:00:00Z"}}]"#;
    changes(context, "renewed", || {
        SITES.iter().try_for_each(|(name, ..)| {
            let patch =
                ["patch", "certificate", name, "--subresource=status", "--type=json", "--patch", issuing];
            context.rig.kubectl(&patch).map(|_| ())
        })
    })?;
    // It tidies up after the certificate is in its Secret.
    eventually("no solver is left", SOON, || {
        let solvers = context.rig.kubectl(&["get", "ingress,pod,service", "-o", "name"])?;
        ensure!(!solvers.contains("cm-acme-http-solver"), "{solvers}");
        Ok(())
    })?;
    for (name, ..) in SITES {
        context.rig.kubectl(&["delete", "ingress,secret", name, "--wait"])?;
    }
    context.rig.kubectl(&["delete", "issuer", "--all"])?;
    Ok(())
}

/// Starts what ends with the rig: pebble, its DNS server, cert-manager. Returns pebble's certificate.
fn start(context: &Context) -> anyhow::Result<String> {
    let folder = PathBuf::from(std::env::var_os("RIG_CERT_MANAGER").context("RIG_CERT_MANAGER is not set")?);
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let (certificate, key) = (context.rig.file("pebble.crt"), context.rig.file("pebble.key"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let settings = serde_json::json!({"pebble": {
        "listenAddress": ACME, "managementListenAddress": "127.0.0.1:15000",
        "certificate": certificate, "privateKey": key, "httpPort": 80, "tlsPort": 443,
        "retryAfter": {"authz": 1, "order": 1},
        "profiles": {"default": {"description": "the only one", "validityPeriod": 7_776_000}},
    }});
    let file = context.rig.file("pebble.json");
    std::fs::write(&file, settings.to_string())?;
    let background = |name: &str, arguments: &[&str]| -> anyhow::Result<()> {
        let log = std::fs::File::create(context.rig.file(&format!("log/{name}.log")))?;
        let mut command = Command::new(folder.join(name));
        command.args(arguments).env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        command.env("PEBBLE_AUTHZREUSE", "0").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(())
    };
    let others =
        ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", "127.0.0.1:8055"];
    let dns = ["-dnsserver", DNS, "-defaultIPv4", VIPS[0], "-defaultIPv6", ""];
    background("pebble-challtestsrv", &[&dns[..], &others[..]].concat())?;
    background("pebble", &["-config", &file, "-dnsserver", DNS])?;
    let crds = folder.join("crds").display().to_string();
    context.rig.kubectl(&["apply", "--server-side", "-f", &crds])?;
    context.rig.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=20s"])?;
    eventually("pebble listens", SOON, || Ok(TcpStream::connect(ACME)?))?;
    background("cert-manager", &["controller", &std::env::var("KUBECONFIG")?, DNS])?;
    Ok(made.cert.pem())
}

fn issuer(name: &str, class: &str, authority: &str) -> String {
    let bundle = STANDARD.encode(authority);
    format!(
        r"
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {{name: {name}, namespace: default}}
spec:
  acme:
    server: https://{ACME}/dir
    caBundle: {bundle}
    privateKeySecretRef: {{name: account-{name}}}
    solvers:
      - http01:
          ingress:
            {class}: portcullis
            # The image says so of itself.
            podTemplate: {{spec: {{securityContext: {{runAsNonRoot: true, runAsUser: 1000}}}}}}
"
    )
}

fn ingress((name, issuer, annotations): (&str, &str, &str)) -> String {
    let host = host(name);
    format!(
        r"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  namespace: default
  annotations: {{{annotations}cert-manager.io/issuer: {issuer}, cert-manager.io/private-key-algorithm: ECDSA}}
spec:
  ingressClassName: portcullis
  tls: [{{hosts: [{host}], secretName: {name}}}]
  rules:
    - host: {host}
      http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: shop, port: {{name: http}}}}}}}}]}}
"
    )
}

/// Does what brings all sites new certificates; each must be served at both VIPs soon after it stands in its Secret, and
/// every handshake meanwhile must succeed.
fn changes(context: &Context, what: &str, cause: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let before: Vec<_> = SITES.iter().map(|(name, ..)| held(context, name).ok()).collect();
    let handshakes = Handshakes::start();
    let secrets = watch_secrets()?;
    cause()?;
    for ((name, ..), before) in SITES.iter().zip(before) {
        eventually(&format!("{name} is {what}"), ISSUED, || {
            let conditions = "jsonpath={range .status.conditions[*]}{.type}={.status} {end}";
            let conditions = context.rig.kubectl(&["get", "certificate", name, "-o", conditions])?;
            ensure!(conditions == "Ready=True ", "{conditions:?}{}", progress(context)?);
            ensure!(Some(held(context, name)?) != before, "it is the certificate of before");
            Ok(())
        })?;
    }
    for (name, ..) in SITES {
        let last = held(context, name)?;
        for vip in VIPS {
            eventually(&format!("{vip} serves the certificate of {name}"), SERVED, || {
                ensure!(handshakes.last(vip, name).is_some_and(|served| served == last), "another one is");
                Ok(())
            })?;
        }
    }
    let served = handshakes.stop()?;
    let written: Vec<Written> = secrets.try_iter().collect();
    for (name, ..) in SITES {
        let last = held(context, name)?;
        let at = written.iter().find(|write| write.name == name && write.certificate == last);
        let at = at.with_context(|| format!("nobody saw the Secret {name} being written"))?.at;
        for vip in VIPS {
            let mut ours = served.iter().filter(|seen| seen.vip == vip && seen.name == name);
            let first = ours.find(|seen| seen.certificate == last).context("it was served")?.at;
            let delay = first.saturating_duration_since(at);
            ensure!(delay <= SERVED, "{vip} served the certificate of {name} only after {delay:?}");
        }
    }
    Ok(())
}

/// How far cert-manager has come.
fn progress(context: &Context) -> anyhow::Result<String> {
    context.rig.kubectl(&["get", "certificate,order,challenge,ingress", "-o", "wide"])
}

/// The certificate in a Secret.
fn held(context: &Context, name: &str) -> anyhow::Result<Vec<u8>> {
    let text = context.rig.kubectl(&["get", "secret", name, "-o", r"jsonpath={.data.tls\.crt}"])?;
    leaf(&text)
}

fn leaf(encoded: &str) -> anyhow::Result<Vec<u8>> {
    let pem = STANDARD.decode(encoded.trim())?;
    Ok(CertificateDer::from_pem_slice(&pem)?.to_vec())
}

/// A certificate that was written into a Secret.
struct Written {
    at: Instant,
    name: String,
    certificate: Vec<u8>,
}

/// Follows the Secrets with certificates; it ends with its receiver's process.
fn watch_secrets() -> anyhow::Result<Receiver<Written>> {
    let columns = r#"jsonpath={.metadata.name}{" "}{.data.tls\.crt}{"\n"}"#;
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["get", "secrets", "--watch", "--field-selector=type=kubernetes.io/tls", "-o", columns]);
    let mut child = kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("piped")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let at = Instant::now();
            let Some((name, text)) = line.split_once(' ') else { continue };
            let Ok(certificate) = leaf(text) else { continue };
            if sender.send(Written { at, name: name.to_owned(), certificate }).is_err() {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    });
    Ok(receiver)
}

/// A certificate that was served and was not before.
#[derive(Clone)]
struct Seen {
    at: Instant,
    vip: &'static str,
    name: &'static str,
    certificate: Vec<u8>,
}

/// Handshakes that go on in the background, for every site at every VIP.
struct Handshakes {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    workers: Vec<JoinHandle<Vec<String>>>,
}

impl Handshakes {
    fn start() -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Seen>>>::default());
        let pairs = VIPS.iter().flat_map(|vip| SITES.iter().map(move |(name, ..)| (*vip, *name)));
        let workers = pairs.map(|(vip, name)| {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            std::thread::spawn(move || {
                let (mut failures, mut last) = (Vec::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match handshake(vip, &host(name)) {
                        Ok(certificate) if certificate == last => {}
                        Ok(certificate) => {
                            last.clone_from(&certificate);
                            let one = Seen { at: Instant::now(), vip, name, certificate };
                            seen.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                        }
                        Err(error) => failures.push(format!("{name} at {vip}: {error:#}")),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                failures
            })
        });
        Self { workers: workers.collect(), stop, seen }
    }

    /// What was served last.
    fn last(&self, vip: &str, name: &str) -> Option<Vec<u8>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.iter().rev().find(|seen| seen.vip == vip && seen.name == name);
        last.map(|seen| seen.certificate.clone())
    }

    /// Ends them; each certificate that was served, or the failures.
    fn stop(self) -> anyhow::Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for worker in self.workers {
            failures.extend(worker.join().ok().context("a client panicked")?);
        }
        ensure!(failures.is_empty(), "{} handshakes failed: {:?}", failures.len(), failures.first());
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The certificate that is served to a client that takes any.
fn handshake(vip: &str, host: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(vip.parse()?, 443), Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let name = ServerName::try_from(host.to_owned())?;
    let mut client = ClientConnection::new(Arc::new(tls_config(&[], None)?), name)?;
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    let leaf = client.peer_certificates().and_then(|chain| chain.first()).context("no certificate")?;
    Ok(leaf.to_vec())
}
