//! PROXY headers on the ports of HTTP and HTTPS: who is believed, and who is turned away.

use std::time::Duration;

use ingress_tests::client::{self, PATIENCE};
use ingress_tests::manifests::{ingress, service, settings, translation};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

async fn start(origin: &Origin, more: &[(&str, &str)]) -> Instance {
    let mut keys = vec![("use-proxy-protocol", "true")];
    keys.extend(more);
    let yaml =
        service("web", &[origin.address]) + &ingress("web", "a.example", "/", "web", &[]) + &settings(&keys);
    Instance::start(translation(&yaml).unwrap().model).await.unwrap()
}

fn v2(command: u8, source: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, 0x11, 0, 17]);
    bytes.extend(source);
    bytes.extend([198, 18, 0, 8]);
    bytes.extend([0x30, 0x39]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([4, 0, 2, 9, 9]);
    bytes
}

async fn send(proxy: &Instance, header: &[u8]) -> String {
    client::raw(proxy.http, &[header, REQUEST.as_bytes()].concat()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_name_the_client() {
    let origin = Origin::start("web").await;
    let proxy = start(&origin, &[]).await;
    let v1 = b"PROXY TCP4 198.18.0.7 198.18.0.8 12345 80\r\n".to_vec();
    let six = b"PROXY TCP6 2001:db8::7 2001:db8::8 12345 80\r\n".to_vec();
    for (header, client) in
        [(v1, "198.18.0.7"), (six, "2001:db8::7"), (v2(0x21, [198, 18, 0, 9], 80), "198.18.0.9")]
    {
        let answer = send(&proxy, &header).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for name in ["x-real-ip", "x-forwarded-for"] {
            assert_eq!(origin.last().header(name).as_deref(), Some(client), "{name}");
        }
        assert_eq!(origin.last().header("x-forwarded-proto").as_deref(), Some("http"));
        assert_eq!(origin.last().header("x-forwarded-port").as_deref(), Some("80"));
    }
    proxy.log_lines("198.18.0.7 - -", 1).await.unwrap();
    // The load balancer's own checks: it speaks for itself.
    for own in [&b"PROXY UNKNOWN\r\n"[..], &v2(0x20, [198, 18, 0, 9], 80)] {
        assert!(send(&proxy, own).await.starts_with("HTTP/1.1 200"));
        assert_eq!(origin.last().header("x-real-ip").as_deref(), Some("127.0.0.1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn port_443_in_the_header_means_https() {
    let origin = Origin::start("web").await;
    let proxy = start(&origin, &[("force-ssl-redirect", "true")]).await;
    let cleartext = send(&proxy, b"PROXY TCP4 198.18.0.7 198.18.0.8 1 80\r\n").await;
    assert!(cleartext.starts_with("HTTP/1.1 308"), "{cleartext}");
    let secure = send(&proxy, b"PROXY TCP4 198.18.0.7 198.18.0.8 1 443\r\n").await;
    assert!(secure.starts_with("HTTP/1.1 200"), "{secure}");
    assert_eq!(origin.last().header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(origin.last().header("x-forwarded-port").as_deref(), Some("443"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_trusted_is_read_and_not_believed() {
    let origin = Origin::start("web").await;
    let proxy = start(&origin, &[("proxy-real-ip-cidr", "198.18.0.0/15")]).await;
    let answer = send(&proxy, b"PROXY TCP4 198.18.0.7 198.18.0.8 1 443\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.last().header("x-real-ip").as_deref(), Some("127.0.0.1"));
    assert_eq!(origin.last().header("x-forwarded-proto").as_deref(), Some("http"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_header_there_is_no_answer() {
    let origin = Origin::start("web").await;
    let proxy = start(&origin, &[]).await;
    let mut long = v2(0x21, [198, 18, 0, 9], 80);
    (long[14], long[15]) = (0xff, 0xff);
    let mut beyond = v2(0x21, [198, 18, 0, 9], 80);
    beyond[30] = 200;
    for bad in [
        Vec::new(),
        b"PROXY TCP4 198.18.0.7 198.18.0.8 1 99999\r\n".to_vec(),
        b"PROXY TCP4 198.18.0.7\r\n".to_vec(),
        long,
        beyond,
    ] {
        let answer = send(&proxy, &bad).await;
        assert_eq!(answer, "", "{bad:?}");
    }
    assert!(client::certificate(proxy.https, "a.example").await.is_err());
    assert!(origin.seen().is_empty());
    assert!(proxy.metric("portcullis_accept_refused_total{reason=\"proxy_header\"}").await >= 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_may_come_in_pieces_but_not_for_ever() {
    let origin = Origin::start("web").await;
    let proxy = start(&origin, &[("proxy-protocol-header-timeout", "1s")]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in ["PRO", "XY TCP4 198.18.0.7 198.", "18.0.8 1 80\r", "\n"] {
        stream.write_all(part.as_bytes()).await.unwrap();
        // Pieces that arrive apart.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.last().header("x-real-ip").as_deref(), Some("198.18.0.7"));
    for unfinished in ["", "PROXY TCP4 198.18"] {
        let mut stream = TcpStream::connect(proxy.http).await.unwrap();
        stream.write_all(unfinished.as_bytes()).await.unwrap();
        assert!(matches!(timeout(PATIENCE, stream.read(&mut [0; 8])).await.unwrap(), Ok(0) | Err(_)));
    }
    // Nothing more will come of a side that has ended.
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"PROXY TCP4").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(matches!(timeout(PATIENCE, stream.read(&mut [0; 8])).await.unwrap(), Ok(0) | Err(_)));
}
