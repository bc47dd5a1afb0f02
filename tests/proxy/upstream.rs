//! What a client sees of an endpoint that is missing, slow or broken, and when another one is asked instead.

use std::time::{Duration, Instant};

use ingress_tests::client::{self, Http1, Http2};
use ingress_tests::origin::{Origin, canned, raw, read_head, refused};
use ingress_tests::proxy::{Instance, backend, model, policies, route, simple, to};
use ingress_userspace::model::backend::{BackendState, EndpointCondition};
use ingress_userspace::model::policy::{Policies, Timeouts};
use ingress_userspace::model::route::{PathMatch, RouteAction, WeightedBackend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn hasty() -> Policies {
    let timeouts = Timeouts {
        connect: Duration::from_millis(300),
        send: Duration::from_millis(300),
        read: Duration::from_millis(300),
    };
    Policies { timeouts, ..policies() }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_services_and_endpoints_are_503_and_fall_back() {
    let (origin, spare) = (Origin::start("web").await, Origin::start("spare").await);
    let mut model = model();
    let any = || PathMatch::Prefix(String::new());
    let web = backend(&mut model, "web", &[origin.address]);
    let empty = backend(&mut model, "empty", &[]);
    let missing = backend(&mut model, "missing", &[]);
    let spare_id = backend(&mut model, "spare", &[spare.address]);
    model.backends.get_mut(&missing).unwrap().state = BackendState::Missing;
    let with_fallback = |backend: &_, fallback: &_| RouteAction::Forward {
        backends: vec![WeightedBackend { backend: Clone::clone(backend), weight: 1 }],
        fallback: Some(Clone::clone(fallback)),
    };
    route(&mut model, "web", any(), policies(), with_fallback(&web, &spare_id));
    route(&mut model, "empty", any(), policies(), to(&empty));
    route(&mut model, "missing", any(), policies(), to(&missing));
    route(&mut model, "fallback", any(), policies(), with_fallback(&empty, &spare_id));
    route(&mut model, "nothing", any(), policies(), with_fallback(&empty, &missing));
    let proxy = Instance::start(model).await.unwrap();
    for (host, status) in
        [("web", 200), ("empty", 503), ("missing", 503), ("fallback", 200), ("nothing", 503)]
    {
        assert_eq!(client::fetch(proxy.http, host, "/p").await.unwrap().status, status, "{host}");
    }
    assert_eq!(spare.last().header("x-code").as_deref(), Some("503"));
    assert_eq!(spare.last().line, "GET /p HTTP/1.1");
    assert_eq!(origin.last().header("x-code"), None);
    let lines = proxy.log_lines("default-spare-80", 1).await.unwrap();
    assert!(lines[0].contains("\" 200 "), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminating_endpoints_serve_only_while_no_other_is_ready() {
    let (ready, leaving) = (Origin::start("ready").await, Origin::start("leaving").await);
    let with = |endpoints: &[_]| {
        let mut model = simple("", policies(), endpoints);
        for endpoint in model.backends.values_mut().flat_map(|backend| &mut backend.endpoints) {
            if endpoint.address == leaving.address {
                endpoint.condition = EndpointCondition::Terminating;
            }
        }
        model
    };
    let mut proxy = Instance::start(with(&[ready.address, leaving.address])).await.unwrap();
    for _ in 0..4 {
        assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().text(), "ready");
    }
    proxy.publish(with(&[leaving.address])).await.unwrap();
    assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().text(), "leaving");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_and_broken_endpoints_are_502() {
    let garbage = canned("this is not HTTP\r\n\r\n").await;
    let silent = canned("").await;
    let partial = canned("HTTP/1.1 200 OK\r\nContent-Le").await;
    let both = canned("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok").await;
    let switching =
        canned("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
    for address in
        [refused().await, garbage.address, silent.address, partial.address, both.address, switching.address]
    {
        let proxy = Instance::start(simple("", policies(), &[address])).await.unwrap();
        let answer = client::fetch(proxy.http, "a", "/").await.unwrap();
        assert_eq!(answer.status, 502);
        assert_eq!(answer.text(), "502 Bad Gateway\n");
        let lines = proxy.log_lines("GET / ", 1).await.unwrap();
        assert!(lines[0].contains(&format!("[default-web-80] [] {address}")), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_endpoints_are_504_in_time() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", hasty(), &[origin.address])).await.unwrap();
    let started = Instant::now();
    assert_eq!(client::fetch(proxy.http, "a", "/delay/20000").await.unwrap().status, 504);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(5), "{waited:?}");
    // The deadline is a gap between reads, not a total.
    let answer = client::fetch(proxy.http, "a", "/stream/5/150").await.unwrap();
    assert_eq!((answer.status, answer.text().lines().count()), (200, 5));
    // A response that stops in the middle breaks off, so that the client does not take it for whole.
    assert!(client::fetch(proxy.http, "a", "/stream/2/20000").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_take_the_body_is_504() {
    let deaf = raw(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let proxy = Instance::start(simple("", hasty(), &[deaf.address])).await.unwrap();
    let answer =
        client::send(proxy.http, client::request("POST", "a", "/", vec![b'x'; 32 << 20])).await.unwrap();
    assert_eq!(answer.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_the_next_endpoint_when_that_is_safe() {
    let origin = Origin::start("web").await;
    let gone = refused().await;
    let silent = canned("").await;
    let post = || client::request("POST", "a", "/", "body");
    // Connecting failed: nothing was sent, even a POST may go on.
    let proxy = Instance::start(simple("", policies(), &[gone, origin.address])).await.unwrap();
    for _ in 0..6 {
        assert_eq!(client::send(proxy.http, post()).await.unwrap().status, 200);
        assert_eq!(origin.last().body, "body");
    }
    let lines = proxy.log_lines(&format!("{gone}, {}", origin.address), 3).await.unwrap();
    assert!(lines[0].contains(" 502, 200 "), "{lines:?}");
    // The connection broke after sending: only what is idempotent and has no body.
    let proxy = Instance::start(simple("", policies(), &[silent.address, origin.address])).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        assert_eq!(client::fetch(proxy.http, "a", "/").await.unwrap().status, 200);
    }
    for _ in 0..4 {
        statuses.push(client::send(proxy.http, post()).await.unwrap().status);
    }
    assert!(statuses.contains(&502), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_the_endpoint_closed_is_no_failure() {
    let closing = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let proxy = Instance::start(simple("", policies(), &[closing.address])).await.unwrap();
    let mut connection = Http1::open(proxy.http).await.unwrap();
    for _ in 0..50 {
        let answer = connection.send(client::get("a", "/")).await.unwrap();
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leftover_bytes_of_an_endpoint_never_reach_a_client() {
    let poisoned = raw(|mut stream| async move {
        loop {
            if read_head(&mut stream).await.is_empty() {
                return;
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let proxy =
        Instance::start_with(simple("", policies(), &[poisoned.address]), |s| s.workers = 1).await.unwrap();
    for _ in 0..20 {
        let answer = client::fetch(proxy.http, "a", "/").await.unwrap();
        assert!(answer.text() == "ok" || answer.status == 502, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_with_head_and_expectations() {
    let origin = Origin::start("web").await;
    let proxy = Instance::start(simple("", policies(), &[origin.address])).await.unwrap();
    let big = vec![b'x'; 5 << 20];
    let mut h2 = Http2::open(proxy.http).await.unwrap();
    assert_eq!(h2.send(client::request("PUT", "a", "/", big.clone())).await.unwrap().status, 200);
    assert_eq!(origin.last().body.len(), big.len());
    assert_eq!(h2.send(client::get("a", "/bytes/3000000")).await.unwrap().body.len(), 3_000_000);
    let head = client::send(proxy.http, client::request("HEAD", "a", "/bytes/1234", "")).await.unwrap();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("1234"), 0));

    // The first part of a stream arrives while the rest is not there yet.
    let mut stream = tokio::net::TcpStream::connect(proxy.http).await.unwrap();
    stream.write_all(b"GET /stream/2/1500 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains("part 0") {
        let count = stream.read(&mut buffer).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(started.elapsed() < Duration::from_millis(1400), "{:?}", started.elapsed());

    // A client that waits for 100 gets it, and only then sends.
    let mut stream = tokio::net::TcpStream::connect(proxy.http).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    let count = stream.read(&mut buffer).await.unwrap();
    assert!(
        buffer[..count].starts_with(b"HTTP/1.1 100 Continue"),
        "{}",
        String::from_utf8_lossy(&buffer[..count])
    );
    stream.write_all(b"hello").await.unwrap();
    let count = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..count]));
    assert_eq!(origin.last().body, "hello");
    assert_eq!(origin.last().header("expect"), None);
}
