//! `log-format-stream`: the line that each TCP connection, UDP session and passed through TLS connection leaves.

use ingress_tests::client::{self, Http1, PATIENCE};
use ingress_tests::manifests::{ingress, service, settings};
use ingress_tests::origin::{self, Origin};
use ingress_tests::secure::{Authority, Backend, Speech};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::stream::{ask, echo, serve, tcp, udp, udp_echo};

const FORMAT: &str = "$remote_addr $protocol $status $bytes_sent $bytes_received|$upstream_addr|$upstream_bytes_sent|\
                      $upstream_bytes_received|$proxy_upstream_name|$server_addr:$server_port|$proxy_protocol_addr|\
                      $ssl_preread_server_name END";

fn format() -> String {
    settings(&[("log-format-stream", FORMAT)])
}

async fn exchange(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    stream.write_all(question).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_connection_leaves_a_line_when_it_has_ended() {
    let (backend, dead) = (echo().await, origin::refused().await);
    let (proxy, address) = tcp(&[dead, backend.address], "", &format()).await;
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
    }
    let lines = proxy.log_lines("END", 2).await.unwrap();
    let endpoint = backend.address;
    let after = format!("tcp-default-db-80|{address}|-|- END");
    // The endpoint that is down has the first turn of one of the two.
    let one = format!("127.0.0.1 TCP 200 5 5|{endpoint}|5|5|{after}");
    let two = format!("127.0.0.1 TCP 200 5 5|{dead}, {endpoint}|0, 5|0, 5|{after}");
    assert!(lines.contains(&one) && lines.contains(&two), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_reached_is_a_502() {
    let dead = origin::refused().await;
    let times = "$status $upstream_connect_time $upstream_first_byte_time $bytes_sent END";
    let (proxy, address) = tcp(&[dead], "", &settings(&[("log-format-stream", times)])).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.read(&mut [0; 1]).await;
    assert_eq!(proxy.log_lines("END", 1).await.unwrap(), ["502 - - 0 END"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_names_the_client_and_one_that_is_missing_is_a_400() {
    let backend = echo().await;
    let (proxy, address) = tcp(&[backend.address], ":PROXY:PROXY", &format()).await;
    let header = "PROXY TCP4 198.18.0.7 198.18.0.8 1234 5432\r\n";
    let mut stream = TcpStream::connect(address).await.unwrap();
    let seen = exchange(&mut stream, format!("{header}hello").as_bytes()).await;
    let (sent, all, endpoint) = (seen.len(), header.len() + 5, backend.address);
    let lines = proxy.log_lines("END", 1).await.unwrap();
    let line = format!(
        "198.18.0.7 TCP 200 {sent} 5|{endpoint}|{all}|{sent}|tcp-default-db-80|{address}|198.18.0.7|- END"
    );
    assert_eq!(lines, [line]);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hello there").await.unwrap();
    let _ = stream.read(&mut [0; 1]).await;
    let lines = proxy.log_lines(" 400 ", 1).await.unwrap();
    assert!(lines[0].starts_with("127.0.0.1 TCP 400 0 0|-|-|-|"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_datagrams_leaves_a_line() {
    let endpoint = udp_echo(1).await;
    let (proxy, address) = udp(endpoint, &format()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    assert_eq!(ask(&socket, b"abc").await, b"abc");
    let line = format!("127.0.0.1 UDP 200 3 3|{endpoint}|3|3|udp-default-dns-53|{address}|-|- END");
    assert_eq!(proxy.log_lines("END", 1).await.unwrap(), [line]);
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_through_tls_is_logged_with_its_server_name_and_requests_have_their_own_format() {
    let authority = Authority::new();
    let pair = authority.sign("s.example");
    let backend = Backend::start(Speech { pair: Some(&pair), clients: None, is_http2: false }).await;
    let web = Origin::start("web").await;
    let keys = [
        ("log-format-stream", "$protocol $status $ssl_preread_server_name $proxy_upstream_name END"),
        ("log-format-upstream", "$status $host END"),
    ];
    let yaml = service("secure", &[backend.address])
        + &service("web", &[web.address])
        + &ingress("secure", "s.example", "/", "secure", &[("ssl-passthrough", "true")])
        + &ingress("web", "a.example", "/", "web", &[])
        + &settings(&keys);
    let proxy = serve(&yaml).await;
    let mut through = Http1::open_tls(proxy.https, "s.example").await.unwrap();
    through.send(client::request("POST", "s.example", "/", "x")).await.unwrap();
    drop(through);
    client::fetch(proxy.http, "a.example", "/").await.unwrap();
    let mut lines = proxy.log_lines("END", 2).await.unwrap();
    lines.sort();
    assert_eq!(lines, ["200 a.example END", "TCP 200 s.example default-secure-80 END"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_can_go_elsewhere_or_nowhere() {
    let backend = echo().await;
    let path = std::env::temp_dir().join(format!("portcullis-stream-log-{}", std::process::id()));
    let keys = [
        ("log-format-stream", "$protocol $bytes_sent END"),
        ("stream-access-log-path", path.to_str().unwrap()),
    ];
    let (proxy, address) = tcp(&[backend.address], "", &settings(&keys)).await;
    exchange(&mut TcpStream::connect(address).await.unwrap(), b"hello").await;
    let found = ingress_tests::proxy::eventually(|| {
        std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    })
    .await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(found.unwrap(), "TCP 5 END\n");
    drop(proxy);
    for key in ["disable-stream-access-log", "disable-access-log"] {
        let web = Origin::start("web").await;
        let more = settings(&[("log-format-stream", "$protocol END"), (key, "true")])
            + &service("web", &[web.address])
            + &ingress("web", "a.example", "/", "web", &[]);
        let (proxy, address) = tcp(&[backend.address], "", &more).await;
        exchange(&mut TcpStream::connect(address).await.unwrap(), b"hello").await;
        // The request's line, where there is one, comes after that of the connection.
        client::fetch(proxy.http, "a.example", "/").await.unwrap();
        let expected = usize::from(key == "disable-stream-access-log");
        proxy.log_lines("GET", expected).await.unwrap();
        assert!(proxy.log_lines("", 0).await.unwrap().iter().all(|line| !line.contains("TCP")), "{key}");
    }
}
