//! Services of TCP and UDP ports, and TLS that is passed through: bytes as they are.

use std::net::SocketAddr;
use std::time::Duration;

use ingress_tests::client::{self, Http1, PATIENCE};
use ingress_tests::manifests::{ingress, service, settings, translation_with};
use ingress_tests::origin::{self, Origin, Raw, raw};
use ingress_tests::proxy::Instance;
use ingress_tests::secure::{Authority, Backend, Speech};
use ingress_userspace::k8s::cluster::ObjectKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const MUCH: usize = 10 << 20;

pub(crate) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

pub(crate) fn config_map(name: &str, port: u16, target: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  \"{port}\": \"{target}\"\n"
    )
}

/// Serves manifests with the ConfigMaps `default/tcp` and `default/udp`, TLS passthrough and `default/settings`.
pub(crate) async fn serve(yaml: &str) -> Instance {
    let found = translation_with(yaml, |settings| {
        settings.tcp_services = yaml.contains("name: tcp}").then(|| ObjectKey::new("default", "tcp"));
        settings.udp_services = yaml.contains("name: udp}").then(|| ObjectKey::new("default", "udp"));
        settings.enable_ssl_passthrough = true;
    })
    .unwrap();
    Instance::start(found.model).await.unwrap()
}

/// A TCP service of these endpoints, and where it is.
pub(crate) async fn tcp(endpoints: &[SocketAddr], flags: &str, more: &str) -> (Instance, SocketAddr) {
    let port = free_port().await;
    let yaml = service("db", endpoints) + &config_map("tcp", port, &format!("default/db:80{flags}")) + more;
    let proxy = serve(&yaml).await;
    let (name, address) = proxy.services[0].clone();
    assert_eq!((name, address.port()), (format!("tcp-{port}"), port));
    (proxy, address)
}

