//! The request gate, on the wire: what is refused, how, and what a backend sees of a strange but clear request.

use ingress_tests::client::{self, Http2};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, policies, simple};

/// Each is answered with the status and `Connection: close`, and no byte of it reaches the backend.
const REFUSED: &[(&str, &str, u16)] = &[
    ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", "GET / HTTP/1.1\r\nHost: web.example\r\nHost: web.example\r\n\r\n", 400),
    ("a list as host", "GET / HTTP/1.1\r\nHost: web.example, b\r\n\r\n", 400),
    ("a path in the host", "GET / HTTP/1.1\r\nHost: web.example/x\r\n\r\n", 400),
    ("user info in the host", "GET / HTTP/1.1\r\nHost: u@web.example\r\n\r\n", 400),
    ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("a port out of range", "GET / HTTP/1.1\r\nHost: web.example:99999\r\n\r\n", 400),
    ("user info in the target", "GET http://u@web.example/ HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("authority form", "GET web.example HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("asterisk form", "OPTIONS * HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("TRACE", "TRACE / HTTP/1.1\r\nHost: web.example\r\n\r\n", 405),
    ("CONNECT", "CONNECT web.example:80 HTTP/1.1\r\nHost: web.example\r\n\r\n", 405),
    ("a method in lower case", "get / HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("a backslash", "GET /a\\b HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("an encoded backslash", "GET /a%5cb HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("an encoded NUL", "GET /a%00 HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("bytes above ASCII", "GET /\u{e9} HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("above the root", "GET /../etc HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("dots behind an encoded slash", "GET /a%2f..%2fb HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    ("a broken escape", "GET /a%zz HTTP/1.1\r\nHost: web.example\r\n\r\n", 400),
    (
        "two codings",
        "POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two coding lines",
        "POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("a signed length", "POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: +1\r\n\r\nx", 400),
];

#[tokio::test(flavor = "multi_thread")]
async fn unclear_requests_are_refused_and_their_connection_ends() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    for (what, bytes, status) in REFUSED {
        let answer = client::raw(proxy.http, bytes.as_bytes()).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{what}: {answer}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    let refused: f64 = proxy.metric("portcullis_gate_refused_total{reason=\"host_invalid\"}").await;
    assert!((refused - 5.0).abs() < 0.1, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_targets_have_a_size() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let cases = [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000)), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(9000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(101)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(100_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(80)), 200),
    ];
    for (bytes, status) in cases {
        let answer = client::raw(proxy.http, bytes.as_bytes()).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    assert_eq!(origin.seen().len(), 1);
    eventually_counts(&proxy, "portcullis_gate_refused_total{reason=\"unreadable\"}").await;
}

/// The engine refuses what it cannot parse; that is counted when its connection ends.
async fn eventually_counts(proxy: &Instance, series: &str) {
    let deadline = tokio::time::Instant::now() + client::PATIENCE;
    while proxy.metric(series).await < 1.0 {
        assert!(tokio::time::Instant::now() < deadline, "{series}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_sees_the_path_that_was_decided_on() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let cases = [
        ("/a%20b?x=%2F..", "/a%20b?x=%2F.."),
        ("/a//b/./c/../d", "/a/b/d"),
        ("/group%2Fname", "/group%2Fname"),
        ("http://other.example/abs?q", "/abs?q"),
        ("http://other.example", "/"),
    ];
    for (target, seen) in cases {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: web.example\r\n\r\n");
        let answer = client::raw(proxy.http, bytes.as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        assert_eq!(origin.last().line, format!("GET {seen} HTTP/1.1"), "{target}");
        let host = if target.starts_with("http") { "other.example" } else { "web.example" };
        assert_eq!(origin.last().header("host").as_deref(), Some(host), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_has_the_same_gate() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let mut connection = Http2::open(proxy.http).await.unwrap();
    let statuses = [
        (client::get("web.example", "/%2e%2e/x"), 400),
        (client::request("TRACE", "web.example", "/", ""), 405),
        (client::get("u@web.example", "/"), 400),
        (client::get("web.example", "/fine"), 200),
    ];
    for (request, status) in statuses {
        let shown = format!("{request:?}");
        assert_eq!(connection.send(request).await.unwrap().status, status, "{shown}");
    }
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(origin.last().header("host").as_deref(), Some("web.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_health_checks_without_host_reach_the_catch_all() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let answer = client::raw(proxy.http, b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}

/// Not every client encodes what it puts into a query.
#[tokio::test(flavor = "multi_thread")]
async fn raw_signs_in_a_query_reach_the_backend() {
    let origin = Origin::start("web").await;
    let yaml = service("web", &[origin.address]) + &ingress("web", "a.example", "/", "web", &[]);
    let proxy = serve(&yaml).await.unwrap();
    let request = "GET /x?q=é&r=\\d|^{} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let answer = client::raw(proxy.http, request.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(origin.last().line, "GET /x?q=é&r=\\d|^{} HTTP/1.1");
}
