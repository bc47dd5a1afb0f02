//! Compressed responses.

use std::io::Read as _;

use ingress_tests::client::{self, Answer, Http1, Http2, PATIENCE};
use ingress_tests::manifests;
use ingress_tests::origin::Origin;
use ingress_tests::proxy::Instance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn serve(origin: &Origin, settings: &[(&str, &str)]) -> Instance {
    let yaml = [
        manifests::service("web", &[origin.address]),
        manifests::ingress("web", "a", "/", "web", &[("limit-rate", "10000")]),
        manifests::settings(settings),
    ];
    manifests::serve(&yaml.concat()).await.unwrap()
}

async fn get(connection: &mut Http1, method: &str, target: &str, accept: &str) -> Answer {
    let mut request = client::request(method, "a", target, "");
    request.headers_mut().insert("accept-encoding", accept.parse().unwrap());
    connection.send(request).await.unwrap()
}

fn plain(answer: &Answer) -> Vec<u8> {
    let (mut plain, body) = (Vec::new(), &answer.body[..]);
    match answer.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).map(drop).unwrap(),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain).map(drop).unwrap(),
        Some("zstd") => plain = zstd::stream::decode_all(body).unwrap(),
        other => {
            assert_eq!(other, None);
            plain.extend_from_slice(body);
        }
    }
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_chooses_among_the_codings_that_are_on() {
    let origin = Origin::start("web").await;
    let all = [("use-gzip", "true"), ("enable-brotli", "true"), ("enable-zstd", "true")];
    let proxy = serve(&origin, &all).await;
    let mut connection = Http1::open(proxy.http).await.unwrap();
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    let target = "/bytes/100000?h=content-type:text/css&h=etag:%22v1%22&h=accept-ranges:bytes&h=vary:Cookie";
    for (accept, coding) in [
        ("gzip", Some("gzip")),
        ("gzip, br", Some("br")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("zstd;q=0.1, gzip;q=0.9", Some("gzip")),
        ("deflate", None),
    ] {
        let mut request = client::get("a", target);
        request.headers_mut().insert("accept-encoding", accept.parse().unwrap());
        let second = h2.send(request).await.unwrap();
        for answer in [get(&mut connection, "GET", target, accept).await, second] {
            assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "{accept}");
            assert_eq!(plain(&answer), vec![b'x'; 100_000], "{accept}");
            let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
            assert_eq!(vary, ["Cookie", "Accept-Encoding"]);
            let is_coded = coding.is_some();
            assert!(!is_coded || answer.body.len() < 2000, "{}", answer.body.len());
            assert_eq!(answer.header("etag"), Some(if is_coded { "W/\"v1\"" } else { "\"v1\"" }));
            assert_eq!(answer.header("accept-ranges").is_some(), !is_coded);
            assert_eq!(answer.header("content-length").is_some(), !is_coded);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_should_not_be_compressed_is_not() {
    let origin = Origin::start("web").await;
    let proxy =
        serve(&origin, &[("use-gzip", "true"), ("gzip-min-length", "50"), ("gzip-disable", "oldie/[1-3]")])
            .await;
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for (target, coding) in [
        ("/bytes/50?h=content-type:text/html", Some("gzip")),
        ("/bytes/49?h=content-type:text/html", None),
        ("/bytes/5000", None),
        ("/bytes/5000?h=content-type:image/png", None),
        ("/bytes/5000?h=content-type:text/css&h=content-encoding:br", Some("br")),
        ("/bytes/5000?h=content-type:text/css&h=cache-control:no-transform", None),
        ("/bytes/5000?h=content-type:text/css&h=content-range:bytes%200-4999/9999", None),
        ("/status/404?h=content-type:text/css", None),
        ("/stream/20/0?h=content-type:application/json", Some("gzip")),
        ("/status/304?h=content-type:text/css", None),
    ] {
        let answer = get(&mut connection, "GET", target, "gzip").await;
        assert_eq!(answer.header("content-encoding"), coding, "{target}");
    }
    let target = "/bytes/5000?h=content-type:text/css";
    let head = get(&mut connection, "HEAD", target, "gzip").await;
    assert_eq!((head.header("content-encoding"), head.header("content-length")), (Some("gzip"), None));
    let old = format!("GET {target} HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let old = client::raw(proxy.http, old.as_bytes()).await.unwrap();
    assert!(!old.to_ascii_lowercase().contains("content-encoding"));
    for (agent, coding) in [("OLDIE/2", None), ("oldie/4", Some("gzip"))] {
        let mut request = client::get("a", target);
        request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
        request.headers_mut().insert("user-agent", agent.parse().unwrap());
        assert_eq!(connection.send(request).await.unwrap().header("content-encoding"), coding);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_has_sent_is_not_held_back() {
    let origin = Origin::start("web").await;
    let proxy = serve(&origin, &[("use-gzip", "true"), ("gzip-types", "*")]).await;
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    let request = "GET /stream/1000000/20?h=content-type:text/event-stream HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    // Without a flush the first 32 KiB of input would take a minute and a half.
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    let read = timeout(PATIENCE, async {
        while seen.windows(4).position(|end| end == b"\r\n\r\n").is_none_or(|head| seen.len() < head + 150) {
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0);
            seen.extend_from_slice(&part[..count]);
        }
    });
    read.await.expect("events in time");
    assert!(String::from_utf8_lossy(&seen).to_ascii_lowercase().contains("content-encoding: gzip"));
}
