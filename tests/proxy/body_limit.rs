//! 413, at once or when a body grows too large.

use std::time::Duration;

use ingress_tests::client::{self, Http2};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, policies, simple};
use ingress_userspace::model::policy::{BodyLimit, Policies};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_refused_at_once_or_when_they_grow_too_large() {
    let origin = Origin::start("web").await;
    let policies = Policies { body_limit: BodyLimit { max_bytes: Some(1000) }, ..policies() };
    let proxy = Instance::start(simple("", policies, &[origin.address])).await.unwrap();
    let post = |bytes: usize| client::request("POST", "a", "/", vec![b'x'; bytes]);
    assert_eq!(client::send(proxy.http, post(1000)).await.unwrap().status, 200);
    assert_eq!(origin.last().body.len(), 1000);
    assert_eq!(client::send(proxy.http, post(1001)).await.unwrap().status, 413);
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    assert_eq!(h2.send(post(1001)).await.unwrap().status, 413);
    assert_eq!(origin.seen().len(), 1, "what was announced too large never reached the backend");

    // A body of unknown length is refused when it exceeds the limit, and the answer arrives although it was not read.
    let mut stream = tokio::net::TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..100 {
        if stream.write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer} {read:?}");
    proxy.log_lines("\" 413 ", 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_ends_an_upload_that_nobody_reads() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    // The backend answers at once; the client goes on sending and must learn that it may stop.
    let mut stream = tokio::net::TcpStream::connect(proxy.http).await.unwrap();
    stream
        .write_all(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome")
        .await
        .unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(client::PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    let early = h2.send(client::request("POST", "a", "/early", vec![b'x'; 4 << 20])).await.unwrap();
    assert_eq!((early.status, early.text().as_str()), (200, "early"));
}
