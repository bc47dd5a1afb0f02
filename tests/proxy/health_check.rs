//! Active checks: an endpoint that fails them takes no requests, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ingress_tests::client;
use ingress_tests::manifests::{ingress, model, serve, service};
use ingress_tests::origin::{Raw, raw, read_head};
use ingress_tests::proxy::Instance;
use tokio::io::AsyncWriteExt;

const HOST: &str = "a.example.com";

/// A backend that answers requests with its name, and checks as it is told.
struct Checked {
    raw: Raw,
    is_well: Arc<AtomicBool>,
    checks: Arc<AtomicUsize>,
}

async fn backend(name: &'static str) -> Checked {
    let is_well = Arc::new(AtomicBool::new(true));
    let checks = Arc::new(AtomicUsize::new(0));
    let (well, count) = (Arc::clone(&is_well), Arc::clone(&checks));
    let raw = raw(move |mut stream| {
        let (well, count) = (Arc::clone(&well), Arc::clone(&count));
        async move {
            loop {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let is_check = head.starts_with("GET /healthz ");
                if is_check {
                    assert!(head.contains("user-agent: portcullis-health-check\r\n"), "{head}");
                    count.fetch_add(1, Ordering::SeqCst);
                }
                let status = if is_check && !well.load(Ordering::SeqCst) { 500 } else { 200 };
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    Checked { raw, is_well, checks }
}

fn manifests(backends: &[&Checked], annotations: &[(&str, &str)]) -> String {
    let endpoints: Vec<_> = backends.iter().map(|backend| backend.raw.address).collect();
    [service("web", &endpoints), ingress("web", HOST, "/", "web", annotations)].concat()
}

/// Waits until the metric says so.
async fn unhealthy(proxy: &Instance, count: usize) {
    let series = r#"portcullis_checked_endpoints{upstream="default-web-80",state="unhealthy"}"#;
    let deadline = std::time::Instant::now() + client::PATIENCE;
    while (proxy.metric(series).await - count as f64).abs() > 0.1 {
        assert!(std::time::Instant::now() < deadline, "{}", proxy.state.registry.render().await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn served(proxy: &Instance) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..12 {
        names.push(client::fetch(proxy.http, HOST, "/").await.unwrap().text());
    }
    names.sort();
    names.dedup();
    names
}

const ROWS: [(&str, &str); 2] =
    [("upstream-health-check-path", "/healthz"), ("upstream-health-check-interval", "20ms")];

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_checks_leaves_and_comes_back() {
    let (one, two) = (backend("one").await, backend("two").await);
    let mut proxy = serve(&manifests(&[&one, &two], &ROWS)).await.unwrap();
    assert_eq!(served(&proxy).await, ["one", "two"]);
    one.is_well.store(false, Ordering::SeqCst);
    unhealthy(&proxy, 1).await;
    assert_eq!(served(&proxy).await, ["two"]);
    // A new model that says the same changes nothing of that.
    proxy.publish(model(&manifests(&[&one, &two], &ROWS)).unwrap()).await.unwrap();
    assert_eq!(served(&proxy).await, ["two"]);
    // All unhealthy: better some answer than none.
    two.is_well.store(false, Ordering::SeqCst);
    unhealthy(&proxy, 2).await;
    assert_eq!(served(&proxy).await, ["one", "two"]);
    one.is_well.store(true, Ordering::SeqCst);
    unhealthy(&proxy, 1).await;
    assert_eq!(served(&proxy).await, ["one"]);
    two.is_well.store(true, Ordering::SeqCst);
    unhealthy(&proxy, 0).await;
    assert_eq!(served(&proxy).await, ["one", "two"]);
    assert!(proxy.metric(r#"portcullis_health_checks_total{result="failed"}"#).await >= 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_end_with_the_annotation_and_what_they_found_is_forgotten() {
    let (one, two) = (backend("one").await, backend("two").await);
    let mut proxy = serve(&manifests(&[&one, &two], &ROWS)).await.unwrap();
    one.is_well.store(false, Ordering::SeqCst);
    unhealthy(&proxy, 1).await;
    proxy.publish(model(&manifests(&[&one, &two], &[])).unwrap()).await.unwrap();
    assert_eq!(served(&proxy).await, ["one", "two"]);
    let before = one.checks.load(Ordering::SeqCst);
    assert_eq!(served(&proxy).await, ["one", "two"]);
    // One may have been under way.
    assert!(one.checks.load(Ordering::SeqCst) <= before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_checks_an_endpoint_once_however_many_routes_and_workers_it_has() {
    let one = backend("one").await;
    let rows = [("upstream-health-check-path", "/healthz"), ("upstream-health-check-interval", "1h")];
    let yaml = [
        manifests(&[&one], &rows),
        ingress("other", "b.example.com", "/x", "web", &rows),
        ingress("third", HOST, "/third", "web", &[]),
    ];
    let proxy =
        Instance::start_with(model(&yaml.concat()).unwrap(), |settings| settings.workers = 4).await.unwrap();
    ingress_tests::proxy::eventually(|| (one.checks.load(Ordering::SeqCst) > 0).then_some(())).await.unwrap();
    assert_eq!(served(&proxy).await, ["one"]);
    assert_eq!(one.checks.load(Ordering::SeqCst), 1);
}
