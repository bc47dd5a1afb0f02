//! Request bodies that are read whole before the backend is asked.

use std::time::Duration;

use ingress_tests::client::{self, Http1, Http2, PATIENCE};
use ingress_tests::manifests;
use ingress_tests::origin::{Origin, raw, read_head};
use ingress_tests::proxy::{Instance, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn serve(origin: &Origin, annotations: &[(&str, &str)], settings: &[(&str, &str)]) -> Instance {
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("web", "a", "/", "web", annotations),
        manifests::settings(settings),
    ];
    manifests::serve(&yaml.concat()).await.unwrap()
}

async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    answer
}

/// Bytes that are not all alike.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_is_asked_when_the_body_is_whole() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[], &[]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    stream.write_all(b"4\r\nsome\r\n").await.unwrap();
    // A whole request on another connection shows that time has passed.
    client::fetch(proxy.http, "a", "/other").await.unwrap();
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(origin.connections(), 1);
    stream.write_all(b"4\r\nmore\r\n0\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    let seen = origin.last();
    assert_eq!((&seen.body[..], seen.header("content-length").as_deref()), (&b"somemore"[..], Some("8")));
    assert_eq!(seen.header("transfer-encoding"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_all_sizes_arrive_as_they_were_sent() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("proxy-body-size", "8m"), ("client-body-buffer-size", "16k")], &[]).await;
    let mut h1 = Http1::open(proxy.http).await.unwrap();
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    for length in [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100_000, 5_000_000] {
        let sent = body(length);
        assert_eq!(h1.send(client::request("POST", "a", "/", sent.clone())).await.unwrap().status, 200);
        assert!(origin.last().body == sent, "{length} over HTTP/1.1");
        assert_eq!(h2.send(client::request("PUT", "a", "/", sent.clone())).await.unwrap().status, 200);
        assert!(origin.last().body == sent, "{length} over HTTP/2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_grows_too_large_never_reaches_the_backend() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("proxy-body-size", "1k")], &[]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..20 {
        if stream.write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes()).await.is_err() {
            break;
        }
    }
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 413"));
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    assert_eq!(h2.send(client::request("POST", "a", "/", body(1025))).await.unwrap().status, 413);
    assert_eq!(h2.send(client::request("POST", "a", "/", body(1024))).await.unwrap().status, 200);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn off_passes_a_body_on_as_it_comes() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("proxy-request-buffering", "off")], &[]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    let head = b"POST /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 8\r\n\r\nsome";
    stream.write_all(head).await.unwrap();
    // It has seen the request, though half of the body is missing.
    eventually(|| (!origin.seen().is_empty()).then_some(())).await.unwrap();
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_can_be_sent_to_another_endpoint() {
    let origin = Origin::start("web").await;
    // Takes the request and some of its body, and goes away.
    let broken = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.read(&mut [0; 1000]).await;
    })
    .await;
    let yaml = [
        manifests::service("web", &[broken.address, origin.address]),
        manifests::ingress("web", "a", "/", "web", &[]),
        manifests::ingress("streamed", "b", "/", "web", &[("proxy-request-buffering", "off")]),
    ];
    let proxy = manifests::serve(&yaml.concat()).await.unwrap();
    let sent = body(200_000);
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    for _ in 0..2 {
        let put = client::request("PUT", "a", "/", sent.clone());
        assert_eq!(client::send(proxy.http, put).await.unwrap().status, 200);
        assert!(origin.last().body == sent);
        assert_eq!(h2.send(client::request("PUT", "a", "/", sent.clone())).await.unwrap().status, 200);
        assert!(origin.last().body == sent);
    }
    // Twice in turn: each endpoint is the first one once.
    let mut statuses = Vec::new();
    for host in ["a", "b"] {
        let method = if host == "a" { "POST" } else { "PUT" };
        for _ in 0..2 {
            let request = client::request(method, host, "/", sent.clone());
            statuses.push(client::send(proxy.http, request).await.unwrap().status);
        }
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502], "neither a POST nor a streamed body is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_sending_is_answered_408() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[], &[("client-body-timeout", "1")]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsome").await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 408"));
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_finds_no_room_is_an_error_of_its_own() {
    let origin = Origin::start("web").await;
    let yaml =
        [manifests::service("web", &[origin.address]), manifests::ingress("web", "a", "/", "web", &[])];
    let model = manifests::model(&yaml.concat()).unwrap();
    let full = Instance::start_with(model.clone(), |settings| settings.temp_limit = 100_000).await.unwrap();
    let missing =
        Instance::start_with(model, |settings| settings.temp_dir = "/nonexistent".into()).await.unwrap();
    for proxy in [&full, &missing] {
        let mut h2 = Http2::open(proxy.http).await.unwrap();
        assert_eq!(h2.send(client::request("POST", "a", "/", body(500_000))).await.unwrap().status, 500);
        assert_eq!(h2.send(client::request("POST", "a", "/", body(5_000))).await.unwrap().status, 200);
        proxy.log_lines("\" 500 ", 1).await.unwrap();
    }
    assert_eq!(origin.seen().len(), 2);
    // What was used is free again.
    let mut h2 = Http2::open(full.http).await.unwrap();
    for _ in 0..5 {
        assert_eq!(h2.send(client::request("POST", "a", "/", body(90_000))).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_requests_are_passed_on_as_they_come() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[], &[]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    let head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\nContent-Length: 8\r\n\r\nsome";
    stream.write_all(head).await.unwrap();
    eventually(|| (!origin.seen().is_empty()).then_some(())).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 100])).await.unwrap().unwrap();
}
