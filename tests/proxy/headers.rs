//! What the backend is told about the client, and what ends at the proxy.

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::origin::{Origin, canned};
use ingress_tests::proxy::{Instance, policies, simple};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_claims_about_itself_is_replaced() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let mut request = client::get("web.example:8080", "/");
    let claims = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-scheme", "https"),
        ("x-forwarded-prefix", "/evil"),
        ("x-scheme", "https"),
        ("x-real-ip", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("x-original-uri", "/admin"),
        ("ssl-client-verify", "SUCCESS"),
        ("proxy", "http://evil.example"),
        ("x_real_ip", "203.0.113.9"),
        ("connection", "x-real-ip, x-custom"),
        ("x-custom", "1"),
        ("x-kept", "1"),
    ];
    for (name, value) in claims {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    assert_eq!(client::send(proxy.http, request).await.unwrap().status, 200);
    let seen = origin.last();
    let port = proxy.http.port().to_string();
    let expected = [
        ("host", Some("web.example:8080")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-original-forwarded-for", Some("203.0.113.9")),
        ("x-forwarded-host", Some("web.example:8080")),
        ("x-original-forwarded-host", Some("evil.example")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-port", Some(port.as_str())),
        ("x-forwarded-scheme", Some("http")),
        ("x-scheme", Some("http")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-kept", Some("1")),
        ("x-forwarded-prefix", None),
        ("forwarded", None),
        ("x-original-uri", None),
        ("ssl-client-verify", None),
        ("proxy", None),
        ("x_real_ip", None),
        ("x-custom", None),
        ("connection", None),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name).as_deref(), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_an_id_that_is_kept_when_it_has_one() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    client::fetch(proxy.http, "a", "/").await.unwrap();
    let first = origin.last().header("x-request-id").unwrap();
    assert!(first.len() == 32 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    client::fetch(proxy.http, "a", "/").await.unwrap();
    assert_ne!(origin.last().header("x-request-id").unwrap(), first);
    let mut request = client::get("a", "/");
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    client::send(proxy.http, request).await.unwrap();
    assert_eq!(origin.last().header("x-request-id").as_deref(), Some("mine"));
    proxy.log_lines(" mine", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_backend_is_told_https() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let mut connection = Http2::open_tls(proxy.https, "web.example").await.unwrap();
    connection.send(client::get("web.example", "/")).await.unwrap();
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.header("x-forwarded-port"), Some(proxy.https.port().to_string()));
    assert_eq!(seen.line, "GET / HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_headers_of_the_backend_end_at_the_proxy() {
    let backend = canned(
        "HTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nServer: secret/1.0\r\n\
         X-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let proxy = Instance::start(simple("", policies(), &[backend.address])).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..2 {
        // The backend closes its connection; ours to the client stays.
        let answer = connection.send(client::get("a", "/")).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.header("x-kept"), Some("1"));
        for name in ["connection", "x-hop", "keep-alive", "server"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_one_backend_header_stands_for_are_joined() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let mut request = client::get("web.example", "/");
    for (name, value) in [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-for", "203.0.113.2"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    // Browsers send a line per cookie over HTTP/2.
    Http2::open_tls(proxy.https, "web.example").await.unwrap().send(request).await.unwrap();
    let seen = origin.last();
    assert_eq!(seen.header("cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!(seen.header("x-original-forwarded-for").as_deref(), Some("203.0.113.1, 203.0.113.2"));
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}
