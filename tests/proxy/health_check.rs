//! Active checks: an endpoint that fails them takes no requests, and comes back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress_tests::client;
use ingress_tests::manifests::{ingress, model, serve, service};
use ingress_tests::origin::{Raw, raw, read_head};
use ingress_tests::proxy::Instance;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

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

/// A gRPC server that answers calls with its name in a header, and health checks of `shop.Cart` as it is told.
async fn grpc(name: &'static str) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let is_well = Arc::new(AtomicBool::new(true));
    let well = Arc::clone(&is_well);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let well = Arc::clone(&well);
            let service = service_fn(move |request: Request<Incoming>| {
                let well = Arc::clone(&well);
                async move { Ok::<_, Infallible>(grpc_answer(request, name, well.load(Ordering::SeqCst)).await) }
            });
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, is_well)
}

type Frames = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn grpc_answer(request: Request<Incoming>, name: &'static str, is_well: bool) -> Response<Frames> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut message = vec![0, 0, 0, 0, 0];
    if request.uri().path() == "/grpc.health.v1.Health/Check" {
        assert_eq!(request.headers()["content-type"], "application/grpc");
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&asked[..], b"\0\0\0\0\x0b\x0a\x09shop.Cart");
        message = vec![0, 0, 0, 0, 2, 8, if is_well { 1 } else { 2 }];
    }
    let frames = vec![Ok(Frame::data(Bytes::from(message))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("x-name", HeaderValue::from_static(name));
    response
}

async fn named(proxy: &Instance, host: &str) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..8 {
        let answer = client::fetch(proxy.http, host, "/shop.Cart/List").await.unwrap();
        names.push(answer.header("x-name").unwrap_or_default().to_owned());
    }
    names.sort();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_service_of_grpc_says_who_takes_requests() {
    let ((one, one_is_well), (two, _)) = (grpc("one").await, grpc("two").await);
    let rows = [
        ("backend-protocol", "GRPC"),
        ("upstream-health-check-type", "grpc"),
        ("upstream-health-check-service", "shop.Cart"),
        ("upstream-health-check-interval", "20ms"),
    ];
    let proxy = serve(&[service("web", &[one, two]), ingress("web", HOST, "/", "web", &rows)].concat()).await;
    let proxy = proxy.unwrap();
    assert_eq!(named(&proxy, HOST).await, ["one", "two"]);
    one_is_well.store(false, Ordering::SeqCst);
    unhealthy(&proxy, 1).await;
    assert_eq!(named(&proxy, HOST).await, ["two"]);
    one_is_well.store(true, Ordering::SeqCst);
    unhealthy(&proxy, 0).await;
    assert_eq!(named(&proxy, HOST).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_checks_its_own_service() {
    let (main, one, two) = (backend("main").await, backend("one").await, backend("two").await);
    let rows = [&ROWS[..], &[("canary", "true"), ("canary-by-header", "x-canary")]].concat();
    let yaml = [
        manifests(&[&main], &[]),
        service("new", &[one.raw.address, two.raw.address]),
        ingress("new", HOST, "/", "new", &rows),
    ];
    let proxy = serve(&yaml.concat()).await.unwrap();
    one.is_well.store(false, Ordering::SeqCst);
    let series = r#"portcullis_checked_endpoints{upstream="default-new-80",state="unhealthy"}"#;
    let deadline = std::time::Instant::now() + client::PATIENCE;
    while proxy.metric(series).await < 1.0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for _ in 0..6 {
        let mut request = client::get(HOST, "/");
        request.headers_mut().insert("x-canary", "always".parse().unwrap());
        assert_eq!(client::send(proxy.http, request).await.unwrap().text(), "two");
    }
    assert_eq!(main.checks.load(Ordering::SeqCst), 0, "the main Service is checked by its own Ingress alone");
}
