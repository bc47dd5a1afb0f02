//! How endpoints are spoken to: gRPC with trailers, TLS, as the client came, HTTP/1.0.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::manifests::{ingress, serve, service};
use ingress_tests::origin::Origin;
use ingress_tests::secure::{Authority, Backend, Speech};
use tokio::net::TcpStream;

fn manifests(backend: std::net::SocketAddr, annotations: &[(&str, &str)]) -> String {
    service("web", &[backend]) + &ingress("web", "a.example", "/", "web", annotations)
}

/// A call as gRPC clients make it: the answer's body and its trailers.
async fn call(proxy: std::net::SocketAddr, body: &'static str) -> (u16, String, HeaderMap) {
    let stream = TcpStream::connect(proxy).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-client-trailer", HeaderValue::from_static("sent"));
    let body = Full::new(Bytes::from(body)).with_trailers(async move { Some(Ok(trailers)) }).boxed();
    let request = Request::post("http://a.example/pkg.Service/Method")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (status, String::from_utf8_lossy(&body.to_bytes()).into_owned(), trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_call_has_its_trailers_both_ways() {
    let authority = Authority::new();
    let pair = authority.sign("web.internal");
    for (protocol, pair) in [("GRPC", None), ("grpcs", Some(&pair))] {
        let origin = Backend::start(Speech { pair, clients: None, is_http2: true }).await;
        let proxy = serve(&manifests(origin.address, &[("backend-protocol", protocol)])).await.unwrap();
        let (status, body, trailers) = call(proxy.http, "question").await;
        assert_eq!((status, body.as_str()), (200, "question"), "{protocol}");
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["grpc-message"], "fine");
        let seen = origin.seen().pop().unwrap();
        assert!(
            seen.line.starts_with("POST ") && seen.line.contains("a.example/pkg.Service/Method"),
            "{}",
            seen.line
        );
        assert_eq!(seen.header("te").as_deref(), Some("trailers"));
        assert_eq!(seen.header("x-client-trailer").as_deref(), Some("sent"));
        assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("a.example"));
        assert_eq!(seen.header("connection"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_a_connection() {
    let origin = Backend::start(Speech { pair: None, clients: None, is_http2: true }).await;
    let proxy = serve(&manifests(origin.address, &[("backend-protocol", "GRPC")])).await.unwrap();
    let client = Http2::open(proxy.http).await.unwrap();
    let calls = (0..40).map(|_| {
        let mut client = client.clone();
        async move { client.send(client::request("POST", "a.example", "/s/m", "x")).await.unwrap().status }
    });
    assert!(join_all(calls).await.into_iter().all(|status| status == 200));
    assert_eq!((origin.connections(), origin.seen().len()), (1, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_clients_reach_a_grpc_backend_too() {
    let origin = Backend::start(Speech { pair: None, clients: None, is_http2: true }).await;
    let proxy = serve(&manifests(origin.address, &[("backend-protocol", "GRPC")])).await.unwrap();
    let answer = client::send(proxy.http, client::request("PUT", "a.example", "/x", "body")).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
    // A protocol switch is not carried by HTTP/2: the request goes on as an ordinary one.
    let upgrade = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = client::raw(proxy.http, upgrade).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_backend_is_neither_verified_nor_told_a_name() {
    let pair = Authority::new().sign("whoever.internal");
    let origin = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let proxy = serve(&manifests(origin.address, &[("backend-protocol", "HTTPS")])).await.unwrap();
    let mut client = Http1::open(proxy.http).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.send(client::get("a.example", "/")).await.unwrap().status, 200);
    }
    assert_eq!(origin.names(), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_http_follows_the_client() {
    let pair = Authority::new().sign("web.internal");
    let secure = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let yaml = manifests(secure.address, &[("backend-protocol", "AUTO_HTTP"), ("ssl-redirect", "false")]);
    let proxy = serve(&yaml).await.unwrap();
    let mut client = Http1::open_tls(proxy.https, "a.example").await.unwrap();
    assert_eq!(client.send(client::get("a.example", "/")).await.unwrap().status, 200);
    // In cleartext the backend is spoken to in cleartext, which this one does not understand.
    assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_speaks_no_tls_is_a_bad_gateway() {
    let origin = Origin::start("plain").await;
    for protocol in ["HTTPS", "GRPCS"] {
        let proxy = serve(&manifests(origin.address, &[("backend-protocol", protocol)])).await.unwrap();
        assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().status, 502, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_has_a_connection_per_request() {
    let origin = Origin::start("old").await;
    let proxy = serve(&manifests(origin.address, &[("proxy-http-version", "1.0")])).await.unwrap();
    let mut client = Http1::open(proxy.http).await.unwrap();
    for _ in 0..2 {
        let answer = client.send(client::request("POST", "a.example", "/", "hello")).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "old"));
    }
    assert!(origin.last().line.ends_with("HTTP/1.0"), "{}", origin.last().line);
    assert_eq!(origin.last().body, "hello");
    assert_eq!(origin.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_needs_the_length_of_a_body() {
    let origin = Origin::start("old").await;
    let chunked = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    for (buffering, status, body) in [("on", "HTTP/1.1 200", Some("hello")), ("off", "HTTP/1.1 411", None)] {
        let annotations = [("proxy-http-version", "1.0"), ("proxy-request-buffering", buffering)];
        let proxy = serve(&manifests(origin.address, &annotations)).await.unwrap();
        let answer = client::raw(proxy.http, chunked.as_bytes()).await.unwrap();
        assert!(answer.starts_with(status), "{buffering}: {answer}");
        if let Some(body) = body {
            assert_eq!(origin.last().body, body);
        }
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_backend_that_restarts_is_found_again() {
    let first = Backend::start(Speech { pair: None, clients: None, is_http2: true }).await;
    let second = Backend::start(Speech { pair: None, clients: None, is_http2: true }).await;
    let yaml = service("web", &[first.address, second.address])
        + &ingress("web", "a.example", "/", "web", &[("backend-protocol", "GRPC")]);
    let proxy = serve(&yaml).await.unwrap();
    let mut client = Http2::open(proxy.http).await.unwrap();
    for _ in 0..4 {
        assert_eq!(client.send(client::get("a.example", "/")).await.unwrap().status, 200);
    }
    drop(first);
    for _ in 0..8 {
        assert_eq!(client.send(client::get("a.example", "/")).await.unwrap().status, 200);
    }
}
