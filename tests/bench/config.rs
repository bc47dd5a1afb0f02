//! What a large configuration costs: `cargo xtask bench config [--json FILE]`.
//!
//! 5,000 Ingresses, 10,000 routes, 2,000 certificates. In this process: translation from nothing, after one changed
//! Ingress, Secret or Service, the webhook's answer, and the publishing of endpoints while 1,000 EndpointSlices change per second, with requests
//! that must not fail. As a process: cold start to the first answer, one changed file to traffic, memory, and `lint`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark talks to its user and fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingress_tests::client;
use ingress_tests::origin::Origin;
use serde_json::json;

const INGRESSES: usize = 5_000;
const ROUTES_EACH: usize = 2;
const CERTIFICATES: usize = 2_000;
const SERVICES: usize = 1_000;
const EDITS: usize = 60;

/// A line of the report.
struct Row {
    case: &'static str,
    value: f64,
    unit: &'static str,
    gate: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let json =
        arguments.iter().position(|argument| argument == "--json").and_then(|at| arguments.get(at + 1));
    let binary = std::env::var_os("PORTCULLIS").map(PathBuf::from).expect("PORTCULLIS names the binary");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut rows = runtime.block_on(endpoints::measure());
    rows.extend(runtime.block_on(process(&binary)));
    for Row { case, value, unit, gate } in &rows {
        let verdict = if value <= gate { "ok" } else { "MISSED" };
        println!("{case:<58} {value:>9.1} {unit:<4} gate {gate:>7.1}  {verdict}");
    }
    let is_good = rows.iter().all(|row| row.value <= row.gate);
    if let Some(path) = json {
        let rows: Vec<_> = rows
            .iter()
            .map(|Row { case, value, unit, gate }| {
                json!({"case": case, "value": value, "unit": unit, "gate": gate, "ok": value <= gate})
            })
            .collect();
        std::fs::write(path, json!({"rows": rows}).to_string()).unwrap();
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An Ingress of the large world.
fn ingress(number: usize, annotations: &str) -> String {
    let tls = if number < CERTIFICATES {
        format!("  tls: [{{hosts: [h{number}.example], secretName: cert-{number}}}]\n")
    } else {
        String::new()
    };
    let mut paths = String::new();
    for path in 0..ROUTES_EACH {
        let service = (number * ROUTES_EACH + path) % SERVICES;
        let at = if path == 0 { "/".to_owned() } else { format!("/p{path}") };
        let _ = writeln!(
            paths,
            "      - {{path: {at}, pathType: Prefix, backend: {{service: {{name: s{service}, port: {{number: 80}}}}}}}}"
        );
    }
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: i{number}\n  annotations:\n    \
         nginx.ingress.kubernetes.io/ssl-redirect: \"false\"\n    nginx.ingress.kubernetes.io/proxy-body-size: 8m\n\
         {annotations}spec:\n  ingressClassName: nginx\n{tls}  rules:\n  - host: h{number}.example\n    http:\n      paths:\n{paths}"
    )
}

/// A Service and its EndpointSlice.
fn service(number: usize, endpoints: &[SocketAddr]) -> String {
    let addresses: Vec<String> =
        endpoints.iter().map(|endpoint| format!("{{addresses: [\"{}\"]}}", endpoint.ip())).collect();
    let port = endpoints.first().map_or(80, SocketAddr::port);
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{number}-a, labels: \
         {{kubernetes.io/service-name: s{number}}}}}\naddressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{}]\n",
        addresses.join(", ")
    )
}

/// The Secrets of the large world, from a hundred keys: making two thousand takes longer than what is measured.
fn secrets() -> Vec<String> {
    let key = rcgen::KeyPair::generate().unwrap();
    (0..CERTIFICATES)
        .map(|number| {
            let params = rcgen::CertificateParams::new(vec![format!("h{number}.example")]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let data = |text: &str| text.lines().fold(String::new(), |all, line| all + "    " + line + "\n");
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: cert-{number}}}\ntype: kubernetes.io/tls\nstringData:\n  \
                 tls.crt: |\n{}  tls.key: |\n{}",
                data(&certificate.pem()),
                data(&key.serialize_pem())
            )
        })
        .collect()
}

fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    let index = ((times.len() as f64 - 1.0) * share).round() as usize;
    times[index].as_secs_f64() * 1000.0
}

/// The part that runs in this process: endpoint churn at the Cluster view.
mod endpoints {
    use ingress_tests::proxy::Instance;
    use ingress_userspace::admission::review::review;
    use ingress_userspace::k8s::cluster::{Cluster, ObjectKey};
    use ingress_userspace::k8s::folder::Folder;
    use ingress_userspace::translate::{Reuse, Settings, translate_with};
    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    use super::*;

