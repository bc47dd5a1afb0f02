//! Which socket gets a connection or a datagram, and what becomes of those that wait when a proxy ends.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use ingress_tests::http::Outcome;
use ingress_tests::node::{CLIENT, CLIENT6, NODE, NODE6, Node, Process, VIP, VIP6};
use serde_json::Value;

use crate::takeover::serving_pids;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x.example.test\r\nConnection: close\r\n\r\n";
/// Connection preface and SETTINGS of HTTP/2, and `GET /` as stream 1 (RFC 9113, 3.4 and 6.2; RFC 7541, appendix A).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x13\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x0ex.example.test";

fn address(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), 80)
}

fn map(node: &Node, name: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_json::from_str(&node.tool(&["maps", name, "--output", "json"])?)?)
}

/// A proxy with its own number of workers.
fn proxy(node: &Node, name: &str, workers: &str) -> Process {
    let mut command = node.portcullis("proxy").unwrap();
    command.arg("--link-socket").arg(node.link_socket());
    command.args(["--healthz-port", "0", "--workers", workers, "--drain-timeout", "10"]);
    node.start(name, &mut command).unwrap()
}

/// An HTTP/2 connection of the client that has answered a request and stays open.
fn http2(node: &Node) -> TcpStream {
    let connect = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address(VIP), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(HTTP2)?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload)?;
            // HEADERS with `:status 200`.
            if head[3] == 1 {
                assert_eq!(payload.first(), Some(&0x88), "{payload:?}");
                return Ok(stream);
            }
        }
    };
    node.client.enter(connect).unwrap().unwrap()
}

/// Open connections of the workers of the proxy that serves, as it told the kernel.
fn published(node: &Node) -> anyhow::Result<Vec<u64>> {
    let listen = map(node, "listen")?;
    let entry = listen.iter().find(|entry| entry["address"] == VIP && entry["port"] == 80);
    let Some(first) = entry.and_then(|entry| entry["first_slot"].as_u64()) else { return Ok(vec![]) };
    let rows = map(node, "assigned")?;
    let of = |slot| rows.iter().find(|row| row["slot"] == slot).and_then(|row| row["published"].as_u64());
    Ok((first..first + 8).map(|slot| of(slot).unwrap_or(0)).collect())
}

#[test]
fn long_lived_connections_spread_over_the_workers() {
    let node = Node::new().unwrap();
    let _agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let _proxy = proxy(&node, "proxy", "8");
    node.wait_served().unwrap();
    for run in 0..5 {
        node.wait_for("all connections to be closed", || Ok(published(&node)?.iter().sum::<u64>() == 0))
            .unwrap();
        let open: Vec<_> = (0..64).map(|_| http2(&node)).collect();
        node.wait_for("all connections to be counted", || Ok(published(&node)?.iter().sum::<u64>() == 64))
            .unwrap();
        let loads = published(&node).unwrap();
        assert!(loads.iter().all(|load| *load <= 12), "run {run}: {loads:?}, mean 8");
        drop(open);
    }
}

/// The client's segments that would complete or use a handshake are lost until told otherwise.
fn lose_acks(node: &Node) {
    for line in [
        "nft add table inet lossy",
        "nft add chain inet lossy out { type filter hook output priority 0 ; }",
        "nft add rule inet lossy out tcp dport 80 tcp flags & (syn|ack) == ack drop",
    ] {
        node.client.run(line).unwrap();
    }
}

fn lose_nothing(node: &Node) {
    node.client.run("nft delete table inet lossy").unwrap();
}

