//! Limits of the connections of clients, as the ConfigMap sets them.

use ingress_tests::client::{self, Http1};
use ingress_tests::manifests::{ingress, serve, service, settings};
use ingress_tests::origin::Origin;
use ingress_tests::proxy::{Instance, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn with(origin: &Origin, keys: &[(&str, &str)]) -> Instance {
    let yaml =
        [service("web", &[origin.address]), ingress("web", "a.example", "/", "web", &[]), settings(keys)];
    serve(&yaml.concat()).await.unwrap()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut room = [0; 64];
    matches!(timeout(client::PATIENCE, stream.read(&mut room)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_after_its_requests() {
    let origin = Origin::start("web").await;
    let proxy = with(&origin, &[("keep-alive-requests", "2")]).await;
    let mut client = Http1::open(proxy.http).await.unwrap();
    let first = client.send(client::get("a.example", "/")).await.unwrap();
    assert_eq!(first.header("connection"), None);
    let second = client.send(client::get("a.example", "/")).await.unwrap();
    assert_eq!(second.header("connection"), Some("close"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keep_alive_every_answer_is_the_last() {
    let origin = Origin::start("web").await;
    let proxy = with(&origin, &[("keep-alive", "0")]).await;
    let mut client = Http1::open(proxy.http).await.unwrap();
    let answer = client.send(client::get("a.example", "/")).await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_and_a_slow_head_too() {
    let origin = Origin::start("web").await;
    let proxy = with(&origin, &[("keep-alive", "1"), ("client-header-timeout", "1")]).await;
    let mut idle = Http1::open(proxy.http).await.unwrap();
    idle.send(client::get("a.example", "/")).await.unwrap();
    eventually(|| idle.is_closed().then_some(())).await.unwrap();
    let mut slow = TcpStream::connect(proxy.http).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a.exam").await.unwrap();
    assert!(is_closed(&mut slow).await);
    let mut silent = TcpStream::connect(proxy.http).await.unwrap();
    assert!(is_closed(&mut silent).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_as_large_as_configured() {
    let origin = Origin::start("web").await;
    let large = "x".repeat(12 * 1024);
    let ask = |target: String, header: String| {
        let mut request = client::get("a.example", &target);
        request.headers_mut().insert("x-large", header.parse().unwrap());
        request
    };
    let narrow = with(&origin, &[("large-client-header-buffers", "4 8k")]).await;
    assert_eq!(client::send(narrow.http, ask("/".into(), large.clone())).await.unwrap().status, 431);
    assert_eq!(client::send(narrow.http, ask(format!("/{large}"), "1".into())).await.unwrap().status, 414);
    let wide = with(&origin, &[("large-client-header-buffers", "4 16k")]).await;
    assert_eq!(client::send(wide.http, ask("/".into(), large.clone())).await.unwrap().status, 200);
    assert_eq!(client::send(wide.http, ask(format!("/{large}"), "1".into())).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed() {
    let origin = Origin::start("web").await;
    let yaml = [
        service("web", &[origin.address]),
        ingress("web", "a.example", "/", "web", &[]),
        settings(&[("max-worker-connections", "1")]),
    ];
    let model = ingress_tests::manifests::model(&yaml.concat()).unwrap();
    let proxy = Instance::start_with(model, |settings| settings.workers = 1).await.unwrap();
    let mut first = Http1::open(proxy.http).await.unwrap();
    first.send(client::get("a.example", "/")).await.unwrap();
    // It may be reset before the client has looked at it.
    let is_refused = match TcpStream::connect(proxy.http).await {
        Ok(mut second) => is_closed(&mut second).await,
        Err(_reset) => true,
    };
    assert!(is_refused);
    assert_eq!(first.send(client::get("a.example", "/")).await.unwrap().status, 200);
}

/// `SETTINGS_MAX_CONCURRENT_STREAMS` of a new connection.
async fn streams(proxy: &Instance) -> Option<u32> {
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.unwrap();
    let mut entries = settings.chunks_exact(6);
    entries.find(|entry| entry[..2] == [0, 3]).map(|entry| u32::from_be_bytes(entry[2..].try_into().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preset_changes_defaults_and_not_what_is_configured() {
    let origin = Origin::start("web").await;
    for (keys, expected) in [
        (&[][..], 128),
        (&[("preset", "nginx")], 128),
        (&[("preset", "edge")], 100),
        (&[("preset", "edge"), ("http2-max-concurrent-streams", "7")], 7),
    ] {
        let proxy = with(&origin, keys).await;
        assert_eq!(streams(&proxy).await, Some(expected), "{keys:?}");
    }
}

/// Opens connections and asks on each; how many were served.
async fn served(proxy: &Instance, count: usize) -> (usize, Vec<Http1>) {
    let mut open = Vec::new();
    for _ in 0..count {
        // One that is refused is reset, when it is opened or when it is used.
        let Ok(mut client) = Http1::open(proxy.http).await else { continue };
        if client.send(client::get("a.example", "/")).await.is_ok() {
            open.push(client);
        }
    }
    (open.len(), open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_no_more_connections_than_configured() {
    let origin = Origin::start("web").await;
    let proxy = with(&origin, &[("max-connections-per-client", "2")]).await;
    let (count, open) = served(&proxy, 4).await;
    assert_eq!(count, 2);
    let refused = "portcullis_accept_refused_total{reason=\"too_many_connections_of_client\"}";
    assert!(proxy.metric(refused).await >= 2.0);
    drop(open);
    // A place is free again as soon as the connection has ended.
    let mut again = 0;
    for _ in 0..200 {
        again = served(&proxy, 1).await.0;
        if again == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(again, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_trusted_proxy_are_not_counted() {
    let origin = Origin::start("web").await;
    let keys = [("max-connections-per-client", "1"), ("use-forwarded-headers", "true")];
    let trusted = [keys.as_slice(), &[("proxy-real-ip-cidr", "127.0.0.0/8")]].concat();
    assert_eq!(served(&with(&origin, &trusted).await, 3).await.0, 3);
    let others = [keys.as_slice(), &[("proxy-real-ip-cidr", "198.18.0.0/15")]].concat();
    assert_eq!(served(&with(&origin, &others).await, 3).await.0, 1);
}