    pub(super) async fn measure() -> Vec<Row> {
        let origins = [Origin::start("a").await, Origin::start("b").await];
        let addresses = origins.each_ref().map(|origin| origin.address);
        let folder = world(&addresses[..1]);
        let mut source = Folder::new(&folder);
        source.scan(&Default::default());
        let mut cluster = source.cluster();
        std::fs::remove_dir_all(&folder).unwrap();
        let settings = Settings { http_port: 0, https_port: 0, ..Settings::default() };
        let mut reuse = Reuse::default();
        let now = jiff_now();
        let started = Instant::now();
        let first = translate_with(&mut reuse, &cluster, &settings, now);
        let cold = started.elapsed();
        let mut proxy = Instance::start(first.model).await.unwrap();
        let mut rows = vec![row("translate, from nothing", cold.as_secs_f64() * 1000.0, "ms", 2_000.0)];
        let edits: [(&str, Edit); 3] = [
            ("translate, one Ingress changed, p99", touch),
            ("translate, one Secret changed, p99", renew),
            ("translate, one Service changed, p99", relabel),
        ];
        for (case, edit) in edits {
            let mut times = Vec::new();
            for turn in 0..20 {
                edit(&mut cluster, turn);
                let started = Instant::now();
                let translation = translate_with(&mut reuse, &cluster, &settings, now);
                times.push(started.elapsed());
                proxy.publish(translation.model).await.unwrap();
            }
            rows.push(row(case, percentile(&mut times, 0.99), "ms", 100.0));
        }
        rows.push(reviews(&cluster, &settings));
        rows.extend(churn(&mut cluster, &mut reuse, &settings, &mut proxy, &addresses).await);
        rows
    }

    /// The webhook lets an Ingress join the others, with a warning, each from a view of its own.
    fn reviews(cluster: &Cluster, settings: &Settings) -> Row {
        let mut times: Vec<Duration> = (0..200)
            .map(|turn| {
                let key = ObjectKey::new("default", format!("i{}", turn * 7));
                let text = json!(*cluster.ingresses[&key]).to_string();
                let text = &text.replace(r#""path":"/"#, r#""path":"/joins"#);
                let mut object: serde_json::Value = serde_json::from_str(text).unwrap();
                object["metadata"]["name"] = json!(format!("joins-{turn}"));
                object["metadata"]["annotations"]["nginx.ingress.kubernetes.io/rewrit-target"] = json!("/");
                let body = json!({
                    "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                    "request": {
                        "uid": "1", "operation": "CREATE", "object": object,
                        "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
                    },
                });
                let (body, started) = (serde_json::to_vec(&body).unwrap(), Instant::now());
                let answer = review(&cluster.clone(), settings, &body).unwrap();
                let took = started.elapsed();
                let warnings = answer["response"]["warnings"].as_array().map(Vec::len);
                assert_eq!((&answer["response"]["allowed"], warnings), (&true.into(), Some(1)), "{answer}");
                took
            })
            .collect();
        row("webhook, one review, p99", percentile(&mut times, 0.99), "ms", 100.0)
    }

    /// 1,000 changed slices a second for five seconds, a batch each hold-off, while a client asks.
    async fn churn(
        cluster: &mut Cluster,
        reuse: &mut Reuse,
        settings: &Settings,
        proxy: &mut Instance,
        addresses: &[SocketAddr; 2],
    ) -> Vec<Row> {
        let target = proxy.http;
        let client = tokio::spawn(async move {
            let (mut asked, mut failed) = (0_u32, 0_u32);
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until {
                let host = format!("h{}.example", asked as usize % INGRESSES);
                asked += 1;
                match client::fetch(target, &host, "/").await {
                    Ok(answer) if answer.status == 200 => {}
                    _ => failed += 1,
                }
            }
            (asked, failed)
        });
        let mut times = Vec::new();
        let begun = Instant::now();
        let mut updates = 0;
        while begun.elapsed() < Duration::from_secs(5) {
            // What arrived since the last batch at 1,000 a second.
            let due = (begun.elapsed().as_secs_f64() * 1000.0) as usize + 1;
            let arrived = Instant::now();
            while updates < due {
                flip(cluster, updates % SERVICES, addresses, updates);
                updates += 1;
            }
            let translation = translate_with(reuse, cluster, settings, jiff_now());
            proxy.publish(translation.model).await.unwrap();
            times.push(arrived.elapsed());
        }
        let (asked, failed) = client.await.unwrap();
        println!("{updates} slices changed in {} publishes; {asked} requests meanwhile", times.len());
        vec![
            row("endpoints of 1,000 slices/s published, p99", percentile(&mut times, 0.99), "ms", 100.0),
            row("requests that failed meanwhile", f64::from(failed), "", 0.0),
        ]
    }

    fn flip(cluster: &mut Cluster, service: usize, addresses: &[SocketAddr; 2], turn: usize) {
        let key = ObjectKey::new("default", format!("s{service}-a"));
        let before = cluster.endpoint_slices.get(&key).unwrap();
        let mut slice: EndpointSlice = (**before).clone();
        for port in slice.ports.iter_mut().flatten() {
            port.port = Some(i32::from(addresses[turn / SERVICES % 2].port()));
        }
        cluster.endpoint_slices.insert(key, Arc::new(slice));
    }

