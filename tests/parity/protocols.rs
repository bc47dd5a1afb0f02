//! What is more than a request and its answer: switched protocols, gRPC, copies, connections at the same time.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress_tests::client::{self, PATIENCE};
use ingress_tests::manifests::{ingress, service};
use ingress_tests::origin::{self, Origin};
use ingress_tests::secure::{Backend, Speech};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::rig::{case, proxy, run, start};

/// Reads until the bytes end so, or the other side closes.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.ends_with(end) {
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("bytes in time") {
            Ok(count @ 1..) => seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
            _ => break,
        }
    }
    seen
}

/// Opens a tunnel, speaks, and is told that the backend closed. The head and all that came.
async fn tunnel(address: SocketAddr, fields: &str) -> (Vec<String>, Vec<String>) {
    let mut stream = TcpStream::connect(address).await.expect("a listener");
    let head = format!("GET /chat?room=1 HTTP/1.1\r\nHost: ws.example\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.expect("an open connection");
    let head = read_until(&mut stream, "\r\n\r\n").await;
    let mut lines: Vec<String> = head
        .lines()
        .map(str::to_ascii_lowercase)
        .filter(|line| !line.is_empty() && !line.starts_with("date:") && !line.starts_with("server:"))
        .collect();
    lines[1..].sort();
    let mut told = Vec::new();
    for message in ["first", "second", "bye"] {
        stream.write_all(message.as_bytes()).await.expect("an open tunnel");
        told.push(read_until(&mut stream, message).await);
    }
    let rest = timeout(PATIENCE, stream.read(&mut [0; 8])).await.expect("an end in time");
    told.push(format!("{:?}", rest.unwrap_or_default()));
    (lines, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets() {
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let backend = origin::raw(move |mut stream| {
        let sender = sender.clone();
        async move {
            let head = origin::read_head(&mut stream).await;
            let _ = sender.send(head);
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
            loop {
                let said = read_some(&mut stream).await;
                if stream.write_all(said.as_bytes()).await.is_err() || said.is_empty() || said.ends_with("bye") {
                    break;
                }
            }
        }
    })
    .await;
    let mut cases = [case("websocket")
        .manifests(service("chat", &[backend.address]) + &ingress("ws", "ws.example", "/", "chat", &[]))
        .server(
            "ws.example",
            &format!(
                "location / {{ {} }}",
                proxy(&[("http://origin", &format!("http://{}", backend.address))])
            ),
        )];
    let pair = start("", "", &mut cases).await;
    for fields in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\nOrigin: http://a.example\r\n",
    ] {
        let mut seen = Vec::new();
        for address in [pair.nginx.address, pair.proxy.http] {
            let (lines, told) = tunnel(address, fields).await;
            assert_eq!(told, ["first", "second", "bye", "0"]);
            let head: String = timeout(PATIENCE, heads.recv()).await.expect("in time").expect("a request");
            let port = format!(": {}", address.port());
            let mut fields: Vec<String> = head
                .lines()
                .map(|line| line.to_ascii_lowercase().replace(&port, ": PORT"))
                .filter(|line| !line.starts_with("x-request-id:"))
                .collect();
            fields.sort();
            seen.push((lines, fields));
        }
        assert_eq!(seen[0], seen[1], "nginx and Portcullis, after {fields:?}");
    }
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer).await.unwrap_or_default();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn copies() {
    let mirrored = |name: &'static str, annotations: &[(&str, &str)], body: &str, copied: &str| {
        let host = format!("{name}.example");
        let target = ("mirror-target", "http://@other@$request_uri");
        let found = case(name)
            .mirrored()
            .manifests(ingress(name, &host, "/", "web", &[&[target][..], annotations].concat()))
            .server(
                &host,
                &format!(
                    "location = /_mirror-{name} {{ internal; {copied} proxy_pass \"http://@other@$request_uri\"; }}
                     location / {{ mirror /_mirror-{name}; mirror_request_body {body}; @proxy@ }}"
                ),
            );
        ["GET", "HEAD", "OPTIONS", "DELETE"]
            .iter()
            .fold(found, |found, method| found.with(method, &host, "/x?y=z", &[("Cookie", "a=b")], ""))
            .with("POST", &host, "/a%20b", &[("Content-Type", "text/plain")], "body")
            .with("POST", &host, "/", &[], "x".repeat(50_000).as_str())
            .with("PUT", &host, "/x", &[("X-Answer", "status=404")], "body")
    };
    run(vec![
        mirrored("copy", &[], "on", "proxy_set_header Host 127.0.0.1;"),
        mirrored(
            "copy-host",
            &[("mirror-host", "copy.example.com")],
            "on",
            "proxy_set_header Host copy.example.com;",
        ),
        case("what is refused is not copied")
            .mirrored()
            .manifests(ingress(
                "copy-out",
                "copy-out.example",
                "/",
                "web",
                &[
                    ("mirror-target", "http://@other@$request_uri"),
                    ("whitelist-source-range", "198.18.0.0/15"),
                ],
            ))
            .server(
                "copy-out.example",
                "location = /_mirror { internal; proxy_pass http://@other@$request_uri; }
                 location / { allow 198.18.0.0/15; deny all; mirror /_mirror; @proxy@ }",
            )
            .get("copy-out.example", "/"),
    ])
    .await;
}

/// A unary call: status, kind, body and trailers.
async fn call(address: SocketAddr, host: &str) -> (u16, Option<String>, String, Vec<String>) {
    let stream = client::tls(address, host, &["h2"]).await.expect("a handshake");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::post(format!("https://{host}/pkg.Service/Method"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "10S")
        .header("x-custom", "1")
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\x04ping")))
        .expect("a request");
    let response =
        timeout(PATIENCE, sender.send_request(request)).await.expect("in time").expect("an answer");
    let status = response.status().as_u16();
    let is_ok = status == 200;
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let body = response.into_body().collect().await.expect("a body");
    let mut trailers: Vec<String> =
        body.trailers().into_iter().flatten().map(|(name, value)| format!("{name}: {value:?}")).collect();
    trailers.sort();
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    // The text of an error is the proxy's own.
    if is_ok { (status, kind, text, trailers) } else { (status, None, String::new(), trailers) }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc() {
    let backend = Backend::start(Speech { pair: None, clients: None, is_http2: true }).await;
    let location = |target: &str| {
        let text = proxy(&[])
            .lines()
            .filter(|line| ["set_header", "pass"].iter().any(|word| line.contains(word)))
            .filter(|line| !line.contains("Connection") && !line.contains("Upgrade"))
            .collect::<String>();
        let text = text.replace("proxy_set_header", "grpc_set_header");
        format!(
            "location / {{ {} }}",
            text.replace("proxy_pass http://origin", &format!("grpc_pass grpc://{target}"))
        )
    };
    let grpc = [("backend-protocol", "GRPC")];
    let mut cases = [
        case("grpc")
            .manifests(
                service("calls", &[backend.address]) + &ingress("grpc", "grpc.example", "/", "calls", &grpc),
            )
            .server("grpc.example", &location(&backend.address.to_string())),
        case("grpc of nobody")
            .manifests(ingress("grpc-dead", "grpc-dead.example", "/", "dead", &grpc))
            .server("grpc-dead.example", &location("@dead@")),
    ];
    let pair = start("", "", &mut cases).await;
    let mut outcomes = Vec::new();
    for address in [pair.nginx.tls, pair.proxy.https] {
        let good = call(address, "grpc.example").await;
        let seen = backend.seen().pop().expect("a call");
        let port = address.port().to_string();
        let mut fields: Vec<String> = seen
            .headers
            .iter()
            .filter(|(name, _)| name != "x-request-id" && name != "content-length")
            .map(|(name, value)| format!("{name}: {}", value.replace(&port, "PORT")))
            .collect();
        // The host stands in `:authority` or in `host`, which mean the same.
        let uri: http::Uri = seen.line.split(' ').nth(1).expect("a target").parse().expect("a URI");
        let path = uri.path().to_owned();
        fields.extend(uri.authority().map(|authority| format!("host: {authority}")));
        fields.sort();
        fields.dedup();
        outcomes.push((good, path, fields, call(address, "grpc-dead.example").await));
    }
    assert_eq!(outcomes[0], outcomes[1], "nginx and Portcullis");
    assert_eq!(outcomes[0].0.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_at_the_same_time() {
    let (held, come) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (held_too, come_too) = (Arc::clone(&held), Arc::clone(&come));
    let backend = origin::raw(move |mut stream| {
        let (held, come) = (Arc::clone(&held_too), Arc::clone(&come_too));
        async move {
            origin::read_head(&mut stream).await;
            come.add_permits(1);
            held.acquire().await.expect("open").forget();
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nheld")
                .await;
        }
    })
    .await;
    let plain = Origin::start("plain").await;
    let pass = |address: SocketAddr| proxy(&[("http://origin", &format!("http://{address}"))]);
    let mut cases = [case("limit-connections")
        .http("limit_conn_zone $binary_remote_addr zone=conn:1m;\n")
        .manifests(service("held", &[backend.address]) + &service("plain", &[plain.address]))
        .manifests(ingress("conn", "conn.example", "/", "held", &[("limit-connections", "2")]))
        .manifests(ingress("free", "free.example", "/", "plain", &[]))
        .server("conn.example", &format!("location / {{ limit_conn conn 2; {} }}", pass(backend.address)))
        .server("free.example", &format!("location / {{ {} }}", pass(plain.address)))];
    let pair = start("", "", &mut cases).await;
    let mut outcomes = Vec::new();
    for address in [pair.nginx.address, pair.proxy.http] {
        let fetch = |host: &'static str| async move {
            client::fetch(address, host, "/").await.expect("an answer").status
        };
        let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(fetch("conn.example"))).collect();
        timeout(PATIENCE, come.acquire_many(2)).await.expect("in time").expect("open").forget();
        // As long as these two are not answered.
        let mut statuses =
            vec![fetch("conn.example").await, fetch("free.example").await, fetch("conn.example").await];
        held.add_permits(2);
        for request in waiting {
            statuses.push(request.await.expect("no panic"));
        }
        outcomes.push(statuses);
    }
    assert_eq!(outcomes[0], [503, 200, 503, 200, 200]);
    assert_eq!(outcomes[0], outcomes[1], "nginx and Portcullis");
}
