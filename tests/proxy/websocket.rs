//! Switched protocols: bytes both ways after the endpoint's 101, and not otherwise.

use std::time::{Duration, Instant};

use ingress_tests::client;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, policies, simple};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.ends_with(end) {
        let read = tokio::time::timeout(client::PATIENCE, stream.read(&mut buffer)).await;
        match read.expect("an answer in time").unwrap() {
            0 => panic!("closed after {seen:?}"),
            count => seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_echoes_and_ends_when_idle_for_the_read_timeout() {
    let origin = Origin::start("web").await;
    let mut policies = policies();
    policies.timeouts.read = Duration::from_millis(700);
    let proxy = Instance::start(simple("", policies, &[origin.address])).await.unwrap();
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    // Bytes that come too early wait for the 101.
    stream.write_all(format!("{UPGRADE}early").as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "early").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    for message in ["one", "two"] {
        // Longer in sum than the timeout: it counts from the last byte.
        tokio::time::sleep(Duration::from_millis(400)).await;
        stream.write_all(message.as_bytes()).await.unwrap();
        read_until(&mut stream, message).await;
    }
    let idle = Instant::now();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(idle.elapsed() < Duration::from_secs(5), "{:?}", idle.elapsed());
    let lines = proxy.log_lines("/upgrade", 1).await.unwrap();
    assert!(lines[0].contains("\" 101 11 "), "{lines:?}");
    assert_eq!(origin.last().header("connection").as_deref(), Some("upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn h2c_is_not_tunnelled() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let answer = client::raw(proxy.http, request.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = origin.last();
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_switch_answers_as_usual() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let request = UPGRADE.replace("/upgrade", "/status/403");
    let answer = client::raw(proxy.http, request.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}