    fn touch(cluster: &mut Cluster, edit: usize) {
        let key = ObjectKey::new("default", format!("i{}", edit * 7));
        let before = cluster.ingresses.get(&key).unwrap();
        let mut ingress = (**before).clone();
        let annotations = ingress.metadata.annotations.get_or_insert_with(BTreeMap::new);
        annotations.insert("nginx.ingress.kubernetes.io/proxy-body-size".into(), format!("{}m", 9 + edit));
        cluster.ingresses.insert(key, Arc::new(ingress));
    }

    /// A change of the large world, another one each turn.
    type Edit = fn(&mut Cluster, usize);

    /// Another certificate in its place.
    fn renew(cluster: &mut Cluster, turn: usize) {
        let certificate =
            |number| Arc::clone(&cluster.secrets[&ObjectKey::new("default", format!("cert-{number}"))]);
        let (one, other) = (certificate(turn), certificate(turn + 1_000));
        let renewed = Secret { data: other.data.clone(), ..(*one).clone() };
        cluster.secrets.insert(ObjectKey::new("default", format!("cert-{turn}")), Arc::new(renewed));
    }

    fn relabel(cluster: &mut Cluster, turn: usize) {
        let key = ObjectKey::new("default", format!("s{turn}"));
        let mut service = (*cluster.services[&key]).clone();
        service.metadata.labels = Some([("edit".to_owned(), turn.to_string())].into());
        cluster.services.insert(key, Arc::new(service));
    }

    fn jiff_now() -> i64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed()
    }
}

fn row(case: &'static str, value: f64, unit: &'static str, gate: f64) -> Row {
    Row { case, value, unit, gate }
}

/// The large world as a folder: a file per hundred objects, and one for the Ingress that is edited.
fn world(endpoints: &[SocketAddr]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("portcullis-bench-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: String, texts: &[String]| std::fs::write(folder.join(name), texts.concat()).unwrap();
    let ingresses: Vec<String> = (0..INGRESSES).map(|number| ingress(number, "")).collect();
    for (number, chunk) in ingresses.chunks(100).enumerate() {
        write(format!("ingresses-{number}.yaml"), chunk);
    }
    let services: Vec<String> = (0..SERVICES).map(|number| service(number, endpoints)).collect();
    write("services.yaml".to_owned(), &services);
    for (number, chunk) in secrets().chunks(100).enumerate() {
        write(format!("secrets-{number}.yaml"), chunk);
    }
    write("edited.yaml".to_owned(), &[edited(0)]);
    folder
}

/// An Ingress whose answer shows which edit is served.
fn edited(edit: usize) -> String {
    let annotation =
        format!("    nginx.ingress.kubernetes.io/permanent-redirect: https://edit-{edit}.example/\n");
    ingress(INGRESSES, &annotation)
}

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The binary as users start it.
async fn process(binary: &Path) -> Vec<Row> {
    let origin = Origin::start("web").await;
    let folder = world(&[origin.address]);
    let mut rows = Vec::new();
    let started = Instant::now();
    let status = Command::new(binary)
        .args(["lint", "-o", "json", "-f"])
        .arg(&folder)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.code().is_some_and(|code| code < 2), "lint failed");
    rows.push(row("lint of all of it", started.elapsed().as_secs_f64() * 1000.0, "ms", 3_000.0));
    let (held_http, held_https) = (ingress_tests::origin::reserved(), ingress_tests::origin::reserved());
    let (http, https) = (held_http.address, held_https.address);
    let started = Instant::now();
    let process = Command::new(binary)
        .args("run --mode userspace --bind-address 127.0.0.1 --access-log off --healthz-port 0".split(' '))
        .args([
            "--http-port",
            &http.port().to_string(),
            "--https-port",
            &https.port().to_string(),
            "--manifests",
        ])
        .arg(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Running)
        .unwrap();
    while !serves(http, "h4999.example", "200").await {
        assert!(started.elapsed() < Duration::from_secs(120), "it does not serve");
    }
    rows.push(row("cold start to the first answer", started.elapsed().as_secs_f64() * 1000.0, "ms", 5_000.0));
    let mut times = Vec::new();
    for edit in 1..=EDITS {
        std::fs::write(folder.join("new.tmp"), edited(edit)).unwrap();
        let changed = Instant::now();
        std::fs::rename(folder.join("new.tmp"), folder.join("edited.yaml")).unwrap();
        while !serves(http, &format!("h{INGRESSES}.example"), &format!("edit-{edit}.example")).await {
            assert!(changed.elapsed() < Duration::from_secs(30), "the edit is not served");
        }
        times.push(changed.elapsed());
    }
    rows.push(row("one changed Ingress to traffic, p99", percentile(&mut times, 0.99), "ms", 250.0));
    rows.push(row("resident memory", resident(&process.0), "MiB", 200.0));
    drop(process);
    std::fs::remove_dir_all(&folder).unwrap();
    rows
}

/// Whether the answer is of this status, or leads there.
async fn serves(address: SocketAddr, host: &str, wanted: &str) -> bool {
    match client::fetch(address, host, "/").await {
        Ok(answer) => {
            answer.status.to_string() == wanted
                || answer.header("location").is_some_and(|location| location.contains(wanted))
        }
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(5)).await;
            false
        }
    }
}

fn resident(process: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
