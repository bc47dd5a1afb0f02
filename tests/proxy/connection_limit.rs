//! Requests in flight per client.

use std::time::Duration;

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::manifests;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn serve(origin: &Origin, annotations: &[(&str, &str)]) -> Instance {
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("web", "a", "/", "web", annotations),
        manifests::settings(&[("limit-conn-status-code", "429")]),
    ];
    manifests::serve(&yaml.concat()).await.unwrap()
}

/// Waits until a request is let in again.
async fn wait_for_a_place(proxy: &Instance) {
    for _ in 0..500 {
        if client::fetch(proxy.http, "a", "/").await.unwrap().status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no place became free");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_counts_and_places_come_back_when_answers_end() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("limit-connections", "2")]).await;
    let h2 = Http2::open(proxy.http).await.unwrap();
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let mut h2 = h2.clone();
            tokio::spawn(async move { h2.send(client::get("a", "/delay/700")).await })
        })
        .collect();
    eventually(|| (origin.seen().len() == 2).then_some(())).await.unwrap();
    // On any connection, to any worker.
    for _ in 0..4 {
        assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 429);
    }
    assert_eq!(h2.clone().send(client::get("a", "/")).await.unwrap().status, 429);
    for answer in slow {
        assert_eq!(answer.await.unwrap().unwrap().status, 200);
    }
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..5 {
        assert_eq!(connection.send(client::get("a", "/")).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_its_place() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("limit-connections", "1")]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"GET /stream/100000/10 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 429);
    drop(stream);
    wait_for_a_place(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_counts_until_it_ends() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("limit-connections", "1")]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    let upgrade = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(upgrade).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 429);
    drop(stream);
    wait_for_a_place(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exempt_sources_are_not_counted() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("limit-connections", "1"), ("limit-allowlist", "127.0.0.1")]).await;
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    let mut other = h2.clone();
    let slow = tokio::spawn(async move { other.send(client::get("a", "/delay/300")).await });
    eventually(|| (!origin.seen().is_empty()).then_some(())).await.unwrap();
    assert_eq!(h2.send(client::get("a", "/")).await.unwrap().status, 200);
    assert_eq!(slow.await.unwrap().unwrap().status, 200);
}