/// Connections whose handshake the old proxy began and the next one completes.
fn handshakes_survive_the_end_of_their_proxy(to: &str, syncookies: &str) {
    let node = Node::new().unwrap();
    node.node.run(&format!("sysctl -qw net.ipv4.tcp_syncookies={syncookies}")).unwrap();
    let _agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let old = node.proxy("old").unwrap();
    node.wait_served().unwrap();
    lose_acks(&node);
    let begin = || -> Vec<TcpStream> {
        let begin = |_| {
            // The answer to the SYN is enough for the client; what it sends then is lost.
            let mut stream = TcpStream::connect_timeout(&address(to), Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(REQUEST).unwrap();
            stream
        };
        (0..10).map(begin).collect()
    };
    let mut streams = node.client.enter(begin).unwrap();
    let next = node.proxy("next").unwrap();
    let pid = u64::from(next.id());
    node.wait_for("the next proxy to serve", || Ok(serving_pids(&node)? == [pid])).unwrap();
    assert!(old.stop().unwrap().success());
    lose_nothing(&node);
    for stream in &mut streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn half_open_connections_move_to_the_next_proxy() {
    handshakes_survive_the_end_of_their_proxy(VIP, "1");
}

#[test]
fn half_open_connections_over_ipv6_move_to_the_next_proxy() {
    handshakes_survive_the_end_of_their_proxy(VIP6, "1");
}

#[test]
fn syn_cookies_of_the_proxy_before_are_valid_at_the_next() {
    handshakes_survive_the_end_of_their_proxy(VIP, "2");
}

#[test]
fn syn_cookies_over_ipv6_are_valid_at_the_next_proxy() {
    handshakes_survive_the_end_of_their_proxy(VIP6, "2");
}

#[test]
fn a_killed_proxy_hands_over_without_an_agent() {
    let node = Node::new().unwrap();
    let agent = node.agent("agent", &["--mode", "xdp-native"]).unwrap();
    let _first = node.proxy("first").unwrap();
    node.wait_served().unwrap();
    let second = node.proxy("second").unwrap();
    let pid = u64::from(second.id());
    node.wait_for("the newer proxy to serve", || Ok(serving_pids(&node)? == [pid])).unwrap();
    agent.kill();
    let mut open = node.client.enter(|| TcpStream::connect(address(VIP))).unwrap().unwrap();
    open.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(node.get(CLIENT, VIP, 80).unwrap().is_ok());
    second.kill();
    for _ in 0..10 {
        let since = Instant::now();
        assert_eq!(node.get(CLIENT, VIP, 80).unwrap(), Outcome::Answered(200, "origin".to_owned()));
        assert_eq!(node.get(CLIENT6, VIP6, 80).unwrap(), Outcome::Answered(200, "origin".to_owned()));
        assert!(since.elapsed() < Duration::from_secs(1), "the client need not try again");
    }
    // What it had open is not left hanging.
    let ended = open.read(&mut [0; 1]);
    assert!(
        matches!(&ended, Ok(0))
            || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    );
}

/// A UDP service on port 5300 behind every served address.
fn echo_service(node: &Node) {
    let echo = node.node.enter(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    let endpoint = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            if echo.send_to(&buffer[..length], from).is_err() {
                return;
            }
        }
    });
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: echo, namespace: default, annotations: \
         {{portcullis.dev/endpoints: \"{endpoint}\"}}}}\nspec: {{ports: [{{port: 7, protocol: UDP}}]}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: udp, namespace: default}}\n\
         data: {{\"5300\": \"default/echo:7\"}}\n"
    );
    node.write("echo.yaml", &text).unwrap();
}

/// Sends datagrams from one socket and returns how many were answered, from the address that was asked.
fn echoed(node: &Node, source: &str, to: &str, count: u32) -> anyhow::Result<u32> {
    let (source, to): (IpAddr, IpAddr) = (source.parse()?, to.parse()?);
    node.client.enter(move || -> anyhow::Result<u32> {
        let socket = UdpSocket::bind((source, 0))?;
        // Only what comes from there is received.
        socket.connect((to, 5300))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        let mut answered = 0;
        for number in 0..count {
            socket.send(&number.to_be_bytes())?;
            let mut buffer = [0; 16];
            if matches!(socket.recv(&mut buffer), Ok(4)) && buffer.starts_with(&number.to_be_bytes()) {
                answered += 1;
            }
        }
        Ok(answered)
    })?
}

#[test]
fn datagrams_to_vips_and_node_are_answered_and_no_address_is_bound() {
    let node = Node::new().unwrap();
    echo_service(&node);
    // A name server of the node has the port on loopback.
    let _server =
        node.node.enter(|| [UdpSocket::bind("127.0.0.1:5300"), UdpSocket::bind("[::1]:5300")]).unwrap();
    let flags = ["--mode", "xdp-native", "--udp-services-configmap", "default/udp"];
    let _agent = node.agent("agent", &flags).unwrap();
    let first = node.proxy("first").unwrap();
    node.wait_served().unwrap();
    node.wait_for("an answer to a datagram", || Ok(echoed(&node, CLIENT, VIP, 1)? == 1)).unwrap();
    for (source, to) in [(CLIENT, VIP), (CLIENT6, VIP6), (CLIENT, NODE), (CLIENT6, NODE6)] {
        assert_eq!(echoed(&node, source, to, 10).unwrap(), 10, "{to}");
    }
    let bound = node.node.run("ss --udp --listening --numeric --no-header").unwrap();
    let local = bound.lines().filter_map(|line| line.split_whitespace().nth(3));
    let mut local: Vec<_> = local.filter(|local| local.ends_with(":5300")).collect();
    local.sort_unstable();
    local.dedup();
    assert_eq!(local, ["127.0.0.1:5300", "127.112.99.108:5300", "[100::7063]:5300", "[::1]:5300"]);

    // The next proxy takes over without a gap in which nobody answers.
    let next = node.proxy("next").unwrap();
    let pid = u64::from(next.id());
    node.wait_for("the next proxy to serve", || Ok(serving_pids(&node)? == [pid])).unwrap();
    assert!(first.stop().unwrap().success());
    for (source, to) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        assert_eq!(echoed(&node, source, to, 10).unwrap(), 10, "{to}");
    }
}