/// Sends everything back, and ends when the client ends.
pub(crate) async fn echo() -> Raw {
    raw(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_come_back_and_a_half_closed_side_still_reads() {
    let backend = echo().await;
    let (_proxy, address) = tcp(&[backend.address], "", "").await;
    let sent: Vec<u8> = (0..MUCH).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    timeout(PATIENCE, read.read_to_end(&mut received)).await.unwrap().unwrap();
    writer.await.unwrap();
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_after_the_end_of_the_question() {
    let backend = raw(|mut stream| async move {
        let mut question = String::new();
        let _ = stream.read_to_string(&mut question).await;
        let _ = stream.write_all(format!("answer to {question}").as_bytes()).await;
    })
    .await;
    let (_proxy, address) = tcp(&[backend.address], "", "").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "answer to question");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_is_tried_unless_forbidden() {
    let (backend, dead) = (echo().await, origin::refused().await);
    let (_proxy, address) = tcp(&[dead, backend.address], "", "").await;
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hi").await.unwrap();
        let mut answer = [0; 2];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    }
    let never = settings(&[("proxy-stream-next-upstream", "false")]);
    let (_proxy, address) = tcp(&[dead, backend.address], "", &never).await;
    let mut closed = 0;
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(b"hi").await;
        closed += usize::from(timeout(PATIENCE, stream.read_exact(&mut [0; 2])).await.unwrap().is_err());
    }
    assert_eq!(closed, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_connection() {
    let backend = echo().await;
    let (_proxy, address) = tcp(&[backend.address], "", &settings(&[("proxy-stream-timeout", "1s")])).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hi").await.unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_is_read_and_written() {
    let backend = echo().await;
    let (_proxy, address) = tcp(&[backend.address], ":PROXY:PROXY", "").await;
    let header = "PROXY TCP4 198.18.0.7 198.18.0.8 1234 5432\r\n";
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{header}hello").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut seen = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut seen)).await.unwrap().unwrap();
    assert_eq!(seen, format!("{header}hello"));
    // Without one there is no connection.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hello there").await.unwrap();
    assert!(matches!(timeout(PATIENCE, stream.read(&mut [0; 8])).await.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_header_is_introduced_all_the_same() {
    let backend = echo().await;
    let (_proxy, address) = tcp(&[backend.address], "::PROXY", "").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let local = stream.local_addr().unwrap();
    stream.shutdown().await.unwrap();
    let mut seen = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut seen)).await.unwrap().unwrap();
    assert_eq!(seen, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", local.port(), address.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_leaves_everything_else_alone() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let web = Origin::start("web").await;
    let yaml = service("web", &[web.address])
        + &ingress("web", "a.example", "/", "web", &[])
        + &config_map("tcp", port, "default/web:80");
    let proxy = serve(&yaml).await;
    assert!(proxy.services.is_empty());
    assert_eq!(client::fetch(proxy.http, "a.example", "/").await.unwrap().text(), "web");
}

/// Answers each datagram with `count` copies.
pub(crate) async fn udp_echo(count: usize) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            for _ in 0..count {
                let _ = socket.send_to(&buffer[..length], client).await;
            }
        }
    });
    address
}

pub(crate) async fn udp(endpoint: SocketAddr, more: &str) -> (Instance, SocketAddr) {
    let port = free_port().await;
    let dns = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: dns\n  annotations: {{portcullis.dev/endpoints: \"{endpoint}\"}}\n\
         spec: {{ports: [{{port: 53, protocol: UDP}}]}}\n"
    );
    let proxy = serve(&(dns + &config_map("udp", port, "default/dns:53") + more)).await;
    let (name, address) = proxy.services[0].clone();
    assert_eq!(name, format!("udp-{port}"));
    (proxy, address)
}

pub(crate) async fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    buffer[..length].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_answered_from_the_address_that_was_asked() {
    let (_proxy, address) = udp(udp_echo(1).await, "").await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // A connected socket takes nothing from elsewhere.
        socket.connect(address).await.unwrap();
        clients.push(socket);
    }
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            let question = format!("{round} of {number}");
            assert_eq!(ask(client, question.as_bytes()).await, question.as_bytes());
        }
    }
    let large = vec![7; 30_000];
    assert_eq!(ask(&clients[0], &large).await, large);
    assert_eq!(ask(&clients[0], b"").await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_no_connections_to_limits_and_lists_hold_for_them() {
    let policy = |spec: &str| {
        format!(
            "---\napiVersion: portcullis.dev/v1alpha1\nkind: EdgePolicy\nmetadata: {{name: edge}}\n\
             spec: {{scope: Cluster, {spec}}}\n"
        )
    };
    let limits = policy("limits: [{per: Source, connectionsPerSecond: 1, burst: 1}]");
    let (_proxy, address) = udp(udp_echo(1).await, &limits).await;
    for number in 0..5 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        assert_eq!(ask(&socket, &[number]).await, [number]);
    }
    let (proxy, address) = udp(udp_echo(1).await, &policy("deny: [127.0.0.0/8]")).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    socket.send(b"anyone?").await.unwrap();
    let mut buffer = [0; 16];
    assert!(timeout(Duration::from_millis(200), socket.recv(&mut buffer)).await.is_err(), "denied");
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_the_expected_answers() {
    let more = settings(&[("proxy-stream-responses", "2")]);
    let (_proxy, address) = udp(udp_echo(3).await, &more).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    assert_eq!(ask(&socket, b"one").await, b"one");
    let mut buffer = [0; 16];
    timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(200), socket.recv(&mut buffer)).await.is_err(), "a third answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_of_a_host_goes_to_its_backend_as_it_is() {
    let authority = Authority::new();
    let pair = authority.sign("s.example");
    let backend = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let web = Origin::start("web").await;
    let yaml = service("secure", &[backend.address])
        + &service("web", &[web.address])
        + &ingress("secure", "s.example", "/", "secure", &[("ssl-passthrough", "true")])
        + &ingress("wild", "*.w.example", "/", "secure", &[("ssl-passthrough", "true")])
        + &ingress("own", "own.w.example", "/", "web", &[])
        + &ingress("web", "a.example", "/", "web", &[]);
    let proxy = serve(&yaml).await;
    for (name, is_passed) in [
        ("s.example", true),
        ("S.Example", true),
        ("x.w.example", true),
        ("y.x.w.example", false),
        ("own.w.example", false),
        ("a.example", false),
        ("unknown.example", false),
    ] {
        let shown = client::certificate(proxy.https, name).await.unwrap();
        assert_eq!(shown == pair.der(), is_passed, "{name}");
    }
    let mut client = Http1::open_tls(proxy.https, "s.example").await.unwrap();
    assert_eq!(
        client.send(client::request("POST", "s.example", "/", "through")).await.unwrap().text(),
        "through"
    );
    assert!(backend.names().contains(&Some("s.example".to_owned())));
    let mut client = Http1::open_tls(proxy.https, "a.example").await.unwrap();
    assert_eq!(client.send(client::get("a.example", "/")).await.unwrap().text(), "web");
    // In cleartext it is asked over TLS all the same.
    let request = client::request("POST", "s.example", "/", "over tls");
    assert_eq!(client::send(proxy.http, request).await.unwrap().text(), "over tls");
}
