//! Responses that are read as fast as the backend sends them, and how large their heads may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingress_tests::client::{self, Http2, PATIENCE};
use ingress_tests::manifests;
use ingress_tests::origin::{Origin, Raw, raw, read_head};
use ingress_tests::proxy::{Instance, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than the buffers of all sockets on the way.
const LENGTH: usize = 48 << 20;

/// A backend that says when its response is sent.
async fn backend(headers: &'static str) -> (Raw, Arc<AtomicBool>) {
    let is_sent = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&is_sent);
    let backend = raw(move |mut stream| {
        let said = Arc::clone(&said);
        async move {
            read_head(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {LENGTH}\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_ok() {
                let body: Vec<u8> = (0..LENGTH).map(|at| u8::try_from(at % 251).unwrap()).collect();
                said.store(stream.write_all(&body).await.is_ok(), Ordering::SeqCst);
            }
            // Until the proxy has read everything.
            let _ = stream.read(&mut [0]).await;
        }
    })
    .await;
    (backend, is_sent)
}

async fn serve(backend: &Raw, annotations: &[(&str, &str)]) -> Instance {
    let yaml = [
        manifests::service("web", &[backend.address]),
        manifests::ingress("web", "a", "/", "web", annotations),
    ];
    manifests::serve(&yaml.concat()).await.unwrap()
}

/// A client that asks and does not read.
async fn ask(proxy: &Instance) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    stream
}

async fn read_all(mut stream: TcpStream) {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the whole answer").unwrap();
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(answer.len() - head, LENGTH);
    let is_intact = answer[head..].iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251);
    assert!(is_intact, "bytes are missing or out of order");
    let head = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    assert!(!head.contains("x-accel"), "{head}");
}

async fn is_soon_sent(sent: &AtomicBool) -> bool {
    tokio::time::sleep(Duration::from_secs(1)).await;
    sent.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_does_not_hold_the_backend_while_buffering_is_on() {
    let (origin, is_sent) = backend("").await;
    let proxy = serve(&origin, &[("proxy-buffering", "on")]).await;
    let stream = ask(&proxy).await;
    eventually(|| is_sent.load(Ordering::SeqCst).then_some(())).await.unwrap();
    read_all(stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_waits_when_buffering_is_off_or_the_file_is_full() {
    for annotations in [
        &[][..],
        &[("proxy-buffering", "on"), ("proxy-max-temp-file-size", "1m")],
        &[("proxy-buffering", "on"), ("proxy-max-temp-file-size", "0")],
    ] {
        let (origin, is_sent) = backend("").await;
        let proxy = serve(&origin, annotations).await;
        let stream = ask(&proxy).await;
        assert!(!is_soon_sent(&is_sent).await, "{annotations:?}");
        read_all(stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_response_can_choose_for_itself() {
    let (origin, is_sent) = backend("X-Accel-Buffering: no\r\n").await;
    let proxy = serve(&origin, &[("proxy-buffering", "on")]).await;
    let stream = ask(&proxy).await;
    assert!(!is_soon_sent(&is_sent).await);
    read_all(stream).await;
    let (origin, is_sent) = backend("X-Accel-Buffering: yes\r\nX-Accel-Expires: 5\r\n").await;
    let proxy = serve(&origin, &[]).await;
    let stream = ask(&proxy).await;
    eventually(|| is_sent.load(Ordering::SeqCst).then_some(())).await.unwrap();
    read_all(stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_arrives_without_a_disk() {
    let (origin, _) = backend("").await;
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("web", "a", "/", "web", &[("proxy-buffering", "on")]),
    ];
    let model = manifests::model(&yaml.concat()).unwrap();
    let missing = Instance::start_with(model.clone(), |settings| settings.temp_dir = "/nonexistent".into());
    let full = Instance::start_with(model, |settings| settings.temp_limit = 1 << 20);
    for proxy in [missing.await.unwrap(), full.await.unwrap()] {
        let stream = ask(&proxy).await;
        read_all(stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buffered_streams_arrive_part_by_part_and_trailing_errors_break_them_off() {
    let origin = Origin::start("web").await;
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("web", "a", "/", "web", &[("proxy-buffering", "on")]),
    ];
    let proxy = manifests::serve(&yaml.concat()).await.unwrap();
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    let expected: String = (0..50).map(|part| format!("part {part}\n")).collect();
    for target in ["/stream/50/0", "/stream/50/5"] {
        assert_eq!(h2.send(client::get("a", target)).await.unwrap().text(), expected);
        assert_eq!(client::fetch(proxy.http, "a", target).await.unwrap().text(), expected);
    }
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"GET /stream/100000/10 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut part = [0; 1000];
    while !seen.contains("part 3") {
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut part)).await.unwrap().unwrap();
        assert!(count > 0);
        seen.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    let cut = ingress_tests::origin::canned("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome").await;
    let proxy = serve(&cut, &[("proxy-buffering", "on")]).await;
    assert!(client::fetch(proxy.http, "a", "/").await.is_err(), "a body that broke off must not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_answered_502() {
    let origin = Origin::start("web").await;
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("small", "small", "/", "web", &[]),
        manifests::ingress("large", "large", "/", "web", &[("proxy-buffer-size", "6k")]),
    ];
    let proxy = manifests::serve(&yaml.concat()).await.unwrap();
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    for (length, small, large) in [(3000, 200, 200), (5000, 502, 200), (7000, 502, 502)] {
        let target = format!("/?h=x-long:{}", "v".repeat(length));
        for (host, status) in [("small", small), ("large", large)] {
            assert_eq!(client::fetch(proxy.http, host, &target).await.unwrap().status, status, "{length}");
            assert_eq!(h2.send(client::get(host, &target)).await.unwrap().status, status, "{length}");
        }
    }
}
